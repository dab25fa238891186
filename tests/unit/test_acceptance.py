"""Which findings count: noise is silenced by name until a day, differences are accepted."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from backset.checks import differences
from backset.checks.differences import Baseline, judge
from backset.errors import Finding, SettingsError
from backset.settings import values
from backset.settings.reader import load

TODAY = date(2026, 5, 1)
NO_FILE = Path("no_such_file.toml")


def finding(kind: str = "drift", name: str = "tasks.archived", what: str = "") -> Finding:
    """Return a finding."""
    return Finding(kind=kind, name=name, what=what or f"column {name} differs", why="w", remedy="r")


def entry(**changes: object) -> dict[str, Any]:
    """Return a table of [[tool.backset.ignore]]."""
    table = {"kind": "drift", "name": "tasks.*", "reason": "known", "until": TODAY}
    return {key: value for key, value in (table | changes).items() if value is not None}


def judged(findings: list[Finding], *entries: dict[str, Any], known: Baseline | None = None) -> Any:  # noqa: ANN401  (read by name)
    """Judge findings today."""
    known = known or Baseline(NO_FILE, {})
    return judge(findings, values.ignored(list(entries)), known, today=TODAY, accept="accept")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("drift", "tasks.archived"),
        ("drift", "*.archived"),
        ("*", "tasks.*"),
        ("drift", "column tasks.archived differs"),
        ("dri[ef]t", "task?.*"),
    ],
)
def test_noise_is_silenced_by_a_pattern(kind: str, name: str) -> None:
    """For its kind, and for the name of its object or its text."""
    found = judged([finding(), finding(name="users.id")], entry(kind=kind, name=name))
    assert [each.name for each in found.findings] == ["users.id"]
    assert (found.silenced, found.unused, found.expired) == (1, (), ())


def test_an_entry_holds_until_its_last_day_and_is_a_finding_afterwards() -> None:
    """What it silenced is heard again, and so is the entry with its reason."""
    found = judged([finding()], entry(until=date(2026, 4, 30)))
    assert (found.findings, found.silenced) == ((finding(),), 0)
    (expired,) = found.expired
    assert expired.kind == "expired ignore"
    assert expired.what == ("[[tool.backset.ignore]] drift 'tasks.*' (known) ended on 2026-04-30")


def test_an_entry_that_matches_nothing_is_told() -> None:
    """It could hide something new."""
    found = judged([finding()], entry(kind="invalid index"))
    assert found.findings == (finding(),)
    assert [each.kind for each in found.unused] == ["unused ignore"]


@pytest.mark.parametrize(
    ("table", "word"),
    [
        (entry(reason=None), "with a text as reason in table 1"),
        (entry(reason="  "), "with a text as reason in table 1"),
        (entry(kind=None), "with a text as kind"),
        (entry(until=None), "such as until = 2027-06-30"),
        (entry(until="soon"), "such as until = 2027-06-30"),
        (entry(untill=TODAY), "without 'untill' in table 1; known keys: kind, name, reason, until"),
    ],
)
def test_an_entry_needs_all_four(table: dict[str, Any], word: str) -> None:
    """Each is missed by its name."""
    with pytest.raises(ValueError, match="in table 1") as caught:
        values.ignored([table])
    assert word in str(caught.value)


def test_the_settings_have_the_entries_and_the_path(tmp_path: Path) -> None:
    """A date is TOML's own, or a text."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.backset]\nbaseline = "db/accepted.toml"\n'
        '[[tool.backset.ignore]]\nkind = "drift"\nname = "a"\nreason = "b"\nuntil = 2026-05-01\n'
        '[[tool.backset.ignore]]\nkind = "*"\nname = "a"\nreason = "b"\nuntil = "2026-05-01"\n'
    )
    settings = load(tmp_path, {})
    assert settings.baseline == tmp_path / "db/accepted.toml"
    assert [each.until for each in settings.ignore] == [TODAY, TODAY]
    (tmp_path / "pyproject.toml").write_text('[tool.backset]\nignore = ["drift"]\n')
    with pytest.raises(SettingsError, match="ignore is"):
        load(tmp_path, {})


def test_the_baseline_is_sorted_one_line_each_and_keeps_reasons(tmp_path: Path) -> None:
    """Whatever the order of the findings; what is not there any more goes."""
    path = tmp_path / "b.toml"
    awkward = 'default "x\\y"\tin\x7f the models — ü'
    found = [finding(what="z"), finding("invalid index", what="a"), finding(what=awkward)]
    first = differences.write(differences.read(path), [*found, finding("missing rows", what="no")])
    assert [each["reason"] for each in _entries(path)] == ["", "", ""]
    assert len([line for line in path.read_text().splitlines() if "kind =" in line]) == 3
    path.write_text(path.read_text().replace('"z", reason = ""', '"z", reason = "since 2019"'))
    again = differences.write(differences.read(path), [found[0], found[2], finding(what="b")])
    assert [(each["kind"], each["what"], each["reason"]) for each in _entries(path)] == [
        ("drift", "b", ""),
        ("drift", awkward, ""),
        ("drift", "z", "since 2019"),
    ]
    assert differences.read(path) == again
    assert differences.changes(first, again) == "b.toml has 3 differences: +1 −1"
    before = path.read_bytes()
    differences.write(again, reversed([found[0], found[2], finding(what="b")]))
    assert path.read_bytes() == before


def _entries(path: Path) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = tomllib.loads(path.read_text())["differences"]
    return entries


def test_nothing_to_accept_makes_no_file(tmp_path: Path) -> None:
    """A repository without differences stays without a baseline."""
    path = tmp_path / "b.toml"
    new = differences.write(differences.read(path), [finding("behind")])
    assert not path.exists()
    assert differences.changes(new, new) == "nothing to accept"


def test_only_new_and_vanished_differences_are_findings() -> None:
    """Accepted ones are counted; the vanished one says how to accept that too."""
    known = Baseline(NO_FILE, {("drift", finding().what): "why not", ("drift", "old"): ""})
    found = judged([finding(), finding(what="new")], known=known)
    assert [each.what for each in found.findings] == ["new"]
    assert found.accepted == 1
    assert [(each.kind, each.what, each.remedy) for each in found.vanished] == [
        ("vanished difference", "old: this drift is gone", "accept")
    ]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("differences = [", "b.toml: "),
        ("differences = [{ kind = 'drift' }]", "each difference needs a kind and a what"),
        ("differences = 'x'", "each difference needs a kind and a what"),
    ],
)
def test_a_broken_baseline_is_a_wrong_setting(tmp_path: Path, text: str, word: str) -> None:
    """One line, with what to do; nothing is taken for accepted."""
    (tmp_path / "b.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        differences.read(tmp_path / "b.toml")
    (line,) = caught.value.lines()
    assert word in line
    assert "→ correct the file" in line
