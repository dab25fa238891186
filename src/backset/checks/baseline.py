"""Which findings count: not those that the settings silence, nor those of the baseline.

The baseline is a file of the repository with the differences that are accepted, one a line.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.errors import Finding, SettingsError
from backset.settings import writing
from backset.text import toml
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from backset.settings.values import Ignore

# What migrations have made otherwise than the models say. All else is about rows, settings, or
# the state of this one database, and is not for a file that all checkouts share.
DIFFERENCES = frozenset(
    {
        *("drift", "leftover table", "invalid index", "not valid constraint", "disabled trigger"),
        *("missing enum", "missing enum value", "extra enum value", "enum order", "enum column"),
    }
)
_HEADER = """\
# Accepted differences between the models and the database. `invoke verify` says only what is new
# or gone; `invoke verify --accept` writes this file anew, and keeps the reasons.
"""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The accepted differences: the reason of each, by kind and text."""

    path: Path
    reasons: Mapping[tuple[str, str], str]

    def has(self, finding: Finding) -> bool:
        """Tell whether a finding is an accepted difference."""
        return (finding.kind, finding.what) in self.reasons

    def vanished(self, findings: Iterable[Finding], accept: str) -> list[Finding]:
        """Return a finding for each accepted difference that is none any more.

        accept: the command that brings the file up to date.
        """
        found = {(each.kind, each.what) for each in findings}
        return [
            Finding(
                kind="vanished difference",
                name=what,
                what=f"{what}: this {kind} is gone",
                why=f"{self.path.name} still accepts it",
                remedy=accept,
            )
            for kind, what in sorted(self.reasons.keys() - found)
        ]


def read(path: Path) -> Baseline:
    """Read the file; no file is an empty one. Raises SettingsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Baseline(path, {})
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from None
    try:
        entries = tomllib.loads(text).get("differences", [])
        reasons = {(each["kind"], each["what"]): each.get("reason", "") for each in entries}
    except tomllib.TOMLDecodeError as error:
        raise _unreadable(path, str(error)) from None
    except (AttributeError, KeyError, TypeError):
        raise _unreadable(path, "each difference needs a kind and a what") from None
    return Baseline(path, reasons)


def write(old: Baseline, findings: Iterable[Finding]) -> Baseline:
    """Record the differences among the findings; the reasons that are there already are kept.

    Where there is nothing to record and no file, none is made. Raises OSError.
    """
    found = {(each.kind, each.what) for each in findings if each.kind in DIFFERENCES}
    reasons = {key: old.reasons.get(key, "") for key in sorted(found)}
    lines = [
        "    {{ kind = {}, what = {}, reason = {} }},\n".format(*map(toml.string, (*key, reason)))
        for key, reason in reasons.items()
    ]
    if lines or old.path.exists():
        writing.replace(old.path.resolve(), f"{_HEADER}differences = [\n{''.join(lines)}]\n")
    return Baseline(old.path, reasons)


def changes(old: Baseline, new: Baseline) -> str:
    """Say what has become of the file."""
    added, gone = len(new.reasons.keys() - old.reasons), len(old.reasons.keys() - new.reasons)
    if not (added or gone):
        return f"{new.path.name} is as it was" if old.reasons else "nothing to accept"
    return f"{new.path.name} has {count(len(new.reasons), 'difference')}: +{added} −{gone}"


def _unreadable(path: Path, why: str) -> SettingsError:
    return SettingsError(
        [(f"{path.name}: {why}", "correct the file, or remove it and accept anew")]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What is left of the findings, in their order.

    accepted, silenced: how many the baseline and the settings took away.
    expired, unused, vanished: what has become of entries of the settings and of the baseline.
    """

    findings: tuple[Finding, ...]
    accepted: int
    silenced: int
    expired: tuple[Finding, ...]
    unused: tuple[Finding, ...]
    vanished: tuple[Finding, ...]


def judge(
    findings: Sequence[Finding],
    ignores: Sequence[Ignore],
    baseline: Baseline,
    *,
    today: date,
    accept: str,
) -> Judged:
    """Hold findings against the settings, and what is left of them against the baseline.

    accept: the command that brings the baseline up to date.
    """
    valid = [each for each in ignores if not each.has_expired(today)]
    loud = [each for each in findings if not any(_covers(entry, each) for entry in valid)]
    left = [each for each in loud if not baseline.has(each)]
    return Judged(
        findings=tuple(left),
        accepted=len(loud) - len(left),
        silenced=len(findings) - len(loud),
        expired=tuple(_expired(each) for each in ignores if each not in valid),
        unused=tuple(
            _unused(each) for each in valid if not any(_covers(each, one) for one in findings)
        ),
        vanished=tuple(baseline.vanished(loud, accept)),
    )


def _covers(entry: Ignore, finding: Finding) -> bool:
    return entry.covers(finding.kind, finding.name, finding.what)


def _expired(entry: Ignore) -> Finding:
    return Finding(
        kind="expired ignore",
        name=entry.name,
        what=f"[[tool.backset.ignore]] {entry} ended on {entry.until}",
        why="what it silenced is said again",
        remedy="mend that and remove the entry, or give it another date",
    )


def _unused(entry: Ignore) -> Finding:
    return Finding(
        kind="unused ignore",
        name=entry.name,
        what=f"[[tool.backset.ignore]] {entry} matches nothing",
        why="it could hide something new",
        remedy="remove the entry, or correct its kind and name",
    )
