"""A revision file, written by the project's own template and hooks, with lines of ours in it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import util
from alembic.script import write_hooks
from alembic.script.revision import tuple_rev_as_scalar

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

_HEAD = ("revision", "down_revision", "branch_labels", "depends_on")


def write(config: Config, scripts: ScriptDirectory, given: dict[str, Any]) -> str:
    """Write the file; return its path.

    given: `folder`, `revision`, `message`, `down`, `labels`, `depends_on`, `upgrades`, `downgrades`
    and `imports` as in Alembic's templates, `names`: the code of lines behind those that say what
    the revision is. Alembic's own function takes no revision that follows one which is not there.
    """
    folder = Path(given["folder"])
    created = scripts._generate_create_date()  # noqa: SLF001
    path = scripts._rev_path(str(folder), given["revision"], given["message"], created)  # noqa: SLF001
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    template = str(Path(scripts.dir, "script.py.mako"))  # type: Any  # before 1.16 no Path
    scripts._generate_template(  # noqa: SLF001
        template,
        path,
        up_revision=given["revision"],
        down_revision=tuple_rev_as_scalar(tuple(given["down"])),
        branch_labels=util.to_tuple(given["labels"] or None),
        depends_on=tuple_rev_as_scalar(tuple(given["depends_on"])),
        create_date=created,
        comma=util.format_as_comma,
        message=given["message"],
        upgrades=given["upgrades"],
        downgrades=given["downgrades"],
        imports=given["imports"],
        config=config,
    )
    encoding = scripts.output_encoding
    text = _completed(Path(path).read_text(encoding=encoding), given)
    Path(path).write_text(text, encoding=encoding)
    before_1_12 = getattr(scripts, "hook_config", None)
    hooks = before_1_12 or getattr(scripts, "hooks", None)  # type: Any
    if hooks:
        write_hooks._run_hooks(path, hooks)  # noqa: SLF001
    return str(path)


def _completed(text: str, given: dict[str, Any]) -> str:
    """Put the names behind the head of a script, and what the template does not import above it."""
    tree, lines = ast.parse(text), text.splitlines()
    known = {alias.asname or alias.name for each in tree.body for alias in _aliases(each)}
    missing = [line for name, line in given["needed"].items() if name not in known]
    said = tree.body[:1] if ast.get_docstring(tree) else []
    above = [each.end_lineno or 0 for each in tree.body if each in said or _aliases(each)]
    last_import = max(above, default=0)
    head = max(each.end_lineno or 0 for each in tree.body if set(_HEAD) & set(_names(each)))
    lines[head:head] = given["names"]
    lines[last_import:last_import] = missing
    return "\n".join(lines) + "\n"


def _aliases(node: ast.stmt) -> list[ast.alias]:
    return node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else []


def _names(node: ast.stmt) -> list[str]:
    """Return the names that a statement gives values to."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return [
        each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)
    ]
