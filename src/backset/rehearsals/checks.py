"""What a rebuild must have done, judged by what the tasks say in JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    Content = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: its name, whether it was kept, and what was seen."""

    name: str
    passed: bool
    text: str


def criteria(rebuilt: Content, after: Content, errors: list[str] | None) -> list[Check]:
    """Return what must be true of a rebuild, one by one.

    rebuilt: what `reset-db --json` said. after: what `status --json` says then.
    errors: of the server's log since it began; None where only the tasks can have looked.
    """
    steps = {each["step"]: each for each in rebuilt["steps"]}
    upgrade, verify, seed = (steps.get(name, {}) for name in ("upgrade", "verify", "seed"))
    kinds = {each["kind"] for each in (*rebuilt["findings"], *after["findings"])}
    heads = ", ".join(after.get("heads", ()))
    return [
        Check("one clean chain of migrations", _is_at_head(after), f"head {heads or 'none'}"),
        Check("the database starts empty", _began_at_base(upgrade), _text(upgrade)),
        Check("the migrations make all tables", bool(verify.get("tables")), _text(verify)),
        Check("the expected columns are there", _had(verify, kinds, "missing column"), "verified"),
        Check("the mock-data script succeeds", bool(seed), _text(seed)),
        Check("the whole run ends without an error", _is_clean(rebuilt, after), error(rebuilt)),
        _log(errors, verify, seed),
    ]


def error(content: Content) -> str:
    """Return what went wrong, in a line; `exit code 0` where nothing did."""
    lines = (content.get("error") or {}).get("lines", [])
    found = [each["what"] for each in content.get("findings", ())]
    return str(next(iter([*lines, *found]), f"exit code {content['exit_code']}"))


def _is_at_head(after: Content) -> bool:
    return bool(after.get("state") == "at head" and not after.get("orphans"))


def _began_at_base(upgrade: Content) -> bool:
    return bool(upgrade) and not any(chain["from"] for chain in upgrade["chains"])


def _had(step: Content, kinds: set[str], kind: str) -> bool:
    return bool(step) and kind not in kinds


def _is_clean(rebuilt: Content, after: Content) -> bool:
    return bool(rebuilt["exit_code"] == after["exit_code"] == 0)


def _log(errors: list[str] | None, *steps: Content) -> Check:
    """Judge what the server wrote into its log; not every role may read that, which is said."""
    name = "the server's log has no error of the run"
    if errors is not None:
        return Check(name, not errors, "; ".join(errors) or "it was read")
    logs = [step["server_log"] for step in steps if "server_log" in step]
    found = [str(line) for log in logs for line in log["errors"]]
    unread = [log["why"] for log in logs if not log["readable"]]
    text = "; ".join([*found, *(f"not readable: {each}" for each in dict.fromkeys(unread))])
    return Check(name, bool(logs) and not found, text or "it was read")


def _text(step: Content) -> str:
    return str(step.get("text", "the step did not come to its end"))
