"""Start ahead: `python forerunner/ DESCRIPTOR SCRIPT …`, or `… -m MODULE …` in the script's place.

It imports the libraries that the script begins with, and waits for a byte from the descriptor.
From then on it is what `python SCRIPT …` would have been. If the descriptor closes, it ends.
Nothing of the project runs before that byte: its own modules are read, and not imported.
"""

from __future__ import annotations

import gc

gc.disable()  # while modules are imported there is no garbage, and looking for it takes time

import ast
import builtins
import os
import runpy
import sys
import sysconfig
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_LIBRARIES = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")})
_DEFINITIONS = (
    *(ast.Import, ast.ImportFrom),
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
)


class Reader:
    """Reads which libraries a script imports before it does anything else.

    Where something else is done, such as a call that patches a library, the order would matter
    from there on, so that the reading ends.
    """

    def __init__(self) -> None:
        self._read = set()  # type: set[Path]
        self._is_over = False

    def imports(self, file: Path, module: str) -> Iterator[tuple[ast.stmt, Path, str]]:
        """Yield each statement that imports a library, with the file and the module it is in.

        Those of the project's own modules are among them, where the script imports these.
        """
        if file in self._read or not file.is_file():
            return
        self._read.add(file)
        for statement in ast.parse(file.read_bytes()).body:
            for name, one in _imports(statement):
                top, *rest = name.split(".")
                spec = PathFinder.find_spec(top)
                where = (spec and spec.origin) or ""
                if top in sys.builtin_module_names or where.startswith(_LIBRARIES):
                    yield one, file, module
                elif where.endswith(".py"):
                    yield from self.imports(Path(where), top)
                    inner = Path(where).parent.joinpath(*rest).with_suffix(".py")
                    yield from self.imports(inner, name)
            self._is_over = self._is_over or not _is_definition(statement)
            if self._is_over:
                return


def _imports(statement: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the modules that a statement imports, each with a statement that imports it alone."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            yield alias.name, ast.copy_location(ast.Import([alias]), statement)
    elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
        yield statement.module, statement


def _is_definition(statement: ast.stmt) -> bool:
    """Tell whether a statement defines something, and calls nothing."""
    if isinstance(statement, _DEFINITIONS):
        return True
    if isinstance(statement, ast.If):
        return ast.unparse(statement.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
    if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.Expr)):
        return not any(isinstance(each, ast.Call) for each in ast.walk(statement))
    return False


def import_libraries(script: Path) -> None:
    """Import them in their order; one that fails is left to the script, to fail there.

    By the script's own statements, so that a warning of a library names the line that it would.
    """
    try:
        for statement, file, module in Reader().imports(script, "__main__"):
            code = compile(ast.Module([statement], []), str(file), "exec", dont_inherit=True)
            exec(code, {"__name__": module, "__file__": str(file)})  # noqa: S102
    except (Exception, SystemExit):  # noqa: BLE001, S110  (a library may raise anything)
        pass


def find_module(name: str) -> Path:
    """Return the file that `-m NAME` runs, without importing anything of the project."""
    path = Path(*name.split("."))
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def become(words: list[str]) -> None:
    """Run the script as the interpreter itself would, in a new `__main__`."""
    main = sys.modules["__main__"] = ModuleType("__main__")
    vars(main)["__builtins__"] = builtins
    if "__annotations__" in globals():  # as before Python 3.14
        vars(main)["__annotations__"] = {}
    gc.freeze()
    gc.enable()
    try:
        if words[0] == "-m":
            sys.argv[:] = words[1:]
            runpy._run_module_as_main(words[1])  # type: ignore[attr-defined]  # noqa: SLF001
            return
        sys.argv[:] = words
        path = os.path.abspath(words[0])  # noqa: PTH100  (as Python: without following links)
        about = {"__file__": path, "__loader__": SourceFileLoader("__main__", path)}
        code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
        vars(main).update(about, __cached__=None)
        exec(code, vars(main))  # noqa: S102  (that is what an interpreter does)
    except Exception as error:  # noqa: BLE001  (whatever the script ends with)
        error.__traceback__ = _theirs(error)
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)


def _theirs(error: BaseException) -> TracebackType | None:
    """Return where it was raised, without our own frames."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def main() -> None:
    """Get ready, wait, and become the script."""
    descriptor, *words = sys.argv[1:]
    is_module = words[0] == "-m"
    if not getattr(sys.flags, "safe_path", False):  # then Python puts no folder there
        sys.path[0] = str(Path.cwd() if is_module else Path(words[0]).resolve().parent)
    import_libraries(find_module(words[1]) if is_module else Path.cwd() / words[0])
    go = os.read(int(descriptor), 1)
    os.close(int(descriptor))
    if go:
        become(words)


if __name__ == "__main__":
    main()
