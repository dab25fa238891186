"""Each script of findings/ has the form that lets a reader and `nox -s findings` trust it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "findings"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
NAMED = {each.stem: each.read_text("utf-8") for each in SCRIPTS}


def head(script: str) -> str:
    """Return the comment that a script begins with."""
    return "\n".join(re.match(r"#!.*\n((?:#.*\n)+)", script)[1].splitlines())  # type: ignore[index]


def unpinned(script: str) -> list[str]:
    """Return the packages that a script installs in whatever version there is."""
    asked = re.findall(r"(?:pip\" install|npm install)((?:.*\\\n)*.*)\n", script)
    words = " ".join(asked).replace("\\\n", " ").split()
    packages = [each for each in words if not each.startswith(("-", '"'))]
    return [each for each in packages if not re.fullmatch(r"[\w@/.\[\]-]+?(==|@)\d[\w.]*", each)]


def test_nothing_else_is_there() -> None:
    """What is no script is run by nobody."""
    assert len(SCRIPTS) >= 12
    assert sorted(FOLDER.iterdir()) == SCRIPTS


@pytest.mark.parametrize("script", NAMED.values(), ids=NAMED)
def test_the_head_says_what_was_guessed_and_what_was_seen(script: str) -> None:
    """A surprise is one only beside the guess before it, and the head says why it matters."""
    parts = [f"# {each}:" for each in ("Guess", "Seen", "Why it matters")]
    places = [head(script).find(each) for each in parts]
    assert -1 not in places
    assert places == sorted(places)
    assert re.search(r" \d+\.\d+", head(script)[: places[0]])  # the versions it is said of


@pytest.mark.parametrize("script", NAMED.values(), ids=NAMED)
def test_what_is_installed_is_pinned(script: str) -> None:
    """Else a script could fail for another reason than that what it says has changed."""
    assert "==" in script
    assert unpinned(script) == []


@pytest.mark.parametrize("script", NAMED.values(), ids=NAMED)
def test_the_folder_is_removed_from_the_first_moment_on(script: str) -> None:
    """Nothing is installed or started before the trap that ends and removes it is set."""
    assert re.search(r"set -euo pipefail\nfolder=\$\(mktemp -d\)\n", script)
    assert script.index("\ntrap ") < script.index("python3 -m venv")
    assert 'rm -rf "$folder"' in script


def test_the_checks_see_what_is_wrong() -> None:
    """They would all pass if they read nothing."""
    wrong = (
        'x/pip" install --quiet \\\n    alembic==1.20.1 psycopg\nnpm install --prefix "y" pg@8 pg\n'
    )
    assert unpinned(wrong) == ["psycopg", "pg"]
    with pytest.raises(TypeError):
        head("set -euo pipefail\n# Guess: none\n")
