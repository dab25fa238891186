"""What of a configuration is meant is said, where Alembic's own words leave it open."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.project import PROJECTS, laid_down, prints
from tests.situations import MORE, built

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project import Project

SECTIONS = """
[alembic]
prepend_sys_path = .
[core]
script_location = %(here)s/migrations
[tenant]
script_location = %(here)s/tenant
"""


@pytest.mark.slow
def test_sections_of_which_none_is_alembic_s_own(tmp_path: Path, database_url: str) -> None:
    """The line names those with scripts, and what chooses one of them or all."""
    project = laid_down(tmp_path / "p", "thread", database_url)
    (project.folder / "alembic.ini").write_text(SECTIONS)
    for task in ("reset-db", "status"):
        done = project.invoke(task)
        assert (done.returncode, len(done.stderr.splitlines())) == (4, 1), done
        assert "alembic.ini: [alembic] has no script_location; [core], [tenant] have" in done.stderr
        assert '`alembic -n NAME` does: [tool.backset] section = "NAME"' in done.stderr
    done = project.invoke("reset-db", BACKSET_SECTION="core")
    assert done.returncode == 0, done
    done = project.invoke("status", BACKSET_SECTION="other")
    assert "[other] has no script_location; [core], [tenant] have" in done.stderr


def sorted_by_year(tmp_path: Path, url: str) -> tuple[Project, Path]:
    """Put a revision into a folder below, where Alembic does not look by itself."""
    project = laid_down(tmp_path / "p", "states", url)
    year = project.folder / "migrations/versions/2024"
    year.mkdir()
    shutil.move(year.parent / "c1_notes.py", year)
    return project, year


@pytest.mark.slow
def test_scripts_in_folders_below(tmp_path: Path, database_url: str) -> None:
    """The heads of the folder alone are not taken for those of all without a word."""
    project, year = sorted_by_year(tmp_path, database_url)
    shutil.copy(PROJECTS / "states/models.py", project.folder)
    project.env["BACKSET_HEADS"] = "b1"
    done = project.invoke("upgrade")
    assert done.returncode == 0, done
    told = " scripts   1 script in folders below (2024) not loaded: see recursive_version_locations"
    assert told in project.invoke("status").stdout
    done = project.invoke("reset-db", "--accept")
    assert "scripts below: 1 script in folders below (2024) not loaded" in done.stdout, done
    assert "recursive_version_locations = true" in done.stdout
    (year / "README.py").write_text("")
    assert told in project.invoke("status").stdout


def test_a_revision_in_a_folder_below(tmp_path: Path, database_url: str) -> None:
    """Where the database names it, and it makes the chain whole, nothing is repaired but that."""
    project, year = sorted_by_year(tmp_path, database_url)
    ini = project.folder / "alembic.ini"
    plain = ini.read_text()
    ini.write_text(f"{plain}\nrecursive_version_locations = true\n")
    done = project.invoke("reset-db")
    assert done.returncode == 0, done
    ini.write_text(plain)
    done = project.invoke("repair", "--yes")
    assert done.returncode == 6, done
    assert "broken chain: migrations: 1 script in folders below (2024) not loaded, of which" in (
        done.stdout
    )
    assert "cure      with them the chain is whole: recursive_version_locations = true" in (
        done.stdout
    )
    assert project.query("SELECT version_num FROM alembic_version") == [("c1",)]
    (year / "z9_old.py").write_text(MORE.format("z9", None))  # of a chain that was squashed away
    assert "orphaned revision" in project.invoke("status").stdout


def test_two_applications_in_one_version_table(tmp_path: Path, database_url: str) -> None:
    """The other one's row and tables are named as such, and its row is not purged by a repair."""
    project = laid_down(tmp_path / "p", "states", database_url)
    built(project)
    project.query("INSERT INTO alembic_version VALUES ('9e0')")
    project.query("CREATE TABLE geo_user (id int); INSERT INTO geo_user VALUES (1), (2)")
    before = prints(project)
    found = project.invoke("repair", "--yes")
    assert found.returncode == 6, found
    assert " state     orphaned revision: alembic_version names 9e0, which no" in found.stdout
    assert " evidence  no model and no revision here knows geo_user\n" in found.stdout
    assert "if 9e0 is of another application, give one of the two a version table" in found.stdout
    assert prints(project) == before
    plan = project.invoke("reset-db", "--plan").stdout
    aside = f"no migration names geo_user 2: only {project.database}__previous would have these"
    assert aside in plan, plan
    assert "only the backup would have" in project.invoke("reset-db", "--plan", "--in-place").stdout
