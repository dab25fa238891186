"""Where an orphaned revision went is found in real folders and repositories, and comes back."""

from __future__ import annotations

import os
import subprocess
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from backset.described import plain
from backset.errors import StepFailedError
from backset.revisions.orphans import trace
from backset.revisions.restore import joined, retrieve
from backset.revisions.script_files import Folders

if TYPE_CHECKING:
    from pathlib import Path

    from backset.revisions.history import Trace

SCRIPT = """'''{doc}'''

revision: str = "{id}"
down_revision = {down!r}


def upgrade():
    pass
"""
WHO = {
    f"GIT_{role}_{word}": text
    for role in ("AUTHOR", "COMMITTER")
    for word, text in (("NAME", "Ann"), ("EMAIL", "ann@example.org"), ("DATE", "2026-02-03T04:05Z"))
}
ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}


class Repository:
    """A git repository with a project in it; the steps of its history are the tests' own."""

    def __init__(self, top: Path, prefix: str = "") -> None:
        self.top, self.root = top, top / prefix
        self.versions = self.root / "alembic/versions"
        self.versions.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        """Run git at the top."""
        return subprocess.run(
            ["git", *arguments],
            cwd=self.top,
            env={**ENV, **WHO},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def write(self, revision: str, down: str | None = None, name: str = "") -> Path:
        """Write a script."""
        path = self.versions / (name or f"{revision}_x.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SCRIPT.format(doc=f"Step {revision}", id=revision, down=down))
        return path

    def commit(self, subject: str) -> str:
        """Commit everything; return the beginning of the commit's id."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", subject)
        return self.git("rev-parse", "--short=10", "HEAD").strip()

    def trace(self, revision: str) -> Trace:
        """Look for a revision as `status` does."""
        folders = Folders(self.root, (self.versions,), self.root / "backups")
        return trace(revision, folders, ENV)

    def bring_back(self, found: Trace) -> None:
        """Do it as `repair` does, and again by the command in a shell: the same comes of both."""
        assert found.recipe
        before = self.files()
        retrieve(found.recipe, ENV)
        after = self.files()
        new = after.keys() - before.keys()
        assert new == {each.home for each in found.recipe.items}
        assert before.items() <= after.items()
        for path in new:
            path.unlink()
        subprocess.run(["sh", "-ec", found.command], cwd=self.root, env=ENV, check=True)
        assert self.files() == after

    def names(self) -> list[str]:
        """Return what is in the folder of the scripts, sorted."""
        return sorted(path.name for path in self.versions.iterdir())

    def files(self) -> dict[Path, bytes]:
        """Return all files of the project with what is in them."""
        paths = (path for path in self.root.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in paths if ".git" not in path.parts}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository whose project has one script that stays."""
    made = Repository(tmp_path / "a project")
    made.write("base00", None)
    made.commit("Begin")
    return made


def test_a_removed_file(repository: Repository) -> None:
    """The commit, its author, its day, and what replaced the file are told; the command works."""
    path = repository.write("0dead0", "base00", "0002_without_its_id.py")
    kept = path.read_bytes()
    repository.commit("Add it")
    path.unlink()
    repository.write("feed00", "base00")
    removed = repository.commit("Squash 'all' of it")
    repository.write("cafe00", "feed00")
    repository.commit("Go on")
    found = repository.trace("0dead0")
    assert found.removal is not None
    (line,) = found.lines()
    assert line == (
        "alembic/versions/0002_without_its_id.py was removed by "
        f"{removed} \"Squash 'all' of it\" of Ann on 2026-02-03, "
        "which added feed00 (alembic/versions/feed00_x.py)"
    )
    assert plain(found)["removal"]["replaced_by"][0]["revision"] == "feed00"
    assert (found.doc, found.refs, found.companions, found.gaps) == ("Step 0dead0", (), (), ())
    repository.bring_back(found)
    assert path.read_bytes() == kept


def test_a_revision_of_one_digit(repository: Repository) -> None:
    """Numbered by hand, such an id is in every file; only its own line counts."""
    path = repository.write("1", "base00", "one.py")
    repository.write("2", "1", "two.py")
    (repository.root / "app.py").write_text("x = 1\n")
    repository.commit("Add them")
    path.unlink()
    removed = repository.commit("Remove one")
    (repository.root / "app.py").write_text("x = 1 + 1\nrevision = 11\n")
    repository.commit("Go on")
    found = repository.trace("1")
    assert found.removal is not None
    assert found.removal.commit.id.startswith(removed)
    assert found.command == f"git restore '--source={removed}^' -- alembic/versions/one.py"


def test_a_revision_that_was_given_another_id(repository: Repository) -> None:
    """The file is there, but its id was changed: the commit that did it is told."""
    path = repository.write("0dead0", "base00", "same.py")
    repository.commit("Add it")
    path.write_text(path.read_text().replace("0dead0", "feed00"))
    changed = repository.commit("Change its id")
    found = repository.trace("0dead0")
    assert found.removal is not None
    assert found.removal.commit.id.startswith(changed)
    assert "same.py was given another id by" in found.lines()[0]
    repository.bring_back(found)
    assert "feed00" in path.read_text()
    assert "0dead0" in (repository.versions / "same_0dead0.py").read_text()


def test_another_file_has_its_name_by_now(repository: Repository) -> None:
    """Numbered files have the same names in the old chain and in the new one: none is replaced."""
    first = repository.write("0dead0", "base00", "0001_initial.py")
    second = repository.write("0dead1", "0dead0", "0002_more.py")
    repository.commit("Add them")
    second.unlink()
    repository.write("feed00", None, "0001_initial.py")
    repository.commit("Squash")
    found = repository.trace("0dead1")
    repository.bring_back(found)
    assert "feed00" in first.read_text()
    assert second.exists()
    assert "0dead0" in (repository.versions / "0001_initial_0dead0.py").read_text()
    assert not repository.trace("0dead1").companions


def test_the_files_that_it_needs_come_back_with_it(repository: Repository) -> None:
    """A file alone would be no chain: those before it are named, and the command has them too."""
    paths = [
        repository.write("dead01", "base00"),
        repository.write("dead02", "dead01"),
        repository.write("dead03", "dead02"),
    ]
    repository.commit("Add them")
    for path in paths:
        path.unlink()
    repository.commit("Remove them")
    found = repository.trace("dead02")
    assert found.companions == ("dead01",)
    repository.bring_back(found)
    assert [path.exists() for path in paths] == [True, True, False]


def test_a_whole_squashed_chain(repository: Repository) -> None:
    """Twenty files come back by their folder, and nothing that is there is touched."""
    paths = [
        repository.write(f"dead{n:02}", f"dead{n - 1:02}" if n else "base00") for n in range(20)
    ]
    repository.commit("Add them")
    for path in paths:
        path.unlink()
    squash = repository.write("feed00", None)
    repository.commit("Squash")
    squash.write_text("# being edited\n")
    repository.bring_back(repository.trace("dead19"))
    assert all(path.exists() for path in paths)
    assert squash.read_text() == "# being edited\n"


def test_a_renamed_file(repository: Repository) -> None:
    """A file that moved out of Alembic's sight: both names, and a copy from where it is now."""
    path = repository.write("0dead0", "base00")
    repository.commit("Add it")
    (repository.root / "versions_backup").mkdir()
    repository.git("mv", "alembic/versions/0dead0_x.py", "versions_backup/0dead0_x.py")
    repository.commit("Tidy up")
    found = repository.trace("0dead0")
    assert found.removal is not None
    assert found.removal.renamed_to == "versions_backup/0dead0_x.py"
    assert found.copies == ("versions_backup/0dead0_x.py",)
    assert found.refs == ("main",)
    assert found.command == "cp versions_backup/0dead0_x.py alembic/versions/"
    repository.bring_back(found)
    assert path.exists()


def test_a_file_of_another_branch(repository: Repository) -> None:
    """Somebody migrated on a branch and went back: its branches and tags are named."""
    repository.git("switch", "-q", "-c", "feature/x")
    path = repository.write("0dead0", "base00")
    repository.commit("Add it")
    repository.git("tag", "v1")
    repository.git("switch", "-q", "main")
    assert not path.exists()
    found = repository.trace("0dead0")
    assert (found.removal, found.refs) == (None, ("feature/x", "v1"))
    assert found.command == "git restore --source=feature/x -- alembic/versions/0dead0_x.py"
    repository.bring_back(found)
    assert path.exists()


def test_a_file_that_was_deleted_and_not_committed(repository: Repository) -> None:
    """The nearest case: HEAD still has it."""
    path = repository.write("0dead0", "base00")
    repository.commit("Add it")
    path.unlink()
    found = repository.trace("0dead0")
    assert found.uncommitted == "alembic/versions/0dead0_x.py"
    assert found.command == "git restore --source=HEAD -- alembic/versions/0dead0_x.py"


def test_a_branch_that_was_deleted(repository: Repository) -> None:
    """No ref has it any more, but the reflog remembers."""
    repository.git("switch", "-q", "-c", "gone")
    path = repository.write("0dead0", "base00")
    commit = repository.commit("Add it")
    repository.git("switch", "-q", "main")
    repository.git("branch", "-q", "-D", "gone")
    found = repository.trace("0dead0")
    assert found.refs == ()
    assert commit in found.command
    repository.bring_back(found)
    assert path.exists()


def test_a_merge_that_dropped_it(repository: Repository) -> None:
    """A file that got lost while conflicts were resolved is no ordinary removal in the log."""
    repository.git("switch", "-q", "-c", "topic")
    repository.write("cafe00", "base00")
    repository.commit("Topic")
    repository.git("switch", "-q", "main")
    path = repository.write("0dead0", "base00")
    repository.commit("Add it")
    repository.git("merge", "-q", "--no-commit", "--no-ff", "topic")
    repository.git("rm", "-q", "-f", "alembic/versions/0dead0_x.py")
    merge = repository.commit("Merge topic")
    found = repository.trace("0dead0")
    assert found.removal is not None
    assert found.removal.commit.id.startswith(merge)
    repository.bring_back(found)
    assert path.exists()


def test_the_folder_has_moved_meanwhile(repository: Repository) -> None:
    """What was once in another folder is written where Alembic looks today."""
    old = repository.write("0dead0", "base00", "../../db migrations/0dead0_x.py")
    repository.commit("Add it")
    old.unlink()
    repository.commit("Remove it")
    repository.bring_back(repository.trace("0dead0"))
    assert (repository.versions / "0dead0_x.py").exists()


def test_a_project_in_a_folder_of_its_repository(tmp_path: Path) -> None:
    """The command is for the project's folder, not for the repository's top."""
    repository = Repository(tmp_path, "services/api é")
    path = repository.write("0dead0")
    repository.commit("Add it")
    path.unlink()
    repository.commit("Remove it")
    found = repository.trace("0dead0")
    assert found.command.endswith("-- alembic/versions/0dead0_x.py")
    repository.bring_back(found)
    assert path.exists()


def test_nothing_has_it(repository: Repository) -> None:
    """A child's down_revision and a text that names it are not its file."""
    repository.write("cafe00", "0dead0")
    (repository.root / "notes.py").write_text("# 0dead0\n")
    repository.commit("Mention it")
    found = repository.trace("0dead0")
    assert not found.is_found
    assert found.lines() == ["no folder, no commit and no backup here has its file"]


def test_a_shallow_clone(repository: Repository, tmp_path: Path) -> None:
    """What a cut history cannot tell is said."""
    path = repository.write("0dead0", "base00")
    repository.commit("Add it")
    path.unlink()
    repository.commit("Remove it")
    repository.top = tmp_path
    repository.git("clone", "-q", "--depth=1", f"file://{repository.root}", "clone")
    repository.root = tmp_path / "clone"
    repository.versions = repository.root / "alembic/versions"
    found = repository.trace("0dead0")
    assert not found.is_found
    assert "git fetch --unshallow" in found.lines()[-1]


def test_without_a_repository_and_without_git(tmp_path: Path) -> None:
    """The folders are searched all the same, and the rest is said."""
    versions = tmp_path / "alembic/versions"
    (tmp_path / "versions_old").mkdir()
    (tmp_path / ".venv/lib").mkdir(parents=True)
    text = SCRIPT.format(doc="x", id="0dead0", down=None)
    (tmp_path / "versions_old/0dead0.py").write_text(text)
    (tmp_path / ".venv/lib/0dead0.py").write_text(text)
    folders = Folders(tmp_path, (versions,), tmp_path / "backups")
    found = trace("0dead0", folders, {**ENV, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)})
    assert found.copies == ("versions_old/0dead0.py",)
    assert found.gaps == ("git's history: the project is in no git repository",)
    found = trace("0dead0", folders, {"PATH": str(tmp_path)})
    assert "git cannot be started" in found.gaps[0]
    assert found.command == "cp versions_old/0dead0.py alembic/versions/"


STRANGE = 'it\'s a "x" $(touch y) é; #1.py'


@pytest.mark.parametrize("way", ["restored", "moved", "copied", "unpacked"])
def test_a_name_with_spaces_and_quotes(repository: Repository, way: str) -> None:
    """No character of a name means anything, by the command or without it; bytes stay bytes."""
    folder = "../../old 'place'/" if way == "moved" else ""
    path = repository.write("0dead0", "base00", f"{folder}{STRANGE}")
    content = path.read_bytes() + "# é\r\n\x0c".encode() + b"# \xe9 without an end"
    path.write_bytes(content)
    if way == "copied":
        (repository.root / "old 'place'").mkdir()
        path.rename(repository.root / f"old 'place'/{STRANGE}.bak")
    elif way == "unpacked":
        (repository.root / "backups").mkdir()
        with tarfile.open(repository.root / "backups/it's 1.tar", "w") as tar:
            tar.add(path, arcname=f"old/{STRANGE}")
        path.unlink()
    else:
        repository.commit("Add it")
        path.unlink()
        repository.commit("Remove it")
    repository.bring_back(repository.trace("0dead0"))
    assert (repository.versions / STRANGE).read_bytes() == content
    assert not list(repository.root.rglob("y"))


def test_what_a_checkout_would_write(repository: Repository) -> None:
    """The filters of .gitattributes apply, as they do for `git restore`."""
    (repository.root / ".gitattributes").write_text("*.py text eol=crlf\n")
    path = repository.write("0dead0", "base00")
    repository.commit("Add it")
    path.unlink()
    repository.bring_back(repository.trace("0dead0"))
    assert b"\r\n" in path.read_bytes()


def two_gone(repository: Repository) -> list[Path]:
    """Remove two scripts, the second of which needs the first."""
    paths = [repository.write("dead01", "base00"), repository.write("dead02", "dead01")]
    repository.commit("Add them")
    for path in paths:
        path.unlink()
    repository.commit("Remove them")
    return paths


def test_no_file_is_written_over(repository: Repository) -> None:
    """What came meanwhile stays, and none of the others is brought back either."""
    paths = two_gone(repository)
    found = repository.trace("dead02")
    assert found.recipe
    for taken in paths:
        taken.symlink_to("nowhere")
        with pytest.raises(StepFailedError, match="File exists"):
            retrieve(found.recipe, ENV)
        assert repository.names() == ["base00_x.py", taken.name]
        assert taken.readlink().name == "nowhere"
        taken.unlink()


def test_no_link_leads_out_of_the_project(repository: Repository, tmp_path: Path) -> None:
    """A folder that has become a symlink, and one that is elsewhere, get nothing."""
    two_gone(repository)
    found = repository.trace("dead02")
    assert found.recipe
    outside = tmp_path / "outside"
    repository.versions.rename(outside)
    repository.versions.symlink_to(outside)
    with pytest.raises(StepFailedError, match="alembic/versions: "):
        retrieve(found.recipe, ENV)
    repository.versions.unlink()
    home = repository.root / "../outside/x.py"
    (item, *_others) = found.recipe.items
    recipe = replace(found.recipe, items=(replace(item, home=home),))
    with pytest.raises(StepFailedError, match="is not in the project"):
        retrieve(recipe, ENV)
    assert [path.name for path in outside.iterdir()] == ["base00_x.py"]


def test_a_copy_that_has_changed_meanwhile(repository: Repository) -> None:
    """What is another revision by now, or a symlink, is not brought back as the missing one."""
    copy = repository.write("0dead0", "base00", "../../old/x.py")
    found = repository.trace("0dead0")
    assert found.recipe
    copy.write_text("# emptied\n")
    with pytest.raises(StepFailedError, match="is not revision 0dead0 by now"):
        retrieve(found.recipe, ENV)
    copy.unlink()
    copy.symlink_to(repository.versions / "base00_x.py")
    with pytest.raises(StepFailedError, match="old/x"):
        retrieve(found.recipe, ENV)
    assert repository.names() == ["base00_x.py"]


def test_two_revisions_that_need_the_same_file(repository: Repository) -> None:
    """It comes back once, by the command too."""
    two_gone(repository)
    found = [repository.trace(revision).recipe for revision in ("dead01", "dead02")]
    recipe = joined(each for each in found if each)
    assert recipe.command.count("dead01_x.py") == 1
    retrieve(recipe, ENV)
    assert not repository.trace("dead02").companions
    assert repository.names() == ["base00_x.py", "dead01_x.py", "dead02_x.py"]


def two_generations(repository: Repository, down: str | None = "base00") -> tuple[str, str]:
    """Remove a script, and later another one of the same id; return the commits that did it."""
    first = repository.write("003", "base00", "003_users.py")
    repository.commit("Add users")
    first.unlink()
    removed = repository.commit("Squash")
    second = repository.write("003", "002b", "003_orders.py")
    second.write_text(second.read_text().replace("Step 003", "Orders"))
    between = repository.write("002b", down)
    repository.commit("Add orders")
    second.unlink()
    if down is None:
        between.unlink()
    return removed, repository.commit("Drop orders")


def test_of_two_scripts_with_one_id_that_which_fits_comes_back(repository: Repository) -> None:
    """Both are named with their commits, and all evidence is of the one that the command brings."""
    _squash, dropped = two_generations(repository)
    found = repository.trace("003")
    several, line = found.lines()
    assert several.startswith("2 scripts have had this id: alembic/versions/003_orders.py of ")
    assert "(after 002b, 'Orders'); alembic/versions/003_users.py of " in several
    assert several.count(repository.git("rev-parse", "--short=10", f"{dropped}^").strip()) == 2
    assert line.startswith(f"alembic/versions/003_orders.py was removed by {dropped} 'Drop orders'")
    assert found.doc == "Orders"
    repository.bring_back(found)
    assert repository.names() == ["002b_x.py", "003_orders.py", "base00_x.py"]


def test_of_two_scripts_with_one_id_the_older_one_may_be_the_one(repository: Repository) -> None:
    """Not the last that was removed, but the one whose ancestors are there."""
    squash, _dropped = two_generations(repository, None)
    found = repository.trace("003")
    assert found.removal is not None
    assert found.removal.commit.id.startswith(squash)
    assert [each["meant"] for each in plain(found)["generations"]] == [False, True]
    repository.bring_back(found)
    assert repository.names() == ["003_users.py", "base00_x.py"]


def test_of_two_scripts_that_both_fit_a_person_chooses(repository: Repository) -> None:
    """One was removed here, another one is on a branch: nothing is brought back by guess."""
    repository.git("switch", "-q", "-c", "feature")
    repository.write("003", "base00", "003_orders.py").write_text(
        SCRIPT.format(doc="Orders", id="003", down="base00")
    )
    repository.commit("Add orders")
    repository.git("switch", "-q", "main")
    path = repository.write("003", "base00", "003_users.py")
    repository.commit("Add users")
    path.unlink()
    removed = repository.commit("Remove users")
    found = repository.trace("003")
    assert (found.recipe, found.refs, found.removal) == (None, (), None)
    several, first, second = found.lines()
    assert "it does not show which of them has run here" in several
    assert first.endswith(f"git restore '--source={removed}^' -- alembic/versions/003_users.py")
    assert second.endswith("git restore --source=feature -- alembic/versions/003_orders.py")
    (repository.root / "versions_old").mkdir()
    (repository.root / "versions_old/003_orders.py").write_text(
        SCRIPT.format(doc="Orders", id="003", down="gone00")
    )
    assert len(plain(repository.trace("003"))["generations"]) == 3


def test_an_edited_and_a_moved_script_are_the_same_one(repository: Repository) -> None:
    """What was changed in place, and then renamed on a branch, is no second script."""
    path = repository.write("003", "base00", "003_users.py")
    repository.commit("Add users")
    path.write_text(path.read_text() + "# mended\n")
    repository.commit("Mend users")
    repository.git("switch", "-q", "-c", "feature")
    repository.git("mv", "alembic/versions/003_users.py", "alembic/versions/0003_users.py")
    repository.commit("Rename")
    repository.git("switch", "-q", "main")
    path.unlink()
    repository.commit("Remove users")
    found = repository.trace("003")
    assert found.generations == ()
    assert found.refs == ("feature",)
    repository.bring_back(found)
    assert "# mended" in path.read_text()


def test_another_project_of_the_repository_has_the_same_id(tmp_path: Path) -> None:
    """Numbered by hand, ids are the same in each service; only those of this one are meant."""
    repository = Repository(tmp_path, "services/api")
    other = repository.write("003", "002", "../../../../services/web/alembic/003_other.py")
    path = repository.write("003")
    repository.commit("Add them")
    path.unlink()
    other.unlink()
    repository.commit("Remove them")
    found = repository.trace("003")
    assert found.generations == ()
    repository.bring_back(found)
    assert path.exists()
