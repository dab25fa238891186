"""What is checked, and how: `nox` runs all of it but `bench`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import nox

nox.needs_version = ">=2025.5.1"
nox.options.error_on_missing_interpreters = False

CODE = ("src", "app", "alembic", "scripts", "tests", "benchmarks", "docs", "tasks.py", "noxfile.py")
# Nox waits 0.3 s for a program that the terminal has interrupted too, then sends TERM to it; the
# other 0.2 s that it would leave to it are not enough to end what it has started.
CLEANING_S = 30.0


came: list[int] = []  # Nox forgets an interruption when the program that it ends exits with 0


def interrupt(signum: int, _frame: object) -> NoReturn:
    """Do for TERM and HUP what Nox does for INT alone: end the running program, then itself."""
    came.append(signum)
    raise KeyboardInterrupt(signal.Signals(signum).name)


for each in (signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(each) is signal.SIG_DFL:  # nohup asked to be left alone
        signal.signal(each, interrupt)

# What could depend on the version of Python; the rest depends on PostgreSQL, and takes minutes.
ON_EVERY_PYTHON = (
    "tests/unit",
    "tests/integration/test_application.py",
    "tests/integration/test_worker.py",
    "tests/acceptance/test_incident.py",
    "tests/acceptance/test_tasks.py",
)
# No check may reach the server that the developer's shell names.
NOTHING_OF_THE_DEVELOPERS: dict[str, str | None] = {
    name: None
    for name in os.environ
    if name.startswith(("PG", "BACKSET_")) or name == "DATABASE_URL"
}


def installed_pythons() -> dict[str, str]:
    """Return the supported Pythons of this machine, pyenv's included: version → executable."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found = {}
    for version in ("3.11", "3.12", "3.13", "3.14"):
        candidates = [f"python{version}", *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
        candidates.append(sys.executable)
        if runs := [each for each in candidates if _runs(each, version)]:
            found[version] = runs[0]
    return found


def _runs(python: str, version: str) -> bool:
    check = f"import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"
    try:
        done = subprocess.run([python, "-c", check], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.run(sys.executable, "-m", "ruff", "check", *CODE)
    session.run(sys.executable, "-m", "ruff", "format", "--check", *CODE)


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.run(sys.executable, "-m", "mypy")


@nox.session
@nox.parametrize("python", [nox.param(path, id=name) for name, path in installed_pythons().items()])
def tests(session: nox.Session) -> None:
    """Run the tests on every supported Python that is installed; all of them on the oldest."""
    session.install("-e", ".[test]")
    oldest = session.python == next(iter(installed_pythons().values()))
    chosen = session.posargs or ([] if oldest else ON_EVERY_PYTHON)
    words = ["pytest", "--numprocesses=auto", *chosen]
    session.run(*words, env=NOTHING_OF_THE_DEVELOPERS, terminate_timeout=CLEANING_S)


@nox.session(venv_backend="none")
def migrate(session: nox.Session) -> None:
    """Run the chain on the service of DATABASE_URL, else on a throw-away server over TCP.

    The service is used in CI, or when this session is asked for by name; outside CI it must be
    empty, unless it is meant: -- --service. So a bare `nox` never meets a developer's server.
    """
    from backset.errors import BacksetError  # noqa: PLC0415
    from backset.servers import service  # noqa: PLC0415  (the other sessions do not need it)

    given = os.environ.get("DATABASE_URL")
    meant = bool(os.environ.get("CI")) or "--service" in session.posargs
    if given and (meant or any("migrate" in word for word in sys.argv)):
        if not meant:
            try:
                service.refuse_rows(given)
            except BacksetError as error:
                session.error("\n".join(error.lines()))
        rehearse(session, given)
    else:
        with service.throw_away("aideator") as url:
            rehearse(session, url)


def rehearse(session: nox.Session, url: str) -> None:
    """Rebuild twice, go back and forth, and end at head without a difference."""
    from backset.processes import signals  # noqa: PLC0415  (the other sessions do not need it)

    backups = str(Path(session.create_tmp()).resolve() / "backups")
    env = {**NOTHING_OF_THE_DEVELOPERS, "DATABASE_URL": url, "BACKSET_BACKUPS": backups}
    for words in (
        ["reset-db"],
        ["reset-db", "--json"],
        ["undo"],
        ["restore", "--yes"],
        *[["alembic", "--", *words] for words in 2 * (["downgrade", "base"], ["upgrade", "head"])],
        ["verify"],
        ["seed"],
        ["status"],
    ):
        command = [sys.executable, "-m", "invoke", *words]
        if words[0] in {"reset-db", "undo", "restore"}:
            command += agreed(session, command, env)
        session.run(*command, env=env, terminate_timeout=CLEANING_S)
        if came or signals.has_come():
            raise KeyboardInterrupt


def agreed(session: nox.Session, command: list[str], env: dict[str, str | None]) -> tuple[str, ...]:
    """Return the consent to a run: a service may be another machine, and migrate() has judged it.

    The digest is that of the plan, so it is good for what stands there now and for nothing else.
    """
    words = [word for word in command if word != "--json"]
    plan = session.run(*words, "--yes", "--plan", env=env, silent=True)
    digests = [line.split()[-1] for line in str(plan).splitlines() if line.startswith(" · consent")]
    return ("--yes", "--confirm", digests[0]) if digests else ("--yes",)


@nox.session(venv_backend="none")
def faults(session: nox.Session) -> None:
    """Break things under real runs, and hold every promise: -- --trials N --seed S."""
    command = [sys.executable, "-m", "tests.faults", *session.posargs]
    session.run(*command, env=NOTHING_OF_THE_DEVELOPERS)


@nox.session(venv_backend="none", default=False)
def bench(session: nox.Session) -> None:
    """Measure the chain against the same work by hand; a measurement, not a test."""
    session.run(sys.executable, "benchmarks/by_hand.py", *session.posargs)
