"""The errors of one run are found in a server's log, whatever its form and its line prefix."""

from __future__ import annotations

import csv
import io
import json

import pytest

from backset.checks.server_log import begins_before, errors, names_applications

MARK = " on laptop, pid 4711"
MINE, OTHER = f"backset seed{MARK}", "backset seed on laptop, pid 47"
SINCE = "2026-11-22 18:00:00.000"
NOW, BEFORE = "2026-11-22 18:00:00.001 UTC", "2026-11-22 17:59:59.999 UTC"


@pytest.mark.parametrize(
    ("prefix", "head"),
    [
        ("%m [%p] %q%a@%d ", f"{NOW} [12] {MINE}@app "),
        ("%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ", None),
        ("%a: ", f"{MINE}: "),
        ("%-60a|", f"{MINE:<60}|"),
        ("%n %a ", f"1764000000.123 {MINE} "),
        ("%u %a %d ", f"postgres {MINE} app "),
        ("%% (%m) %m %a %a ", f"% ({NOW}) {NOW} {MINE} {MINE} "),
    ],
)
def test_any_line_prefix_is_understood(prefix: str, head: str | None) -> None:
    """Escapes, widths and literal text, in any order."""
    head = head or f"2026-11-22 18:00:00 UTC [12]: [3-1] user=u,db=d,app={MINE},client=[local] "
    text = (
        f'cut off\n{head}ERROR:  relation "a" does not exist at character 3\n'
        f"{head}STATEMENT:  SELECT secret\n{head}LOG:  fine\n"
        f"{head.replace(MINE, OTHER)}ERROR:  not ours\n"
        f'{head}ERROR:  relation "a" does not exist at character 3\n'
        f"{head}FATAL:  terminating connection due to administrator command\n"
    )
    assert errors("stderr", text, mark=MARK, since=SINCE, prefix=prefix) == [
        'ERROR: relation "a" does not exist at character 3'
    ]


def test_what_is_older_than_the_run_is_of_another_one() -> None:
    """A process number comes again."""
    lines = [f"{moment} {MINE} ERROR:  {moment}" for moment in (BEFORE, NOW)]
    found = errors("stderr", "\n".join(lines), mark=MARK, since=SINCE, prefix="%m %a ")
    assert found == [f"ERROR: {NOW}"]


def test_csv_and_json_are_read_as_such() -> None:
    """With line breaks and quotes in a message, and a first line that is cut."""
    message = 'syntax error at "x",\nin line 2'
    rows, out = [], io.StringIO()
    for moment, application in ((NOW, MINE), (NOW, OTHER), (BEFORE, MINE)):
        row = [""] * 26
        row[0], row[11], row[13], row[22] = moment, "ERROR", message, application
        rows.append(row)
    csv.writer(out).writerows(rows)
    cut = 'and the rest of it",,,,\n'
    assert errors("csvlog", cut + out.getvalue(), mark=MARK, since=SINCE) == [f"ERROR: {message}"]
    entries = [
        json.dumps(
            {
                "timestamp": row[0],
                "application_name": row[22],
                "error_severity": "ERROR",
                "message": message,
            }
        )
        for row in rows
    ]
    text = "\n".join(['ssage":"x"}', "3", *entries])
    assert errors("jsonlog", text, mark=MARK, since=SINCE) == [f"ERROR: {message}"]


def test_a_prefix_without_the_application_names_nobody() -> None:
    """`%%a` is a percent sign and an a."""
    assert names_applications("%m %-20a ")
    assert names_applications("%%%a")
    assert not names_applications("%m [%p] ")
    assert not names_applications("%%a")


def test_reading_backwards_ends_at_the_run_before() -> None:
    """An entry that is older shows that enough was read."""
    assert begins_before(f"cut\n{BEFORE} x", SINCE)
    assert not begins_before(f"{NOW} x\n{BEFORE} y", SINCE)
    assert not begins_before("nothing", SINCE)
