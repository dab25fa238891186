"""A database of a given size: the project's own tables, with text that gzip packs to a third.

As it does with prose, and in about the time that this takes: words of random syllables, and a
phrase that comes again in each row, as in logs. A text comes again after 7 MB, which is further
back than gzip and zstd look.
"""

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
_SYLLABLES = (
    "ba be bi co cu da de di do er en es fa fi ga ge ha he in is ka le li lo ma me mi na ne no ob "
    "on or pa pe ra re ri ro sa se si so ta te ti to un ur va ve wa we wi ya yo za ze zi zo"
)
_OUTPUTS = """
WITH known AS (SELECT s, cardinality(s) AS c FROM string_to_array('{syllables}', ' ') AS s),
     prose AS MATERIALIZED (
         SELECT t, (SELECT string_agg(s[1 + h % c] || s[1 + (h >> 8) % c] || CASE
                                      WHEN h & 3 = 0 THEN s[1 + (h >> 16) % c] ELSE '' END, ' ')
                      FROM generate_series(1, 45) AS n, abs(hashint8(t * 64 + n)::bigint) AS h)
                   AS words
           FROM known, generate_series(0::bigint, 19999) AS t)
INSERT INTO task_outputs (task_id, variation_id, content, timestamp, output_type)
SELECT (SELECT min(id) FROM tasks) + i % (SELECT count(*) FROM tasks), i % 3,
       'step ' || i || ': the tests passed, and the file was written. ' || words,
       timestamptz '2025-01-01 09:00+00' + i * interval '1 second', 'logging'
FROM generate_series({first}, {last}) AS i JOIN prose ON t = i % 20000 ORDER BY i
"""
_SIZE = "SELECT pg_database_size(current_database()) / 1e6"
_AT_ONCE = 500_000


def fill(place: Place, database: str, rows: int) -> None:
    """Add so many outputs to a seeded database, and a hundredth of that in tasks."""
    place.sql(database, _TASKS.format(tasks=max(1, rows // 100)))
    for first in range(1, rows + 1, _AT_ONCE):
        last = min(first + _AT_ONCE - 1, rows)
        place.sql(database, _OUTPUTS.format(first=first, last=last, syllables=_SYLLABLES))
    place.sql(database, "VACUUM ANALYZE", "CHECKPOINT")


def size_mb(place: Place, database: str) -> float:
    """Return the size of a database."""
    return float(place.sql(database, _SIZE)[0][0])
