"""The house keeps its shape: levels, single doors, and nothing heavy behind the front door."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest
from vermin import detect  # type: ignore[import-untyped]

import backset

SOURCE = Path(backset.__file__).parent
WORKER = sorted((SOURCE / "alembic_worker").glob("*.py"))
FORERUNNER = SOURCE / "forerunner" / "__main__.py"
# `catalogs.schema` → its file; the worker is a program of its own, and counts as one module.
FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): [path]
    for path in sorted(SOURCE.rglob("*.py"))
    if path.stem != "__init__" and path not in WORKER
} | {"alembic_worker": WORKER}
CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
PARTS = re.findall(r"^\| `(\w+)/?` \| ", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)
DOORS = {
    "subprocess": {"processes.process", "processes.terminal"},
    "alembic": {"alembic_worker"},
    "sqlalchemy": {"alembic_worker"},
    "psycopg": {
        *("connections", "catalogs", "servers", "properties", "runs", "carrying"),
        *("migrations.upgrading", "proofs.inserted", "mending", "rehearsals.breaking"),
    },
    "dotenv": {"configuration.reader"},
    "tomllib": {"checks.baseline", "configuration.reader"},
    "invoke": {"tasks", "cli", "program"},
    "rich": {"reports.report_live"},
}


def trees(module: str) -> list[ast.Module]:
    """Return the syntax tree of each file of a module."""
    return [ast.parse(path.read_text(encoding="utf-8")) for path in FILES[module]]


def imports(module: str) -> set[str]:
    """Return every imported module, those of type checking included."""
    found = set()
    for node in chain.from_iterable(map(ast.walk, trees(module))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def ours(module: str) -> set[str]:
    """Return those of our own modules that a module imports."""
    return {name.removeprefix("backset.") for name in imports(module) if "." in name} & FILES.keys()


def part(module: str) -> str:
    """Return the package of a module; of one that is in none, the module."""
    return module.partition(".")[0]


def test_every_part_has_its_place() -> None:
    """A new package, or a module beside them, must be given its row in CONTRIBUTING.md."""
    assert sorted(PARTS) == sorted({part(module) for module in FILES})


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_from_lower_parts_only(module: str) -> None:
    """No package reaches up, and none around: the rows of the table are in the order of levels."""
    others = {part(name) for name in ours(module)} - {part(module)}
    assert {name for name in others if PARTS.index(name) > PARTS.index(part(module))} == set()


def test_there_is_no_circle_within_a_package() -> None:
    """What imports each other is one module in two files."""
    TopologicalSorter({module: ours(module) for module in FILES}).prepare()


@pytest.mark.parametrize(("package", "doors"), DOORS.items())
def test_an_outside_tool_has_its_doors(package: str, doors: set[str]) -> None:
    """Each outside package is imported by those that own it, and by no other."""
    users = {
        module
        for module in FILES
        if any(name.partition(".")[0] == package for name in imports(module))
    }
    assert {module if module in doors else part(module) for module in users} == doors


def test_connections_are_made_in_one_place() -> None:
    """All others get a session: with a lock_timeout, and a name that says which run it is."""
    makers = {
        module
        for module in FILES
        for node in chain.from_iterable(map(ast.walk, trees(module)))
        if (isinstance(node, ast.Attribute) and ast.unparse(node).endswith("onnection.connect"))
        or (isinstance(node, ast.Attribute) and ast.unparse(node) == "psycopg.connect")
    }
    assert makers == {"connections.session"}


@pytest.mark.parametrize(
    "module", sorted(FILES.keys() - {"configuration.reader", "alembic_worker", "nox"})
)
def test_only_settings_reads_the_environment(module: str) -> None:
    """A value has one reader, so that its source can be told; the worker and Nox have their own."""
    text = FILES[module][0].read_text(encoding="utf-8")
    assert not re.search(r"\benviron\[(?!\"DATABASE_URL\"\], which)", text)
    assert "os.environ" not in text
    assert "getenv" not in text


@pytest.mark.parametrize("program", ["alembic_worker", "forerunner.__main__"])
def test_a_program_imports_nothing_of_backset(program: str) -> None:
    """It also runs under an interpreter that does not have backset."""
    assert not any(name.startswith("backset") for name in imports(program))


@pytest.mark.parametrize("path", [*WORKER, FORERUNNER], ids=lambda path: path.name)
def test_a_program_runs_under_python_3_9(path: Path) -> None:
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
    for module in FILES:
        assert all(map(ast.get_docstring, trees(module))), module
