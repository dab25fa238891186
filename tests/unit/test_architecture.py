"""The house keeps its shape: levels, single doors, and nothing heavy behind the front door."""

from __future__ import annotations

import ast
import re
from itertools import chain
from pathlib import Path

import pytest
from vermin import detect

import backset

SOURCE = Path(backset.__file__).parent
FILES = {path.stem: [path] for path in SOURCE.glob("*.py") if path.stem != "__init__"}
FILES |= {
    path.parent.name: sorted(path.parent.glob("*.py")) for path in SOURCE.glob("*/__main__.py")
}
MODULES = sorted(FILES)

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
ROWS = re.findall(
    r"^\| (\d+) \| ([^|]+) \|", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE
)
LEVELS = {module: int(level) for level, names in ROWS for module in re.findall(r"`(\w+)`", names)}
DOORS = {
    "subprocess": {"process", "terminal"},
    "alembic": {"alembic_worker"},
    "sqlalchemy": {"alembic_worker"},
    "psycopg": {
        "mending",
        "in_place",
        "objects",
        "privileges",
        "protection",
        "refilling",
        "activity",
        "peer",
        "session",
        "server",
        "waits",
        "service",
        "swap",
        "upgrading",
        "catalog",
        "companions",
        "inserted",
        "inventory",
        "lookout",
        "versions",
        "properties",
        "parameters",
        "grants",
        "extensions",
        "publications",
        "target",
        "url",
    },
    "dotenv": {"settings"},
    "tomllib": {"baseline", "settings"},
    "invoke": {"tasks", "cli", "program"},
    "rich": {"report_live"},
}


def trees(module: str) -> list[ast.Module]:
    """Return the syntax tree of each file of a module; a folder that can be run is one, too."""
    return [ast.parse(path.read_text(encoding="utf-8")) for path in FILES[module]]


def imports(module: str) -> set[str]:
    """Return every imported name of a module, those of type checking included."""
    found = set()
    for node in chain.from_iterable(map(ast.walk, trees(module))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "backset":
            found |= {f"backset.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_every_module_has_one_level() -> None:
    """A new module must be given its place in the table of CONTRIBUTING.md."""
    assert (
        sorted(module for _, names in ROWS for module in re.findall(r"`(\w+)`", names)) == MODULES
    )


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_lower_levels_only(module: str) -> None:
    """No module reaches up or sideways."""
    ours = {name.split(".")[1] for name in imports(module) if name.startswith("backset.")}
    assert {name for name in ours if LEVELS[name] >= LEVELS[module]} == set()


@pytest.mark.parametrize(("package", "doors"), DOORS.items())
def test_an_outside_tool_has_its_doors(package: str, doors: set[str]) -> None:
    """Each outside package is imported by the modules that own it, and by no other."""
    users = {
        module
        for module in MODULES
        if any(name.split(".")[0] == package for name in imports(module))
    }
    assert users == doors


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"settings", "alembic_worker"}))
def test_only_settings_reads_the_environment(module: str) -> None:
    """A value has one reader, so that its source can be told; the worker sets its own."""
    text = (SOURCE / f"{module}.py").read_text(encoding="utf-8")
    assert not re.search(r"\benviron\[(?!\"DATABASE_URL\"\], which)", text)
    assert "os.environ" not in text
    assert "getenv" not in text


def test_the_worker_imports_nothing_of_backset() -> None:
    """It also runs under an interpreter that does not have backset."""
    assert not any(name.startswith("backset") for name in imports("alembic_worker"))


@pytest.mark.parametrize("path", FILES["alembic_worker"], ids=lambda path: path.name)
def test_the_worker_runs_under_python_3_9(path: Path) -> None:
    """A project's interpreter may be older than ours; this knows syntax and library alike."""
    _, least = detect(path.read_text(encoding="utf-8"))
    assert least is not None
    assert least <= (3, 9)


def test_what_python_3_9_lacks_is_noticed() -> None:
    """The check above would fail for a newer function, and for newer syntax."""
    assert detect("import itertools\nitertools.pairwise([])")[1] == (3, 10)
    assert detect("match 1:\n    case 1: pass")[1] == (3, 10)


def test_every_module_says_what_it_is_for() -> None:
    """A module's first line is its contract."""
    for module in MODULES:
        assert all(map(ast.get_docstring, trees(module))), module
