"""Whether a project's code has read what differs from database to database, and so may keep it.

What is imported once for many databases must have nothing of one of them: it would go into the
migrations of all, and no proof of target would tell. env.py itself is run anew each time.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .callers import MAPPINGS, PYTHON, outside

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_PACKAGES = ("/site-packages/", "/dist-packages/")  # which PYTHON may contain


@contextmanager
def noticed(names: Collection[str], env: str) -> Iterator[list[str]]:
    """Give the variables, of these names, that are read in the block by others than env.py.

    env: the file of that. Whoever goes through all variables reads each.
    """
    kind = type(os.environ)  # type: Any
    get, found = kind.__getitem__, []  # type: Any, list[str]

    def getting(environ: Any, key: Any) -> Any:
        if key in names and _may_keep(outside(sys._getframe(1), MAPPINGS), env):  # noqa: SLF001
            found.append(key)
        return get(environ, key)

    kind.__getitem__ = getting
    try:
        yield found
    finally:
        kind.__getitem__ = get


def _may_keep(frame: Any, env: str) -> bool:
    """Tell whether that is neither env.py nor Python, which hands variables to programs."""
    file = frame.f_code.co_filename if frame is not None else ""
    is_pythons = file.startswith((PYTHON, "<frozen ")) and not any(
        each in file for each in _PACKAGES
    )
    return bool(file) and not is_pythons and os.path.realpath(file) != os.path.realpath(env)
