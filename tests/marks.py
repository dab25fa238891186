"""Which cases of a test take part in every run, and which only in `nox -s every`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _pytest.mark import ParameterSet


def slow_but(cases: Iterable[Any], is_quick: Callable[[Any], bool]) -> list[ParameterSet]:
    """Return the cases of a test; all but some of them are `slow`.

    cases: the value of each, or a tuple of its values.
    is_quick: whether a case shows, together with the others that are, what the test promises.
    Raises ValueError where no case is quick.
    """
    given = [(each if isinstance(each, tuple) else (each,), is_quick(each)) for each in cases]
    if not any(quick for _, quick in given):
        raise ValueError(f"none of these cases is quick: {[case for case, _ in given]}")
    return [pytest.param(*case, marks=() if quick else pytest.mark.slow) for case, quick in given]
