"""Which findings count: not those that the settings silence, nor those that the baseline has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.errors import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from backset.checks.baseline import Baseline
    from backset.configuration.values import Ignore


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
