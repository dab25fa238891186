"""Start ahead: `python script_ahead.py DESCRIPTOR SCRIPT …` is `python SCRIPT …` from a byte on.

Until that comes from the descriptor, it imports the libraries that the script begins with, and
waits; nothing of the project runs. If the descriptor closes, it ends.
It imports nothing of backset, so that it also runs under another project's interpreter.
"""

from __future__ import annotations

import ast
import gc
import os
import sys
import sysconfig
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBRARIES = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")})


def libraries(source: bytes) -> Iterator[str]:
    """Yield the modules that a script imports before it does anything else.

    Up to the first of the project's own, or the first call: these may patch what comes after them,
    as gevent does.
    """
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.ImportFrom) and not statement.level:
            names = [statement.module or ""]
        elif isinstance(statement, ast.Import):
            names = [each.name for each in statement.names]
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # the docstring
        else:
            return
        for name in names:
            if not _is_library(name.split(".")[0]):
                return
            yield name


def _is_library(top: str) -> bool:
    spec = PathFinder.find_spec(top)
    where = (spec and spec.origin) or ""
    return (
        top in sys.builtin_module_names
        or where in {"built-in", "frozen"}
        or where.startswith(_LIBRARIES)
    )


def main() -> None:
    """Import, wait, and become the script. A library that fails is left to the script's import."""
    gc.disable()  # what is imported is no garbage: 29 ms
    descriptor, script, *words = sys.argv[1:]
    sys.argv[:] = [script, *words]
    if not getattr(sys.flags, "safe_path", False):  # then Python puts no folder there
        sys.path[0] = str(Path(script).resolve().parent)
    try:
        source = Path(script).read_bytes()
        for name in libraries(source):
            import_module(name)
    except (Exception, SystemExit):  # noqa: BLE001, S110  (a library may raise anything)
        pass
    if not os.read(int(descriptor), 1):
        return
    os.close(int(descriptor))
    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__file__ = os.path.abspath(script)  # noqa: PTH100  (as Python: without following links)
    gc.freeze()
    gc.enable()
    try:
        code = compile(Path(script).read_bytes(), module.__file__, "exec", dont_inherit=True)
        exec(code, vars(module))  # noqa: S102  (that is what an interpreter does)
    except Exception as error:  # noqa: BLE001  (whatever the script ends with, without our frame)
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)


if __name__ == "__main__":
    main()
