"""Fixtures for pytest: a database for each test, a clone of one that the migrations have made.

pytest imports this module in every project that has backset: what is heavy is imported by the
first test that uses a fixture.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from backset.testing.clones import Clone, Clones, DatabaseURL


@pytest.fixture
def backset_database(_backset_clones: _ClonesWhenWanted) -> Iterator[Clone]:
    """A database of this test's own, at the head of the migrations; dropped after the test."""
    clone = _backset_clones.take()
    yield clone
    _backset_clones.leave(clone)


@pytest.fixture(scope="session")
def backset_worker_database(_backset_clones: _ClonesWhenWanted) -> Iterator[Clone]:
    """A database for all tests of this process: one for each worker of pytest-xdist."""
    clone = _backset_clones.take()
    yield clone
    _backset_clones.leave(clone)


@pytest.fixture
def backset_url(backset_database: Clone) -> DatabaseURL:
    """The URL of `backset_database`, spelled as the project's DATABASE_URL is."""
    return backset_database.url


@pytest.fixture
def backset_session(backset_database: Clone) -> Iterator[Session]:
    """A session of SQLAlchemy on `backset_database`, over psycopg; closed after the test."""
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.orm import Session

    engine = create_engine(backset_database.url_for("psycopg"), poolclass=NullPool)
    with Session(engine) as session:
        yield session
    engine.dispose()


@pytest.fixture(scope="session")
def _backset_clones(pytestconfig: pytest.Config) -> Iterator[_ClonesWhenWanted]:
    """What gives the tests of this process their databases."""
    worker = getattr(pytestconfig, "workerinput", {})  # of pytest-xdist
    source = _ClonesWhenWanted(pytestconfig, worker.get("testrunuid", ""))
    yield source
    pytestconfig.stash[_SAID] = source.unkept
    if problem := source.close():
        warnings.warn(pytest.PytestWarning(f"backset: {problem}"), stacklevel=1)


_SAID, _WHY = pytest.StashKey[str](), pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what wants a database, where an earlier test has said why there can be none."""
    why = item.config.stash.get(_WHY, "")
    if why and _backset_clones.__name__ in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.skip(reason=why))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a worker of pytest-xdist hand on what is to be said; its own words nobody reads."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["backset"] = session.config.stash.get(_SAID, "")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401  (of pytest-xdist)
    """Keep what a worker has handed on."""
    if said := getattr(node, "workeroutput", {}).get("backset"):
        node.config.stash[_SAID] = said


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what makes each run of these tests run every migration."""
    if why := config.stash.get(_SAID, ""):
        terminalreporter.write_line(f"backset: the next run builds the template again: {why}")


class _ClonesWhenWanted:
    """Opens the template when a test wants a database, and not before."""

    def __init__(self, config: pytest.Config, tests: str) -> None:
        self._config, self._tests = config, tests
        self._clones: Clones | None = None

    def take(self) -> Clone:
        """Return a clone; fail in a few lines, and let the tests that follow be skipped."""
        from backset.cli import lines
        from backset.errors import BacksetError, StepFailedError
        from backset.process import identity

        try:
            if self._clones is None:
                self._clones = self._opened()
            return self._clones.take()
        except BacksetError as error:
            said = error
        except OSError as error:
            said = StepFailedError.from_system(error)
        identity.called("backset")
        words = [identity.spoken(each) for each in lines(said)]
        if self._clones is None:
            self._config.stash[_WHY] = f"no database for tests: {words[0]}"
        quoted = (f"   {each}" for each in getattr(said, "quoted", ()))
        pytest.fail("\n".join([*(f"backset: {each}" for each in words), *quoted]), pytrace=False)

    def _opened(self) -> Clones:
        from backset.process import identity
        from backset.testing import template
        from backset.testing.clones import Clones

        return Clones(template.opened(self._config.rootpath, self._tests or identity.token()))

    @property
    def unkept(self) -> str:
        """Why the next run has to build the template again; empty where it has not."""
        return self._clones.unkept if self._clones is not None else ""

    def leave(self, clone: Clone) -> None:
        """Let a clone be dropped."""
        if self._clones is not None:
            self._clones.leave(clone)

    def close(self) -> str:
        """Drop what is left; return in words what could not be dropped."""
        return self._clones.close() if self._clones is not None else ""
