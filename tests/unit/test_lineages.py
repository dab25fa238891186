"""The chains of revisions of a database are read whole, or said to be wrong in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backset.errors import SettingsError
from backset.settings.reader import load
from backset.settings.values import Lineage

if TYPE_CHECKING:
    from pathlib import Path

TWO = """
heads = "all"
[[tool.backset.chains]]
name = "core"
heads = ["4f1c", "97ab"]
[[tool.backset.chains]]
name = "billing"
config = "billing/alembic.ini"
section = "billing"
arguments = ["tenant=a"]
version_table = "billing_version"
schema = "billing"
upgrade = ["billing", "db", "upgrade"]
init = ["billing", "db", "create"]
ini = {"billing.url" = "{url}"}
"""


def write(folder: Path, table: str) -> Path:
    """Make a project of one file."""
    (folder / "pyproject.toml").write_text(f"[tool.backset]\n{table}")
    return folder


def test_without_a_table_there_is_one(tmp_path: Path) -> None:
    """It has no name, so that nothing names it in front of a person."""
    (only,) = load(write(tmp_path, 'heads = ["a", "b"]'), {}).lineages
    assert only == Lineage(heads=("a", "b"))
    assert only.label == ""


def test_the_table_keeps_its_order_and_the_single_keys_are_its_defaults(tmp_path: Path) -> None:
    """The chains are migrated as they stand there."""
    core, billing = load(write(tmp_path, TWO), {}).lineages
    assert core == Lineage(name="core", heads=("4f1c", "97ab"))
    assert billing == Lineage(
        name="billing",
        config="billing/alembic.ini",
        section="billing",
        arguments=("tenant=a",),
        version_table="billing_version",
        schema="billing",
        upgrade=("billing", "db", "upgrade"),
        init=("billing", "db", "create"),
        ini={"billing.url": "{url}"},
        heads=("heads",),
    )
    assert billing.label == "billing: "


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('chains = "core"', "tables that begin with [[tool.backset.chains]]"),
        ("chains = [{}]", "with a name in table 1"),
        ('chains = [{name = "a"}, {name = "a"}]', "a name of its own in each"),
        ('chains = [{name = "a", scheme = "b"}]', "without 'scheme' in table 1"),
        ('chains = [{name = "a", heads = 3}]', "with heads in table 1 as a list of revisions"),
        ('chains = [{name = "a", ini = {x = "{y}"}}]', "with ini in table 1 as a table of texts"),
        ("heads = 3", 'a list of revisions, such as ["4f1c", "97ab"], or "all"'),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, table: str, said: str) -> None:
    """One line, with the table's number and the key."""
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, table), {})
    (line,) = caught.value.lines()
    assert said in line


@pytest.mark.parametrize("text", ["flask db upgrade", '["flask", "db", "upgrade"]'])
def test_commands_can_be_said_by_a_variable(tmp_path: Path, text: str) -> None:
    """As a command line, like the seed."""
    said = {"BACKSET_UPGRADE": text, "BACKSET_HEADS": "all"}
    settings = load(write(tmp_path, ""), said)
    assert settings.upgrade == ("flask", "db", "upgrade")
    assert settings.lineages[0].heads == ("heads",)
