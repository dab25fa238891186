"""A database of a given size: the project's own tables, with text that compresses as text does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.place import Place

ROWS_PER_MB = 2000  # about, with their indexes
_TASKS = """
INSERT INTO tasks (github_url, prompt, user_id)
SELECT 'https://github.com/example/' || i % 50, 'prompt ' || i, 'mock-user'
FROM generate_series(1, {tasks}) AS i
"""
_OUTPUTS = """
INSERT INTO task_outputs (task_id, variation_id, content, timestamp, output_type)
SELECT (SELECT min(id) FROM tasks) + i % (SELECT count(*) FROM tasks), i % 3,
       'step ' || i || repeat(' the tests passed and the file was written;', 5) || md5(i::text)
       || md5((i * 7)::text) || md5((i * 13)::text) || md5((i * 17)::text),
       timestamptz '2025-01-01 09:00+00' + i * interval '1 second', 'logging'
FROM generate_series({first}, {last}) AS i
"""
_SIZE = "SELECT pg_database_size(current_database()) / 1e6"
_AT_ONCE = 100_000


def fill(place: Place, database: str, rows: int) -> None:
    """Add so many outputs to a seeded database, and a hundredth of that in tasks."""
    place.sql(database, _TASKS.format(tasks=max(1, rows // 100)))
    for first in range(1, rows + 1, _AT_ONCE):
        last = min(first + _AT_ONCE - 1, rows)
        place.sql(database, _OUTPUTS.format(first=first, last=last))
    place.sql(database, "VACUUM ANALYZE", "CHECKPOINT")


def size_mb(place: Place, database: str) -> float:
    """Return the size of a database."""
    return float(place.sql(database, _SIZE)[0][0])
