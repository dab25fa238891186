"""Start: `python alembic_worker/ DESCRIPTOR …`, where each is that of an inherited socket.

Each has a process, which ends when its socket closes: it never outlives what started it.
`python alembic_worker/ DESCRIPTOR more`: through that socket others come, each for a process of
its own that is made of this one.
It imports nothing of backset, so that it also runs under another project's interpreter (Python 3.9
and later, Alembic 1.9 and later, SQLAlchemy 1.4 and later).
"""

from __future__ import annotations

import gc

gc.disable()  # while modules are imported there is no garbage: it was looked for 190 times, 60 ms

import os
import socket
import sys
import threading
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def demand_versions() -> None:
    """End with one line where this interpreter, or what it has, is too old."""
    _demand("Python", ".".join(map(str, sys.version_info[:3])), (3, 9))
    if find_spec("sqlalchemy") is None and find_spec("alembic") is None:
        sys.exit("ModuleNotFoundError: No module named 'alembic', nor 'sqlalchemy'")
    from sqlalchemy import __version__ as sqlalchemy  # noqa: PLC0415  (it may not be there)

    _demand("SQLAlchemy", sqlalchemy, (1, 4))
    beside = f" (beside SQLAlchemy {sqlalchemy})"  # which is to stay what it is
    try:
        from alembic import __version__ as alembic  # noqa: PLC0415  (nor this)
    except ModuleNotFoundError as error:
        sys.exit(f"ModuleNotFoundError: {error}{beside}")
    _demand("Alembic", alembic, (1, 9), beside)


def _demand(name: str, version: str, least: tuple[int, int], beside: str = "") -> None:
    if tuple(map(int, version.split(".")[:2])) < least:
        wanted = ".".join(map(str, least))
        sys.exit(f"too old: {name} {version}{beside}; backset works with {wanted}")


def imported() -> Any:
    """Import this package by its name, with the folders of backset on no path afterwards.

    Else a project's own `import settings` would find backset's module.
    """
    here = Path(__file__).resolve().parent
    if sys.path and Path(sys.path[0] or ".").resolve() == here:
        sys.path.pop(0)
    sys.path.append(str(here.parent))
    worker = import_module("alembic_worker.worker")
    sys.path.remove(str(here.parent))
    return worker


def hang_up_with(link: socket.socket) -> None:
    """End this process when the parent's end of the socket closes, whatever a migration does."""

    def watch() -> None:
        with suppress(ConnectionResetError):  # there is something of ours that it did not read
            while link.recv(1, socket.MSG_PEEK):
                ended.wait(0.2)
        os._exit(1)

    ended = threading.Event()
    threading.Thread(target=watch, daemon=True).start()


def divided(descriptors: list[int]) -> int:
    """Make a process for each socket but the first, which is ours; return that of this process."""
    own, *others = descriptors
    made = []
    for each in others:
        made.append(os.fork())
        if not made[-1]:
            own = each
            break
    else:  # whoever ends our group waits for the dead in it, too, until they are buried
        for each in made:
            threading.Thread(target=os.waitpid, args=(each, 0), daemon=True).start()
    for each in descriptors:
        if each != own:
            os.close(each)
    return own


def prepared() -> Any:
    """Import all that each process needs; return the module that answers requests."""
    # Mako would import all of Pygments, a tenth of our start, to colour error pages for browsers.
    sys.modules.setdefault("mako.ext.pygmentplugin", None)  # type: ignore[arg-type]
    demand_versions()
    return imported()


def serve(worker: Any, descriptors: list[int], *, multiplies: bool = False) -> None:
    """Serve on inherited sockets; what Alembic's own command line ends with, ends us.

    multiplies: whether other processes are to be made of this one, which has no thread then.
    """
    link = socket.socket(fileno=divided(descriptors))
    link.set_inheritable(False)  # else a program that a migration leaves behind would keep it open
    if not multiplies:
        hang_up_with(link)
    worker.Requests(link, hang_up_with).serve()
    os._exit(0)  # tearing the interpreter down would only cost time


def main(words: list[str]) -> None:
    """Serve as the words say."""
    multiplies = words[1:] == ["more"]
    descriptors = [int(each) for each in words if each != "more"]
    serve(prepared(), descriptors, multiplies=multiplies)


if __name__ == "__main__":
    main(sys.argv[1:])
