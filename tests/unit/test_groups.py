"""Tests that share what is made once a module are handed to one process."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="module")
def shared() -> str:
    """Something that a module makes once."""
    return "made"


def test_what_a_module_makes_is_made_once(request: pytest.FixtureRequest, shared: str) -> None:
    """The scheduler knows the group of such a test by the end of its id."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("in one process there is nothing to group")
    assert request.node.nodeid.endswith("@test_groups")
