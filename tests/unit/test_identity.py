"""How a run is called: a name that fits, and a token that no other run has."""

from __future__ import annotations

import os
import re

import pytest

from backset.process.identity import application_name, has_died, run_mark, token, works

NO_PROCESS = 4_194_399  # no kernel gives such a number


@pytest.fixture
def long_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a name of 64 letters."""
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 64)


@pytest.mark.parametrize("purpose", ["plan", "drop-indexes", "prove-downgrade"])
@pytest.mark.parametrize("is_child", [True, False])
@pytest.mark.usefixtures("long_host")
def test_the_end_of_a_name_is_never_cut(purpose: str, *, is_child: bool) -> None:
    """The server cuts what is longer than 63 bytes, and by its end a session is known."""
    name = application_name(purpose, is_child=is_child)
    assert len(name.encode()) <= 63
    assert name.endswith(run_mark())
    assert re.match(rf"backset {purpose} (on|for) h+, pid {os.getpid()} #", name)


def test_each_run_has_a_token_of_its_own() -> None:
    """Another process on the same machine shares the beginning with us, and not the rest."""
    other = token.__wrapped__()
    assert other[:6] == token()[:6]
    assert other != token() == token()


def test_who_has_died_is_known_of_processes_that_can_be_seen() -> None:
    """A container has the same host name and the same pids as the next one, and other processes."""
    name = application_name("reset-db")
    there = name.replace(f"pid {os.getpid()}", f"pid {NO_PROCESS}")
    in_a_container = there.replace(token(), f"{'0' * 6}{token()[6:]}")
    assert [has_died(each) for each in (name, there, in_a_container)] == [False, True, False]
    assert [works(each) for each in (name, there)] == [token(), ""]
    assert works(in_a_container)


@pytest.mark.parametrize(
    "name", ["backset reset-db on laptop, pid 1", "psql", "", "backset verify on x, pid 1 #0a"]
)
def test_what_is_no_run_of_ours_is_nobodys(name: str) -> None:
    """Names of backset before it had tokens, and those of others."""
    assert (has_died(name), works(name)) == (False, "")


@pytest.mark.parametrize("purpose", ["status", "verify", "plan", "discard"])
def test_who_only_looks_works_on_nothing(purpose: str) -> None:
    """Nor does the server's own drop, which goes on after its run."""
    assert works(application_name(purpose)) == ""
    assert works(application_name("seed", is_child=True)) == ""
