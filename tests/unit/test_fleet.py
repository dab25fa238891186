"""The journal of a fleet, the worst of several exit codes, and jobs that travel as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backset.errors import LockedError
from backset.fleet import journal
from backset.fleet.jobs import Job
from backset.fleet.members import FleetMember, Site, _is_meant
from backset.fleet.running import in_turn, worse
from backset.settings import fleets

if TYPE_CHECKING:
    from pathlib import Path

ABOUT = {"action": "backup", "goal": ["aaaa"]}
ONE, TWO = (FleetMember(0, name, "1234", name) for name in ("one", "two"))


def written(path: Path, *events: tuple[str, FleetMember]) -> None:
    """Write a journal as a run does that ends after these events."""
    with journal.opened(path, ABOUT, journal.read(path, ABOUT)) as book:
        for event, member in events:
            book.add(event, member, oid=7)


def test_what_was_done_and_what_was_begun_is_known(tmp_path: Path) -> None:
    """A second run reads it; the file is its owner's alone."""
    path = tmp_path / "folder/backup.jsonl"
    written(path, (journal.BEGUN, ONE), (journal.DONE, ONE), (journal.BEGUN, TWO))
    past = journal.read(path, ABOUT)
    assert past.done == {"1234/one"}
    assert past.begun == {"1234/two": 7}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_failure_is_begun_anew(tmp_path: Path) -> None:
    """It is neither done nor in doubt."""
    path = tmp_path / "backup.jsonl"
    written(path, (journal.BEGUN, ONE), ("failed", ONE))
    past = journal.read(path, ABOUT)
    assert not past.done
    assert not past.begun
    assert past.at


def test_a_line_that_a_crash_has_torn_is_left_out(tmp_path: Path) -> None:
    """What comes after it, of the run that goes on, counts."""
    path = tmp_path / "backup.jsonl"
    written(path, (journal.BEGUN, ONE), (journal.DONE, ONE))
    with path.open("a") as file:
        file.write('{"event": "begun", "key"')
    written(path, (journal.DONE, TWO))
    assert journal.read(path, ABOUT).done == {"1234/one", "1234/two"}


@pytest.mark.parametrize(
    "other", [{"action": "verify", "goal": ["aaaa"]}, {"action": "backup", "goal": ["bbbb"]}]
)
def test_a_run_of_something_else_is_not_gone_on_with(tmp_path: Path, other: dict[str, Any]) -> None:
    """Other scripts are another goal: what was done for the old one is to be done again."""
    path = tmp_path / "backup.jsonl"
    written(path, (journal.DONE, ONE))
    assert journal.read(path, other).at is None


def test_a_run_that_is_over_is_not_gone_on_with(tmp_path: Path) -> None:
    """The next one begins anew."""
    path = tmp_path / "backup.jsonl"
    with journal.opened(path, ABOUT, journal.PastRun()) as book:
        book.add(journal.DONE, ONE)
        book.add(journal.OVER)
    assert journal.read(path, ABOUT).at is None


def test_a_run_of_the_day_before_is_not_gone_on_with(tmp_path: Path) -> None:
    """A backup of yesterday is no backup of today."""
    path = tmp_path / "backup.jsonl"
    written(path, (journal.DONE, ONE))
    first, *others = path.read_text().splitlines()
    head = json.loads(first)
    head["at"] = (datetime.now(UTC) - timedelta(days=1, seconds=1)).isoformat()
    path.write_text("\n".join([json.dumps(head), *others]) + "\n")
    assert journal.read(path, ABOUT).at is None


def test_two_runs_do_not_write_one_journal(tmp_path: Path) -> None:
    """The second is refused, and nothing of the first is lost."""
    path = tmp_path / "backup.jsonl"
    with journal.opened(path, ABOUT, journal.PastRun()) as book:
        book.add(journal.DONE, ONE)
        with pytest.raises(LockedError), journal.opened(path, ABOUT, journal.PastRun()):
            pass
    assert journal.read(path, ABOUT).done == {"1234/one"}


def test_a_job_travels_as_json() -> None:
    """What comes out is what went in, and it has no way to the database but names."""
    job = Job(
        action="upgrade",
        site=Site("/project", "token", (("BACKSET_SECTION", "x"),)),
        member=ONE,
        goal=("aaaa",),
        oid=7,
    )
    assert Job.of(json.loads(json.dumps(job.plain()))) == job


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 6), 6), ((6, 4), 4), ((4, 3), 4), ((75, 6), 75), ((4, 130), 130)]
)
def test_the_exit_code_is_that_of_the_worst(codes: tuple[int, int], expected: int) -> None:
    """A failure says more than a finding, whichever comes first."""
    assert worse(*codes) == worse(*codes[::-1]) == expected


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "with one of databases, query, glob in table 1"),
        ({"glob": "a", "query": "b"}, "with one of databases, query, glob in table 1"),
        ({"globs": "a"}, "without 'globs' in table 1; known keys: name, url, databases"),
        ({"databases": []}, "with databases in table 1 as a list of names"),
        ({"glob": []}, "with glob in table 1 as a pattern or a list of some"),
        ({"databases": ["x" * 64]}, "with databases in table 1 as a name of at most 63 bytes"),
        ({"glob": "a", "url": "postgresql://u:secret@h/d"}, "a URL without its password"),
    ],
)
def test_a_wrong_table_says_what_it_must_be(table: dict[str, Any], words: str) -> None:
    """And no password that stands in it."""
    with pytest.raises(ValueError, match="table") as error:
        fleets.read([table])
    assert words in str(error.value)
    assert "secret" not in str(error.value)


def test_servers_take_turns() -> None:
    """A fleet that lists one server after the other loads all of them at the same time."""
    members = [
        FleetMember(0, name, server, name) for server, name in ("xa", "xb", "xc", "ya", "za")
    ]
    jobs = [Job(action="backup", site=Site("", ""), member=each) for each in members]
    labels = [f"{each.member.server}{each.member.label}" for each in in_turn(jobs)]
    assert labels == ["xa", "ya", "za", "xb", "xc"]


def test_a_pattern_means_no_database_of_ours() -> None:
    """Neither what stands beside a target nor what tests work on is a member of a fleet."""
    names = ["shop*"]
    assert _is_meant("shop_1", None, names)
    assert _is_meant("shop_1", "backset protected", names)
    assert not _is_meant("shop__next", 'backset next {"of":"shop"}', names)
    assert not _is_meant("shop__test__1f_1", 'backset clone {"of":"shop__test"}', names)
