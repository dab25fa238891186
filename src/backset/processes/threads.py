"""Threads are started undisturbed: a signal in the midst of that leaves locks taken for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from backset.processes import signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor

Given = ParamSpec("Given")
Result = TypeVar("Result")


def submit(
    pool: ThreadPoolExecutor,
    work: Callable[Given, Result],
    *arguments: Given.args,
    **options: Given.kwargs,
) -> Future[Result]:
    """Let a thread of a pool do something; an interruption comes when it has begun."""
    with signals.deferred():
        return pool.submit(work, *arguments, **options)
