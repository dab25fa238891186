"""The JSON Schemas in the package say what the code takes and tells."""

from __future__ import annotations

import json
import sys
import tomllib
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from backset.settings.settings import KEYS
from tests.project import REPOSITORY

sys.path.append(str(REPOSITORY / "scripts"))

import schemas

SETTINGS = Draft202012Validator(schemas.settings())
VALUES: list[Any] = [
    *("", "a", "all", "a b", "x" * 63, "x" * 64, 0, 1, -1, 1.5, True, None),
    *([], ["a"], ["a", "b"], [1], [None], "all", ["all"], [[]], [{}]),
    *({}, {"a": "b"}, {"a": ""}, {"a": 1}, {"a": -1}, {"a": ["b"]}, {"a": []}, {"a": None}),
    *([{"name": "x"}], [{"name": "x", "heads": "all"}], [{"name": "x", "heads": 1}]),
    *([{"name": "x", "surprise": 1}], [{"heads": "all"}]),
    [{"kind": "drift", "name": "x", "reason": "y", "until": "2099-01-01"}],
    [{"kind": "drift", "name": "x", "reason": "y"}],
    [{"kind": "", "name": "x", "reason": "y", "until": "2099-01-01"}],
]


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_the_files_are_what_the_code_says(name: str) -> None:
    """In the package and in the documentation; `python scripts/schemas.py` writes them."""
    Draft202012Validator.check_schema(schemas.SCHEMAS[name]())
    for folder in (schemas.FOLDER, REPOSITORY / "docs/reference"):
        assert (folder / name).read_text(encoding="utf-8") == schemas.text(name)


@pytest.mark.parametrize("key", KEYS)
def test_an_editor_says_of_a_value_what_backset_says(key: str) -> None:
    """Of its form: neither alarms nor is silent where the other one is not."""
    differ = [value for value in VALUES if is_taken(key, value) != is_valid(key, value)]
    assert differ == []


def is_taken(key: str, value: Any) -> bool:  # noqa: ANN401  (any value of TOML)
    """Tell whether the check of a key takes a value."""
    try:
        KEYS[key].check(value)
    except ValueError:
        return False
    return True


def is_valid(key: str, value: Any) -> bool:  # noqa: ANN401  (any value of TOML)
    """Tell whether the schema does."""
    try:
        SETTINGS.validate({key: value})
    except ValidationError:
        return False
    return True


def test_settings_that_work_are_valid() -> None:
    """Those of this repository and of every project of the tests."""
    for file in (
        REPOSITORY / "pyproject.toml",
        *REPOSITORY.glob("tests/projects/**/pyproject.toml"),
    ):
        table = tomllib.loads(file.read_text()).get("tool", {}).get("backset")
        if table is not None:
            SETTINGS.validate(json.loads(json.dumps(table, default=str)))


def test_a_key_that_does_not_exist_is_no_setting() -> None:
    """It would have no effect."""
    with pytest.raises(ValidationError):
        SETTINGS.validate({"sead": ["python"]})
