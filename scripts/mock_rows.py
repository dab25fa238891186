"""The mock rows of tasks and task_outputs: made one by one, the same every time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Iterator

    Row = tuple[object, ...]

USER_ID = "mock-user"
RUN_PREFIX = "mock-run-"
EPOCH = datetime(2025, 1, 1, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)

TASK_TYPES = {
    "id": "int4",
    "github_url": "text",
    "prompt": "text",
    "variations": "int4",
    "status": "text",
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
    "started_at": "timestamptz",
    "completed_at": "timestamptz",
    "user_id": "text",
    "results": "jsonb",
    "error_message": "text",
    "total_tokens_used": "int4",
    "total_cost_usd": "numeric",
    "internal_run_id": "text",
}
OUTPUT_TYPES = {
    "id": "int4",
    "task_id": "int4",
    "variation_id": "int4",
    "content": "text",
    "timestamp": "timestamptz",
    "output_type": "text",
}


class Mock(NamedTuple):
    """What one of the tasks looks like; `answered` counts the variations that have outputs."""

    status: str
    repository: str
    prompt: str
    variations: int
    answered: int
    error: str | None = None


MOCKS = (
    Mock("completed", "web-app", "Add a health check endpoint", 3, 3),
    Mock("completed", "cli-tool", "Replace the hand-written parser with argparse", 3, 3),
    Mock("pending", "web-app", "Sort the task list by its age", 2, 0),
    Mock("failed", "data-pipeline", "Retry failed uploads", 1, 0, "the agent timed out"),
    Mock("completed", "docs-site", "Correct the typing errors in the README", 1, 0),
)
SUMMARY = """## Variation %(variation)d

%(prompt)s: done, in one commit on the branch `agent/%(commit).12s`.

- the code is in two files, and the public interface is as it was
- a test calls it once with good input and once with bad input, and reads what comes back
- nothing outside of the two files was changed, so a review can begin with the diff

The checks of %(repository)s pass. The digest of the tree is `%(commit)s`;
it was made by run %(run)d from the head of `main`, without network access.
"""
DIFF = """diff --git a/src/main.py b/src/main.py
index %(commit).10s..%(commit).20s 100644
--- a/src/main.py
+++ b/src/main.py
@@ -1,4 +1,10 @@
 import logging
+import os

 log = logging.getLogger(__name__)
+RUN = "%(commit)s"
+
+
+def variation() -> int:
+    return int(os.environ.get("VARIATION", "%(variation)d"))
+
 log.info("ready")
diff --git a/tests/test_main.py b/tests/test_main.py
index 0000000000..%(commit).10s 100644
--- /dev/null
+++ b/tests/test_main.py
@@ -0,0 +1,2 @@
+def test_variation() -> None:
+    assert main.variation() == %(variation)d
"""
METRICS = """{"run": %(run)d, "variation": %(variation)d, "repository": "%(repository)s",
 "commit": "%(commit)s", "files_changed": 2, "lines_added": 14, "lines_removed": 1,
 "steps": [{"name": "clone", "seconds": 1.4}, {"name": "read", "seconds": 6.2},
 {"name": "edit", "seconds": 31.7}, {"name": "test", "seconds": 12.9}],
 "tokens": {"read": 9120, "written": 1200, "cached": 7304}, "cost_usd": 0.018,
 "tests": {"passed": 42, "failed": 0, "skipped": 1}, "model": "mock", "exit_code": 0}
"""
BEGUN = """run %(run)d, variation %(variation)d: started in an empty container
git clone --depth 1 https://github.com/example/%(repository)s
HEAD is now at %(commit).12s
the prompt is: %(prompt)s
reading the files that the prompt is about: src/main.py, tests/test_main.py, README.md
"""
ENDED = """run %(run)d, variation %(variation)d: running the checks of %(repository)s
ruff check . → all checks passed
mypy → no issues found in 38 source files
pytest -q → 42 passed, 1 skipped in 12.9 s
the tree is %(commit)s
pushed to agent/%(commit).12s
all tests passed
"""
OUTPUTS = (
    ("job_summary", SUMMARY),
    ("diffs", DIFF),
    ("metrics", METRICS),
    ("logging", BEGUN),
    ("logging", ENDED),
)
TASKS_PER_SCALE = len(MOCKS)
OUTPUTS_PER_SCALE = sum(mock.answered for mock in MOCKS) * len(OUTPUTS)


def tasks(first_id: int, scale: int) -> Iterator[Row]:
    """Yield the rows of tasks, in the order of TASK_TYPES."""
    for number in range(TASKS_PER_SCALE * scale):
        mock = MOCKS[number % TASKS_PER_SCALE]
        created = EPOCH + number * SECOND
        ended = created + 90 * SECOND
        started = mock.status != "pending"
        yield (
            first_id + number,
            f"https://github.com/example/{mock.repository}",
            mock.prompt,
            mock.variations,
            mock.status,
            created,
            ended if started else created,
            created + SECOND if started else None,
            ended if started else None,
            USER_ID,
            Jsonb({"variations": mock.answered}) if mock.answered else None,
            mock.error,
            1200 * mock.answered,
            Decimal("0.018") * mock.answered,
            f"{RUN_PREFIX}{number}",
        )


def task_outputs(first_id: int, first_task_id: int, scale: int) -> Iterator[Row]:
    """Yield the rows of task_outputs, in the order of OUTPUT_TYPES."""
    ids = count(first_id)
    for number in range(TASKS_PER_SCALE * scale):
        mock = MOCKS[number % TASKS_PER_SCALE]
        told = {"run": number, "prompt": mock.prompt, "repository": mock.repository}
        written = EPOCH + number * SECOND
        for variation in range(mock.answered):
            commit = sha256(b"%d.%d" % (number, variation)).hexdigest()
            told |= {"variation": variation, "commit": commit}
            for output_type, content in OUTPUTS:
                written += SECOND
                text = content % told
                yield next(ids), first_task_id + number, variation, text, written, output_type
