#!/usr/bin/env bash
# Invoke 3.0.3: the help of a task's flags is printed by the first Program that reads the task, and
# by no later one in the same process.
#
# Guess: two Programs over one Collection print the same page of help; a Collection only describes.
# Seen: the first page has "--loud   say it loudly", the second has "--loud" and nothing more. To read
#   a task's arguments takes each text out of the task's own `help`, and a Program's copy of the
#   Collection shares that. A flag whose text is gone is no error: `--list` and the runs are as before.
# Why it matters: whoever calls Invoke in process (a test suite, a tool built on it) has to import
#   the module of the tasks anew for each run, or has pages without help.
# It fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
end_children() { # of a process, with all below them
    for each in $(pgrep -P "$1"); do
        end_children "$each"
        kill "$each" 2>/dev/null || true
    done
}
stop() {
    end_children $$
    rm -rf "$folder"
}
trap stop EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check invoke==3.0.3
cat >"$folder/show.py" <<'PYTHON'
from invoke import Collection, Program, task


@task(help={"loud": "say it loudly"})
def greet(c, loud=False):
    """Say hello."""


for _ in range(2):
    Program(namespace=Collection(greet), binary="show").run(["show", "--help", "greet"], exit=False)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" >"$folder/printed"
cat "$folder/printed"
first=$(grep -c -- '--loud   say it loudly' "$folder/printed" || true)
flags=$(grep -c -- '--loud' "$folder/printed" || true)
usages=$(grep -c 'Usage: ' "$folder/printed" || true)
echo "pages: $usages · flags: ${flags} · with their help: ${first}"
[ "$usages" = 2 ] && [ "$first" = 1 ] || { echo "it has changed" >&2; exit 1; }
