"""What is checked, and how: `nox` runs what takes minutes; the rest is run by its name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import nox

from backset.nox import CLEANING_S, migrate_session
from backset.settings.settings import TEMPORARY

nox.needs_version = ">=2025.5.1"
nox.options.error_on_missing_interpreters = False

CODE = ("src", "app", "alembic", "scripts", "tests", "benchmarks", "tasks.py", "noxfile.py")


def interrupt(signum: int, _frame: object) -> NoReturn:
    """Do for TERM and HUP what Nox does for INT alone: end the running program, then itself."""
    raise KeyboardInterrupt(signal.Signals(signum).name)


for each in (signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(each) is signal.SIG_DFL:  # nohup asked to be left alone
        signal.signal(each, interrupt)

WORKFLOWS = (".github/workflows/ci.yml", ".github/workflows/every.yml")
ACTION = "action.yml"
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "vendor.github-actions": (ACTION,),
    "vendor.compose-spec": ("compose.yaml",),
}
HOOKS = {"config": ".pre-commit-config.yaml", "manifest": ".pre-commit-hooks.yaml"}
# No check may reach the server that the developer's shell names. Nor does any go without byte code,
# which would compile this package anew for each of the thousands of runs.
NOTHING_OF_THE_DEVELOPERS: dict[str, str | None] = {
    name: None
    for name in os.environ
    if (name.startswith(("PG", "BACKSET_")) and name != TEMPORARY)
    or name in {"DATABASE_URL", "PYTHONDONTWRITEBYTECODE"}
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
    """Check style and format, and the files that other programs read."""
    session.run(sys.executable, "-m", "ruff", "check", *CODE)
    session.run(sys.executable, "-m", "ruff", "format", "--check", *CODE)
    for schema, files in SCHEMAS.items():
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
        session.run(*command, *files, silent=True)
    for kind, file in HOOKS.items():
        session.run(sys.executable, "-m", "pre_commit", f"validate-{kind}", file)
    unsafe = [str(Path(sys.executable).with_name("zizmor")), "--offline", "--quiet"]
    session.run(*unsafe, ACTION, *WORKFLOWS)


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.run(sys.executable, "-m", "mypy")


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Check that the reference says what the code does, and every link; the site is in .site."""
    pages = [each.as_posix() for each in sorted(Path("docs/reference").glob("*.md"))]
    remedy = "cog -r -I scripts docs/reference/*.md"
    check = ["--check", "--diff", f"--check-fail-msg=→ {remedy}", "--verbosity=0"]
    session.run(sys.executable, "-m", "cogapp", *check, "-I", "scripts", *pages)
    session.run(str(Path(sys.executable).with_name("zensical")), "build", "--strict")


def pytest(session: nox.Session, python: str, *words: str) -> None:
    """Run tests with an interpreter, on every core; ended early, they have time to clean up.

    Two processes more than there are cores: a third of their time they wait for servers.
    """
    processes = f"--numprocesses={(os.cpu_count() or 1) + 2}"
    command = [python, "-m", "pytest", processes, *words, *session.posargs]
    session.run(*command, env=NOTHING_OF_THE_DEVELOPERS, terminate_timeout=CLEANING_S)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the tests on PostgreSQL 18, but for what takes long: -- --every, or a file."""
    pytest(session, sys.executable)


@nox.session
@nox.parametrize("python", [nox.param(path, id=name) for name, path in installed_pythons().items()])
def every(session: nox.Session) -> None:
    """Run every test, and `migrate`, on PostgreSQL 13 to 18 and every Python that is here."""
    session.install("-e", ".[test,servers]")
    session.run("python", "-m", "tests.packages")
    oldest = session.python == next(iter(installed_pythons().values()))
    which = ("--durations=60",) if oldest else ("-m", "every_python")
    pytest(session, "python", "--every", *which)
    for each in MIGRATE if oldest and not session.posargs else ():
        session.notify(each)


MIGRATE = migrate_session(broken=[sys.executable, "-m", "tests.incident"])
nox.options.sessions = ["lint", "types", "docs", "tests", MIGRATE[0]]


@nox.session(venv_backend="none")
def faults(session: nox.Session) -> None:
    """Break things under real runs, and hold every promise: -- --kind failover --trials N."""
    command = [sys.executable, "-m", "tests.faults", *session.posargs]
    session.run(*command, env=NOTHING_OF_THE_DEVELOPERS)


@nox.session(venv_backend="none")
def patroni(session: nox.Session) -> None:
    """Run the chain on a cluster of Debian's Patroni that fails over: -- --trials N --seed S."""
    command = [sys.executable, "-m", "tests.patroni", *session.posargs]
    session.run(*command, env=NOTHING_OF_THE_DEVELOPERS, terminate_timeout=CLEANING_S)


@nox.session(venv_backend="none")
def doctor(session: nox.Session) -> None:
    """Damage databases of random chains, and hold each cure: -- --trials N --seed S."""
    command = [sys.executable, "-m", "tests.doctor", *session.posargs]
    session.run(*command, env=NOTHING_OF_THE_DEVELOPERS)


@nox.session(venv_backend="none")
def squash(session: nox.Session) -> None:
    """Squash random chains, and let databases of theirs follow: -- --trials N --seed S."""
    command = [sys.executable, "-m", "tests.squash", *session.posargs]
    session.run(*command, env=NOTHING_OF_THE_DEVELOPERS)


@nox.session(venv_backend="none")
def findings(session: nox.Session) -> None:
    """Run what `findings/` says of outside software, two scripts at a time: -- NAME …."""
    command = [sys.executable, "-m", "tests.findings", *session.posargs]
    session.run(*command, env=NOTHING_OF_THE_DEVELOPERS, terminate_timeout=CLEANING_S)


@nox.session(reuse_venv=True)
def bench(session: nox.Session) -> None:
    """Measure everything beside its peers, for docs/performance.md: -- --quick --only NAME."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "benchmarks", *session.posargs, env=NOTHING_OF_THE_DEVELOPERS)
