"""`invoke report`, and `--report` of a rebuild: a page is written, and nothing else is changed."""

from __future__ import annotations

import json
import os
import re
import stat
from typing import TYPE_CHECKING

import pytest

from backset.connections.target import Target
from tests import report_pages
from tests.project import Project, prints
from tests.states import broken, rebuilt

if TYPE_CHECKING:
    from pathlib import Path


def page_of(project: Project) -> str:
    """Return the page where it is written without `--output`."""
    return (project.folder / ".backset/report.html").read_text(encoding="utf-8")


def test_a_page_is_written_and_nothing_is_changed(project: Project) -> None:
    """Its path is told; only its owner may read it, and git does not see it."""
    rebuilt(project)
    before = prints(project)
    done = project.invoke("report")
    assert (done.returncode, done.stderr) == (0, "")
    path = project.folder / ".backset/report.html"
    assert re.fullmatch(rf" page      {path} \([\d.]+ kB\)\n", done.stdout)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (path.parent / ".gitignore").read_text() == "*\n"
    text = page_of(project)
    for each in (
        "0b228e9fec0b",
        "◆ database",
        "task_outputs",
        "→ tasks</a>",
        "✔ at head",
        "30 rows",
    ):
        assert each in text, each
    assert prints(project) == before


def test_a_plan_writes_nothing(project: Project) -> None:
    """It says where the page would be."""
    done = project.invoke("report", "--plan", "--output", "there/page.html")
    assert "would write there/page.html" in done.stdout
    assert not (project.folder / "there").exists()
    assert not (project.folder / ".backset").exists()


def test_a_folder_is_no_page(project: Project) -> None:
    """That is said before a run begins: nothing is changed."""
    before = prints(project)
    for words in (["reset-db", "--report=app"], ["report", "--output", "app"]):
        done = project.invoke(*words)
        assert done.returncode == 2
        assert "app is a folder → name a file for the page" in done.stderr
    assert prints(project) == before


def test_a_page_takes_the_place_of_pages_only(project: Project) -> None:
    """Neither that of a script, nor that of /dev/null, which root could take away."""
    os.mkfifo(project.folder / "pipe")
    (project.folder / "own.py").write_text("print()\n")
    for name in ("pipe", "own.py"):
        done = project.invoke("report", "--output", name)
        assert done.returncode == 2
        assert f"{name} is there, and is no page → name another file" in done.stderr
    assert (project.folder / "pipe").is_fifo()
    assert (project.folder / "own.py").read_text() == "print()\n"


def test_a_page_that_cannot_be_written_fails_no_run(project: Project) -> None:
    """The rebuild is done by then; a line says what became of the page."""
    path = project.folder / "page.html"
    script = project.folder / "scripts/add_mock_task_data.py"
    made = "import pathlib\npathlib.Path('page.html').mkdir()\n"
    script.write_text(
        script.read_text().replace("import argparse\n", f"import argparse\n{made}", 1)
    )
    done = project.invoke("reset-db", "--report=page.html")
    assert path.is_dir()
    assert done.returncode == 0, done.stderr
    assert f"no page was written: {path}: Is a directory" in done.stdout


def test_an_orphaned_database_is_shown(project: Project) -> None:
    """The page is for the day when something is wrong: that is no failure of the task."""
    broken(project)
    done = project.invoke("report", "--json")
    content = json.loads(done.stdout)
    assert done.returncode == content["exit_code"] == 0
    assert content["page"]["size_bytes"] == len(page_of(project).encode())
    text = page_of(project)
    for each in ("orphaned revision", "cf94a9256bdb", "✗ orphaned", "invoke repair"):
        assert each in text, each


def test_drift_is_marked_on_its_table(project: Project) -> None:
    """On the column, too; what only the models have is drawn as well."""
    rebuilt(project)
    project.query(
        "ALTER TABLE tasks ALTER COLUMN prompt TYPE varchar(9000); DROP TABLE task_outputs"
    )
    assert project.invoke("report").returncode == 0
    text = page_of(project)
    assert "only the models have it" in text
    assert re.search(r'<b>prompt</b> <abbr title="drift">▲ drift</abbr>', text)


def test_a_rebuild_tells_its_steps_on_a_page(project: Project, tmp_path: Path) -> None:
    """With the times, and the rows before and after; the rebuild is what it was."""
    rebuilt(project)
    file = tmp_path / "pages/run.html"
    done = project.invoke("reset-db", "--carry", f"--report={file}", "--json")
    content = json.loads(done.stdout)
    assert (done.returncode, content["page"]["file"]) == (0, str(file))
    assert all(each["began"] >= 0 for each in content["steps"])
    text = file.read_text(encoding="utf-8")
    for each in content["steps"]:
        assert f'<div class="name">{each["step"]}</div>' in text
    for each in ("before", "carried", "now"):
        assert f'class="num">{each}</th>' in text
    saved = tmp_path / "run.json"
    saved.write_text(done.stdout)
    assert project.invoke("report", "--run", str(saved)).returncode == 0
    assert '<div class="name">promote</div>' in page_of(project)


def test_a_rebuild_that_fails_has_a_page_too(project: Project) -> None:
    """With the step that failed, and what it said; the exit code is the run's."""
    rebuilt(project)
    project.configure('"python", "scripts/add_mock_task_data.py"', '"false"')
    done = project.invoke("reset-db", "--report")
    assert done.returncode == 4
    assert "page      " in done.stdout
    text = page_of(project)
    assert "✗ reset-db failed" in text
    assert '<li class="failed">\n<div class="name">seed</div>' in text
    name = Target.parse(project.url).database
    assert f"{name} is as it was" in text


def test_a_server_that_is_not_there_is_shown(project: Project) -> None:
    """The scripts are drawn all the same."""
    url = "postgresql://me:s3cret-word!@127.0.0.1:1/shop"
    done = project.invoke("report", DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    text = page_of(project)
    assert "a server that is not reached" in text
    assert "0b228e9fec0b" in text
    assert "s3cret-word" not in text + done.stdout


def test_a_run_that_cannot_be_read_is_refused(project: Project) -> None:
    """Before anything is asked: which file, and what to give."""
    done = project.invoke("report", "--run", "tasks.py")
    assert done.returncode == 4
    assert "tasks.py is no report of a run" in done.stderr
    assert "invoke reset-db --json" in done.stderr
    assert project.invoke("report", "--run", "nowhere.json").returncode == 4


@pytest.mark.skipif(not report_pages.CHROMIUM, reason="no browser is here")
def test_a_browser_shows_the_page(project: Project) -> None:
    """Without a word on its console, and without a request to anywhere."""
    rebuilt(project)
    assert project.invoke("report").returncode == 0
    with report_pages.browser() as browser:
        shown, complaints = report_pages.watched(browser)
        shown.goto((project.folder / ".backset/report.html").as_uri())
        assert shown.locator(".rev.here").inner_text().count("0b228e9fec0b") == 1
        shown.get_by_role("searchbox", name="Search tables").fill("prompt")
        assert shown.locator(".entity.chosen h3").inner_text().startswith("tasks")
        assert complaints == []
