"""Settings that people paste: valid TOML, as it is."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from backset.errors import Setting, StepFailedError
from backset.settings import writing
from backset.text import pasted

if TYPE_CHECKING:
    from pathlib import Path

FILL, RENAME, BACKSET = "tool.backset.fill", "tool.backset.rename", "tool.backset"


def test_settings_are_put_together_by_their_tables() -> None:
    """Each header comes once, and a list has what all of them want, once."""
    block = pasted.block(
        [
            Setting(table=BACKSET, key="leave", value=('"a"', '"b"')),
            Setting(table=FILL, key='"t.x"', value=pasted.string("'it''s \"1\"'")),
            Setting(table=BACKSET, key="leave", value=('"a"', '"c"')),
        ]
    )
    assert tomllib.loads("\n".join(block)) == {
        "tool": {"backset": {"leave": ["a", "b", "c"], "fill": {"t.x": "'it''s \"1\"'"}}}
    }


def test_what_only_the_user_knows_is_a_comment() -> None:
    """So the rest of it can be pasted."""
    block = pasted.block(
        [
            Setting(table=FILL, key='"t.x"', value=pasted.string(pasted.BLANK)),
            Setting(table=BACKSET, key="leave", value=('"a"',)),
        ]
    )
    assert block[1] == '# "t.x" = "…"'
    assert block[-1] == 'leave = ["a"]'
    assert tomllib.loads("\n".join(block))["tool"]["backset"]["leave"] == ["a"]
    assert pasted.block([]) == []


def choices() -> list[Setting]:
    """A column that may have been renamed or not, beside one that is left behind."""
    rename = Setting(table=RENAME, key='"t.new"', value='"t.old"', advice="if 1", is_choice=True)
    fill = Setting(table=FILL, key='"t.new"', value="\"''\"", advice="if 2", is_choice=True)
    gone = Setting(table=BACKSET, key="leave", value=('"t.gone"',), already=('"t.a"',))
    left = Setting(table=BACKSET, key="leave", value=('"t.old"',), advice="if 3", is_choice=True)
    return [rename, fill, gone, left]


def test_a_choice_is_made_by_nobody_but_the_user() -> None:
    """Each way is a comment; taking the sign away chooses it, and the others stay what they are."""
    block = pasted.block(choices())
    chosen = tomllib.loads("\n".join(block))["tool"]["backset"]
    assert chosen == {"rename": {}, "fill": {}, "leave": ["t.a", "t.gone"]}
    for line, table, value in (
        ('# "t.new" = "t.old"  # if 1', "rename", {"t.new": "t.old"}),
        ('# "t.new" = "\'\'"  # if 2', "fill", {"t.new": "''"}),
        ('    # "t.old",  # if 3', "leave", ["t.a", "t.gone", "t.old"]),
    ):
        assert line in block
        text = "\n".join(each.replace("# ", "", 1) if each == line else each for each in block)
        assert tomllib.loads(text)["tool"]["backset"] == {**chosen, table: value}


FILES = [
    "",
    "[tool.other]\nx = 1\n",
    "[tool.backset]\nkeep = 3\n[tool.other]\nx = 1\n",
    "[tool.backset.fill]\n",
    "[tool.backset.rename]\na = 'b'\n[tool.backset]\nleave = ['t.a']\n",
    "[tool]\nbackset = {keep = 3}\n",
    "tool.backset.keep = 3\n",
    "[tool]\nbackset.fill.x = '1'",
]


@pytest.mark.parametrize("file", FILES)
def test_what_is_appended_breaks_no_file(file: str) -> None:
    """Whatever stands there stays, and the file can still be read; what cannot be added is said."""
    wanted = [*choices(), Setting(table=FILL, key='"t.x"', value=pasted.string("0"))]
    after = tomllib.loads("\n".join([file, *pasted.block(wanted, file)]))
    before = tomllib.loads(file)
    assert pruned(after, before) == before
    printed = "\n".join(pasted.block(wanted, file))
    for each in ('"t.new" = "t.old"', '"t.gone"', '"t.x" = "0"'):
        assert each in printed


def pruned(after: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return of a document what another one has."""
    return {
        key: pruned(after[key], value) if isinstance(value, dict) else after[key]
        for key, value in before.items()
    }


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("file", FILES)
def test_what_is_chosen_can_be_written(tmp_path: Path, file: str, end: str) -> None:
    """Each line that was there stays as it was, with its comment; the rest is added."""
    path = tmp_path / "pyproject.toml"
    path.write_bytes(f"# mine\n{file}".replace("\n", end).encode())
    wanted = [*choices(), Setting(table=FILL, key='"t.x"', value=pasted.string("0"))]
    change = writing.change(tmp_path, wanted)
    assert [each for each in change.diff() if each.startswith("-") and each[:3] != "---"] == [
        f"-{each}" for each in file.splitlines() if "leave" in each or "{" in each
    ]
    change.make()
    after = tomllib.loads(path.read_text())["tool"]["backset"]
    assert after["leave"] == ["t.a", "t.gone"]
    assert after["fill"]["t.x"] == "0"
    assert "t.new" not in after.get("rename", {}) | after["fill"]
    assert writing.change(tmp_path, wanted).diff() == []


def test_a_file_that_was_changed_meanwhile_stays(tmp_path: Path) -> None:
    """What somebody has just saved is not written over."""
    path = tmp_path / "pyproject.toml"
    change = writing.change(tmp_path, choices())
    path.write_text("# saved")
    with pytest.raises(StepFailedError, match="changed meanwhile"):
        change.make()
    assert path.read_text() == "# saved"
