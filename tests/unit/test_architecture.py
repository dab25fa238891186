"""The house keeps its shape: levels, single doors, and nothing heavy behind the front door."""

from __future__ import annotations

import ast
import re
from collections import Counter
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

from vermin import detect  # type: ignore[import-untyped]

import backset

SOURCE = Path(backset.__file__).parent
WORKER = sorted((SOURCE / "alembic_worker").glob("*.py"))
PROGRAMS = [*WORKER, SOURCE / "process" / "script_ahead.py"]
# `catalog.schema` → its file; the worker is a program of its own, and counts as one module.
FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): [path]
    for path in sorted(SOURCE.rglob("*.py"))
    if path.stem != "__init__" and path not in WORKER
} | {"alembic_worker": WORKER}
CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
PARTS = re.findall(r"^\| `(\w+)/?` \| ", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)
DOORS = {
    "subprocess": {"process.process"},
    "alembic": {"alembic_worker"},
    "sqlalchemy": {"alembic_worker", "pytest_plugin"},
    "pytest": {"pytest_plugin"},
    "psycopg": {
        *("connections", "catalog", "servers", "inherit", "runs", "carry"),
        *("migrate.project_command", "migrate.upgrading", "prove.rows", "rehearsal"),
        *("commands.repair", "execution", "squash.inserted", "squash.statements", "testing"),
        "fleet.members",
    },
    "dotenv": {"settings.reader"},
    "obstore": {"backups.bucket", "backups.parts"},
    "pyrage": {"backups.sealing"},
    "jinja2": {"page.page"},
    "re2": {"text.redaction"},
    "tomlkit": {"settings.writing"},
    "tomllib": {"checks.differences", "settings.reader", "settings.writing", "text.pasted"},
    "invoke": {"chain", "tasks", "cli", "__main__"},
    "rich": {"report.report_live"},
}


TEXTS = {
    module: [path.read_text(encoding="utf-8") for path in paths] for module, paths in FILES.items()
}
TREES = {module: [ast.parse(text) for text in texts] for module, texts in TEXTS.items()}
NODES = {module: [*chain.from_iterable(map(ast.walk, trees))] for module, trees in TREES.items()}


def imports(module: str) -> set[str]:
    """Return every imported module, those of type checking included."""
    found = set()
    for node in NODES[module]:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


IMPORTS = {module: imports(module) for module in FILES}


def ours(module: str) -> set[str]:
    """Return those of our own modules that a module imports."""
    return {name.removeprefix("backset.") for name in IMPORTS[module] if "." in name} & FILES.keys()


def part(module: str) -> str:
    """Return the package of a module; of one that is in none, the module."""
    return module.partition(".")[0]


def test_every_part_has_its_place() -> None:
    """A new package, or a module beside them, must be given its row in CONTRIBUTING.md."""
    assert sorted(PARTS) == sorted({part(module) for module in FILES})


def test_modules_import_from_lower_parts_only() -> None:
    """No package reaches up, and none around: the rows of the table are in the order of levels."""
    upward = [
        f"{module} imports {name}"
        for module in FILES
        for name in sorted(ours(module))
        if PARTS.index(part(name)) > PARTS.index(part(module))
    ]
    assert upward == []


def test_there_is_no_circle_within_a_package() -> None:
    """What imports each other is one module in two files."""
    TopologicalSorter({module: ours(module) for module in FILES}).prepare()


def test_outside_tools_have_their_doors() -> None:
    """Each outside package is imported by those that own it, and by no other."""
    users = {
        package: {module for module in FILES if package in map(part, IMPORTS[module])}
        for package in DOORS
    }
    found = {
        package: {module if module in DOORS[package] else part(module) for module in modules}
        for package, modules in users.items()
    }
    assert found == DOORS


def test_connections_are_made_in_one_place() -> None:
    """All others get a session: with a lock_timeout, and a name that says which run it is."""
    makers = {
        module
        for module in FILES
        for node in NODES[module]
        if isinstance(node, ast.Attribute)
        and node.attr == "connect"
        and ast.unparse(node.value).endswith(("onnection", "psycopg"))
    }
    assert makers == {"connections.session"}


def test_what_is_told_goes_out_by_one_door() -> None:
    """There it becomes what does nothing; JSON and commands of our own for GitHub are no lines."""
    printers = {
        module
        for module in FILES
        for node in NODES[module]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    }
    assert printers == {"process.streams", "report.report_json", "__main__", "nox"}


def test_only_settings_reads_the_environment() -> None:
    """A value has one reader, so that its source can be told; the worker and Nox have their own."""
    readers = [
        module
        for module in FILES.keys() - {"settings.reader", "alembic_worker", "nox"}
        for text in TEXTS[module]
        if re.search(r"\benviron\[(?!\"DATABASE_URL\"\], which)|os\.environ|getenv", text)
    ]
    assert readers == []


def test_the_programs_import_nothing_of_backset() -> None:
    """They also run under an interpreter that does not have backset."""
    programs = ("alembic_worker", "process.script_ahead")
    found = [name for program in programs for name in IMPORTS[program] if "backset" in name]
    assert found == []


def test_the_programs_run_under_python_3_9() -> None:
    """A project's interpreter may be older than ours; this knows syntax and library alike."""
    least = {path.name: detect(path.read_text(encoding="utf-8"))[1] for path in PROGRAMS}
    assert [name for name, version in least.items() if version is None or version > (3, 9)] == []


def test_what_python_3_9_lacks_is_noticed() -> None:
    """The check above would fail for a newer function, and for newer syntax."""
    assert detect("import itertools\nitertools.pairwise([])")[1] == (3, 10)
    assert detect("match 1:\n    case 1: pass")[1] == (3, 10)


def test_every_module_says_what_it_is_for() -> None:
    """A module's first line is its contract."""
    silent = [module for module in FILES if not all(map(ast.get_docstring, TREES[module]))]
    assert silent == []


def test_a_class_has_a_name_of_its_own() -> None:
    """Whoever reads of one finds one; the schema of the reports finds classes by their names."""
    names = [
        node.name for module in FILES for node in NODES[module] if isinstance(node, ast.ClassDef)
    ]
    assert [name for name, times in Counter(names).items() if times > 1] == []


def test_what_is_the_servers_own_is_said_in_one_place() -> None:
    """A query with a filter of its own forgets what the others have learned."""
    spelled = ("'^pg_", "LIKE 'pg", "16384")
    found = {
        module for module in FILES for text in TEXTS[module] if any(e in text for e in spelled)
    }
    assert found == {"catalog.catalog"}


def test_a_class_name_means_one_thing() -> None:
    """Whoever reads it needs no import to know which one is meant."""
    places: dict[str, list[str]] = {}
    for module in FILES:
        for node in NODES[module]:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_a_run_is_its_sessions_and_facts() -> None:
    """What others use of it is this list; whatever a step makes is the step's own."""
    used = {
        node.attr
        for module in FILES
        for node in NODES[module]
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"run", "self._run"}
    }
    assert used <= {
        *("settings", "target", "purpose", "options", "server", "current", "work", "next"),
        *("clone", "in_place", "outcome", "backups", "open", "lock", "choose", "write_anyhow"),
        *("project_command", "begin_seed", "close_sessions"),
        *("dry", "__module__"),  # Invoke's own, and a step's
    }


def test_no_property_of_a_run_asks_a_server() -> None:
    """What connects, queries or starts a process is a method: the reader sees the call."""
    asks = re.compile(r"\b(session|execute|connect|workers|scripts|Worker|Server)\(")
    found = [
        f"{module}.{node.name}"
        for module in FILES
        if module.startswith("runs.")
        for node in NODES[module]
        if isinstance(node, ast.FunctionDef)
        and {ast.unparse(each) for each in node.decorator_list} & {"property", "cached_property"}
        and asks.search(ast.unparse(node))
    ]
    assert found == []


def test_a_carry_does_not_know_the_run() -> None:
    """It has two sides and rules; so it can be tried without a chain."""
    assert [
        module for module in FILES if part(module) == "carry" and "runs.run" in ours(module)
    ] == []


def test_no_page_has_the_traces_of_a_merge() -> None:
    """Lines that git puts around what it could not join are found by no other check in a page."""
    root = CONTRIBUTING.parent
    pages = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    traces = re.compile(r"^(<<<<<<< |>>>>>>> |=======$)", re.MULTILINE)
    assert pages
    assert [each for each in pages if traces.search(each.read_text(encoding="utf-8"))] == []
