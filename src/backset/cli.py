"""Between the tasks and the machine: opens what a task needs, and turns errors into exit codes."""

from __future__ import annotations

import gc
import sys
import traceback
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from invoke.exceptions import Exit

from backset.branches import entries
from backset.chain import CHAINS, NO_DETAILS
from backset.errors import (
    BacksetError,
    ConsentError,
    FindingsError,
    Interrupted,
    StepFailedError,
)
from backset.migrate.program import handed_on
from backset.migrate.worker import Worker, nothing
from backset.process import identity, process, signals, streams
from backset.report.report import Report, shortened
from backset.settings.reader import load, restored_environment
from backset.text import pasted, redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backset.errors import Finding
    from backset.memory.builds import Memory
    from backset.settings.settings import Settings

_WITHOUT_TARGET = frozenset(
    {"start", "stop", "history", "archive", "rebase", "check", "alembic", "fleet", "runs"}
    | {"branch"}  # which does not follow one, and of which a part asks no env.py
)
_WITHOUT_PRIMARY = frozenset({"wait", "url"})
_WITHOUT_SCRIPTS = frozenset(
    {"start", "stop", "wait", "url", "psql", "backups", "runs", "undo", "squash", "branch"}
)
_BUG = 1  # its exit code


@contextmanager
def opened(
    task: str,
    *,
    as_json: bool = False,
    as_lines: bool = False,
    changes: bool = False,
    meanwhile: Callable[[], object] = nothing,
) -> Iterator[tuple[Settings, Report]]:
    """Give a task its settings and report; end it with the lines and exit code of its error.

    as_lines: whether programs get each event at once, too.
    changes: whether it changes something, and is no plan: then it ends a squash that was killed.
    meanwhile: done while env.py is asked for the target, where it must be.
    """
    streams.open_closed()
    streams.conceal(())
    told = _report(task, as_json=as_json, as_lines=as_lines)
    settings: Settings | None = None
    with signals.raised(last=identity.is_command()), restored_environment():
        try:
            with process.all_ended(), handed_on():
                settings = load(Path.cwd())
                streams.conceal(settings.secrets(settings.target))
                with aimed(settings, task, meanwhile) as settings:
                    streams.conceal(settings.secrets(settings.target))
                    if task not in _WITHOUT_SCRIPTS:
                        _tell_of_a_squash(settings, told, ends=changes)
                    yield settings, told
            signals.ignore()  # what has happened is told whole
        except OSError as error:
            _fail(told, StepFailedError.from_system(error))
        except (BacksetError, Interrupted) as error:
            _fail(told, error, settings.root if settings else None)
        except Exit:
            raise
        except Exception:  # noqa: BLE001  (a bug: its traceback, but no password)
            _tell_bug(told, settings)
        if code := _close(told, 0):
            raise Exit(code=code)


def _tell_of_a_squash(settings: Settings, told: Report, *, ends: bool) -> None:
    """Say that scripts may be missing since a squash was killed; or end that first."""
    from backset.revisions.script_files import Folders

    folders = Folders(settings.root, (), settings.backups)
    if not folders.journal.exists():
        return
    from backset.squash import exchange

    if not ends:
        what = "a squash was killed half way, or is at work, so that scripts may be missing"
        told.notice(f"{what} → `invoke upgrade` ends that first")
    elif done := exchange.recover(folders):
        told.notice(done)


@contextmanager
def aimed(settings: Settings, task: str, meanwhile: Callable[[], object]) -> Iterator[Settings]:
    """Give the settings with the target that the task needs, which env.py alone may know."""
    if task in _WITHOUT_TARGET:
        yield settings
        return
    if settings.target or settings.is_embedded:
        found = entries.followed(settings)
        yield found if task in _WITHOUT_PRIMARY else pinned(found)
        return
    from backset.memory import whereabouts

    with whereabouts.aimed(settings, meanwhile) as settled:
        yield pinned(entries.followed(settled))


def pinned(settings: Settings) -> Settings:
    """Return the settings with one host: of several, the primary. Raises StepFailedError."""
    if settings.target is None or not settings.target.names_several_hosts:
        return settings
    from backset.connections import primary

    return replace(settings, target=primary.pinned(settings.target))


def settled(settings: Settings) -> Settings:
    """Return the settings with a target, wherever it is said. Raises SettingsError."""
    if settings.target or settings.is_embedded:
        return pinned(entries.followed(settings))
    from backset.memory import whereabouts

    return pinned(entries.followed(whereabouts.find(settings).settings))


def _close(told: Report, code: int) -> int:
    """End the report; return the exit code, which is another where it cannot be written."""
    try:
        told.close(code)
    except BrokenPipeError:
        streams.abandon()
        return code or streams.UNREAD
    except OSError as error:
        streams.abandon()
        done = "ended" if code else "is done"
        line = f" ✘ the task {done}, but its report cannot be written: {error.strerror}"
        streams.tell(line, is_error=True)
        return code or StepFailedError.exit_code
    return code or (streams.UNREAD if streams.is_abandoned() else 0)


@contextmanager
def _written(settings: Settings, told: Report, *, plan: bool) -> Iterator[None]:
    """Put into pyproject.toml what would mend the error of the block; a plan shows it alone."""
    try:
        yield
    except BacksetError as error:
        from backset.report.report_json import Rewriting
        from backset.settings import writing

        wanted = [setting for each in error.findings for setting in each.settings]
        try:
            change = writing.change(settings.root, wanted)
            if diff := change.diff():
                told.rewriting(diff)
            if diff and not plan:
                change.make()
                told.note(pyproject=Rewriting(diff, written=True))
                error.findings = tuple(map(_unwritten, error.findings))
                error.add_note(f"{writing.NAME} has what is shown above: run this again")
        except (StepFailedError, OSError) as second:
            error.add_note(f"nothing was written: {second}")
        raise


@contextmanager
def _on_a_page(
    settings: Settings, told: Report, task: str, wanted: str | Literal[True]
) -> Iterator[None]:
    """Write a page about the run of the block, one that fails as well."""
    from backset.page import page

    path = page.place(settings, wanted if isinstance(wanted, str) else "")
    page.prepare(settings, path)
    try:
        yield
    except BacksetError as error:
        ended = {"step": told.step or None, "lines": lines(error), "exit_code": error.exit_code}
        if unwritten := _write_page(settings, told, task, path, ended):
            error.add_note(unwritten)
        raise
    if unwritten := _write_page(settings, told, task, path):
        told.notice(unwritten)


def _write_page(
    settings: Settings,
    told: Report,
    task: str,
    path: Path,
    error: Mapping[str, Any] | None = None,
) -> str:
    """Write a page about a run; return why there is none: that is no failure of the run."""
    from backset.page import gathering, page
    from backset.page.content import RunTold
    from backset.servers import location

    ran = RunTold.of(told, task, error)
    try:
        target = location.named(settings)
        content = gathering.gather(settings, target, ran)
        told.page(path, page.write(content, path))
    except BacksetError as second:
        return f"no page was written: {second}"
    except OSError as second:
        return f"no page was written: {StepFailedError.from_system(second)}"
    return ""


def _unwritten(finding: Finding) -> Finding:
    return replace(finding, settings=tuple(filter(pasted.is_open, finding.settings)))


def _fail(told: Report, error: BacksetError | Interrupted, root: Path | None = None) -> NoReturn:
    signals.ignore()
    looked = isinstance(error, FindingsError) and streams.is_abandoned()
    if error.exit_code == streams.UNREAD or looked:  # quietly, as every program does
        raise Exit(code=streams.UNREAD)
    if isinstance(error, ConsentError):
        told.stakes(error.stakes, error.digest)
    told.findings(error.findings)
    details = getattr(error, "details", NO_DETAILS)
    quoted = getattr(error, "quoted", ())
    told.fail(lines(error, told.most_lines), error.exit_code, details, quoted=quoted)
    wanted = [setting for each in error.findings for setting in each.settings]
    if wanted and root is not None:
        from backset.settings import writing

        told.settings(wanted, writing.text(root / writing.NAME))
    leave(told, error.exit_code)


def _tell_bug(told: Report, settings: Settings | None) -> NoReturn:
    trace = traceback.format_exc()
    shown = settings.redact(settings.target, trace) if settings else redaction.blank(trace)
    told.bug(shown, _BUG)
    _close(told, _BUG)
    for each in shown.splitlines():
        streams.tell(each, is_error=True)
    raise Exit(code=_BUG)


def _report(task: str, *, as_json: bool, as_lines: bool) -> Report:
    """Return the report for where stdout goes: each imports what no other needs, such as rich."""
    if as_lines:
        from backset.report.report_json import JsonLinesReport

        return JsonLinesReport(task)
    if as_json:
        from backset.report.report_json import JsonReport

        return JsonReport(task)
    if sys.stdout is None or not sys.stdout.isatty():
        return Report()
    from backset.report.report_live import LiveReport

    return LiveReport()


def lines(error: BacksetError | Interrupted, at_most: int | None = None) -> list[str]:
    """Return the lines of an error, the last with what stands now; of many only the first ones."""
    *first, last = shortened(error.lines(), at_most)
    return [*first, " · ".join([last, *getattr(error, "__notes__", ())])]


def leave(told: Report, code: int) -> NoReturn:
    """End the task, and the report of it, with an exit code."""
    raise Exit(code=_close(told, code))


@contextmanager
def ready(
    name: str,
    *,
    plan: bool,
    as_json: bool,
    as_lines: bool = False,
    asked: Mapping[str, Any] = MappingProxyType({}),
    page: str | Literal[True] | None = None,
) -> Iterator[Callable[..., None]]:
    """Open what a chain needs, Alembic's process before our own imports; give what runs it.

    asked: the fields of Options that the flags say. page: the file of a page about the run; True
    for the usual one, None for no page.
    """
    writes = asked.get("carries", {}).get("writes")
    changes = not plan and CHAINS[name].locks
    form = {"as_json": as_json, "as_lines": as_lines}
    with (
        opened(name, **form, changes=changes, meanwhile=_imported) as (settings, told),
        _on_a_page(settings, told, name, page) if page and not plan else nullcontext(),
        _written(settings, told, plan=plan) if writes else nullcontext(),
        _ahead(settings, name, asked) as (memory, worker),
    ):
        _imported()
        from backset import execution

        it = execution.Opened(settings, told, memory, worker)
        yield partial(execution.run_chain, it, CHAINS[name], plan=plan, asked=asked)


def _imported() -> None:
    """Import what a chain needs."""
    gc.disable()  # as in tasks
    from backset import execution  # noqa: F401
    from backset.runs import run  # noqa: F401
    from backset.servers import location  # noqa: F401
    from backset.settings import rules  # noqa: F401

    gc.freeze()
    gc.enable()


@contextmanager
def _ahead(
    settings: Settings, name: str, asked: Mapping[str, Any]
) -> Iterator[tuple[Memory | None, Worker | None]]:
    """Start Alembic's process before our own imports, unless what it would build is remembered."""
    chain, cold = CHAINS[name], bool(asked.get("cold"))
    if not chain.migrates:  # what is remembered is of what migrations make
        yield None, None
        return
    from backset.memory import builds

    database = settings.target.database if settings.target else settings.database
    with builds.ahead(settings, chain, database, cold=cold) as found:
        yield found


@contextmanager
def alembic_for_proof(
    settings: Settings, *, proves: bool
) -> Iterator[tuple[Worker, Sequence[Worker]]]:
    """Start Alembic's process for the target, before our own imports.

    Beside it one for each chain, which a proof works with, if there is one.
    """
    lineages = [settings.lineages[0], *(settings.lineages if proves else ())]
    with ExitStack() as stack:
        it, *ahead = map(stack.enter_context, Worker.several(settings, lineages))
        yield it, ahead
