"""Whose code is on the stack: that of people, or that of packages and of Python."""

from __future__ import annotations

import json
import os
import sys
from glob import escape as glob_escape
from glob import glob
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

_INSTALLED = ("/site-packages/", "/dist-packages/")
_FROZEN = "<frozen "
_IMPORTS = "<frozen importlib"
_HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
PYTHON = os.path.join(os.path.dirname(os.path.abspath(os.__file__)), "")  # its library


class Callers:
    """Tells both apart by the folder that the process has now, and by where packages are."""

    def __init__(self) -> None:
        here = os.path.join(os.getcwd(), "")
        roots = {os.path.join(each, "") for each in (sys.prefix, sys.base_prefix)} | {PYTHON}
        self._roots = tuple(each for each in roots if not here.startswith(each))
        self._libraries = {}  # type: dict[str, bool]  # by their files
        self._own = tuple(path for folder in sys.path for path in _built_here(folder))

    def is_installed(self, path: str) -> bool:
        """Tell whether a package manager has put a file there, and no person edits it."""
        return any(each in f"{path}/" for each in _INSTALLED) or path.startswith(self._roots)

    def is_library(self, frame: Any) -> bool:
        """Tell whether the code of a frame is a package's that others wrote, Python's, or ours."""
        path = frame.f_code.co_filename
        known = self._libraries.get(path)
        if known is None:
            is_installed = path.startswith((_FROZEN, _HERE)) or self.is_installed(path)
            known = self._libraries[path] = is_installed and not path.startswith(self._own)
        return known

    def asks(self, frame: Any, name: str) -> bool:
        """Tell whether people's code asks for a name: itself, or by a library that is told it."""
        asker = each = outside(frame, MAPPINGS)
        while each is not None:  # no generator: it is asked thousands of times
            if not self.is_library(each) and (each is asker or _says(each.f_code, name)):
                return True
            each = each.f_back
        return False

    def is_importing(self, frame: Any) -> bool:
        """Tell whether a library does this because it is imported, and nobody's code beside it."""
        for each in _stack(frame):
            if each.f_code.co_filename.startswith(_IMPORTS):
                return True
            if not self.is_library(each):
                return False
        return False


def _built_here(folder: str) -> Iterator[str]:
    """Yield the code in a folder of packages that was installed from a folder of people.

    Such a package has `direct_url.json` with `dir_info`: PEP 610.
    """
    for about in glob(os.path.join(glob_escape(folder), "*.dist-info")):
        try:
            with open(os.path.join(about, "direct_url.json"), encoding="utf-8") as file:
                is_folder = "dir_info" in json.load(file)
            with open(os.path.join(about, "RECORD"), encoding="utf-8") as file:
                paths = {line.partition(",")[0].partition("/") for line in file}
        except (OSError, ValueError):
            continue
        if is_folder:
            yield from (os.path.join(folder, name + slash) for name, slash, _ in paths)


def outside(frame: Any, files: Container[str]) -> Any:
    """Return the first frame whose code is in none of these files; None where there is none."""
    return next((each for each in _stack(frame) if each.f_code.co_filename not in files), None)


def _stack(frame: Any) -> Iterator[Any]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _says(code: Any, text: str) -> bool:
    """Tell whether a text is among the constants of a code."""
    known = code.co_consts
    return text in known or any(
        text in each for each in known if isinstance(each, (tuple, frozenset))
    )


# Where a lookup in `os.environ` passes: by `Mapping`, and by `os`; both are frozen in some Pythons.
VIEWS = frozenset({type(os.environ).get.__code__.co_filename})
MAPPINGS = VIEWS | {type(os.environ).__getitem__.__code__.co_filename}
