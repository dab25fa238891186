"""What a migration script says of itself is read from its text, whatever its style."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backset.revisions.git import _commits
from backset.revisions.restore import from_folder, from_git, from_tar
from backset.revisions.script_files import Folders, Revision, ancestry, by_id, parse, pattern

FOLDERS = Folders(Path("/p"), (Path("/p/alembic/versions"),), Path("/p/backups"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("revision = 'a1'\ndown_revision = None\n", ("a1", (), (), ())),
        ('revision: str = "a1"\ndown_revision: Union[str, None] = "b2"\n', ("a1", ("b2",), (), ())),
        ("revision, down_revision = 'a1', 'b2'\n", ("a1", ("b2",), (), ())),
        (
            'revision = "a"\ndown_revision = (\n"b",\n"c")\ndepends_on = ["d"]\nbranch_labels="w"',
            ("a", ("b", "c"), ("d",), ("w",)),
        ),
        ("revision = u'a1'\ndown_revision = None\nprint 'python 2'\n", ("a1", (), (), ())),
        ("revision = 'a1'\ndown_revision = 'b2'  # see \\d\nx = '\\d'\n", ("a1", ("b2",), (), ())),
    ],
)
def test_a_script_is_read_and_not_run(
    text: str, expected: tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]
) -> None:
    """Plain, annotated, in a tuple, over several lines, of Python 2, with bad escapes."""
    found = parse(text)
    assert found is not None
    assert (found.id, found.down, found.depends_on, found.labels) == expected


@pytest.mark.parametrize(
    "text",
    ["", "x = 1", "revision = 'a1'", "down_revision = 'a1'", "def f():\n    revision = 'a1'\n"],
)
def test_other_files_are_no_scripts(text: str) -> None:
    """A script has both its own revision and the one before it, at the module's level."""
    assert parse(text) is None


def test_the_first_line_of_the_docstring_is_its_title() -> None:
    """That is what a person knows a migration by."""
    text = '"""\nAdd tasks\n\nRevision ID: a1\n"""\nrevision = "a1"\ndown_revision = None\n'
    assert parse(text, Path("x.py")) == Revision(id="a1", doc="Add tasks", path=Path("x.py"))


@pytest.mark.parametrize(
    ("line", "matches"),
    [
        ('revision = "a.1"', True),
        ("revision: str = 'a.1'", True),
        ("revision='a.1'", True),
        ('revision = "ax1"', False),
        ('down_revision = "a.1"', False),
        ('revision = "a.12"', False),
    ],
)
def test_the_pattern_finds_the_line_of_the_id(line: str, *, matches: bool) -> None:
    """Neither a child's down_revision nor a longer id is taken for it."""
    assert bool(re.search(pattern("a.1"), line)) is matches


def test_ancestry_ends_in_a_circle_too() -> None:
    """Everything needed is found once, over branches, dependencies and circles."""
    given = [
        Revision(id="a", down=("b", "c")),
        Revision(id="b", down=("d",)),
        Revision(id="c", depends_on=("d", "elsewhere")),
        Revision(id="d", down=("a",)),
        Revision(id="e", down=("a",)),
    ]
    assert {each.id for each in ancestry("a", by_id(given))} == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("versions_backup/a1.py", "cp versions_backup/a1.py alembic/versions/"),
        ("alembic/versions/a1.py.bak", "cp alembic/versions/a1.py.bak alembic/versions/a1.py"),
        ("old/a 1.py~", "cp 'old/a 1.py~' 'alembic/versions/a 1.py'"),
        ("old/a1.bak", "cp old/a1.bak alembic/versions/a1.py"),
    ],
)
def test_the_command_for_a_folder(path: str, command: str) -> None:
    """The copy gets a name under which Alembic loads it."""
    assert from_folder([Revision(id="a1", path=Path("/p") / path)], FOLDERS, ()).command == command


@pytest.mark.parametrize(
    ("path", "prefix", "command"),
    [
        ("alembic/versions/a1.py", "", "git restore '--source=c0ff^' -- alembic/versions/a1.py"),
        ("a/alembic/versions/b.py", "a/", "git restore '--source=c0ff^' -- alembic/versions/b.py"),
        ("db/a 1.py", "", "git cat-file --filters 'c0ff^:db/a 1.py' > 'alembic/versions/a 1.py'"),
        ("a/b.py", "x/", "git cat-file --filters 'c0ff^:a/b.py' > alembic/versions/b.py"),
    ],
)  # fmt: skip
def test_the_command_for_git(path: str, prefix: str, command: str) -> None:
    """A file whose folder Alembic no longer looks into is written where it does."""
    scripts = [Revision(id="a1", path=Path(path))]
    assert from_git(scripts, "c0ff^", prefix, FOLDERS, ()).command == command


def test_many_files_are_named_by_their_folder() -> None:
    """A squashed chain of a hundred files comes back with one line that can be read."""
    scripts = [Revision(id=f"a{n}", path=Path(f"alembic/versions/a{n}.py")) for n in range(100)]
    gone = {each.path.as_posix() for each in scripts}
    command = from_git(scripts, "c0ff^", "", FOLDERS, (), gone).command
    assert "a99.py" not in command
    assert "a99.py" in from_git(scripts, "c0ff^", "", FOLDERS, (), {*gone, "README"}).command
    assert "--diff-filter=D 'c0ff^' -- alembic/versions | xargs -0 git restore" in command


def test_the_command_for_an_archive() -> None:
    """A tar of the backup folder is unpacked in the project's root."""
    tar = Path("/p/backups/x.tar")

    def of(*paths: str) -> str:
        scripts = [Revision(id=path, path=Path(path)) for path in paths]
        return from_tar(scripts, tar, FOLDERS, ()).command

    assert of("alembic/versions/a1.py") == "tar -xf backups/x.tar alembic/versions/a1.py"
    assert of("old/x/a1.py", "old/x/a2.py") == (
        "tar -xf backups/x.tar -C alembic/versions --strip-components=2 old/x/a1.py old/x/a2.py"
    )
    assert of("old/a1.py~") == "tar -xOf backups/x.tar 'old/a1.py~' > alembic/versions/a1.py"


def test_no_command_replaces_a_file() -> None:
    """A name that is taken gets the revision's id, or `old_` where it has that already."""
    taken = {Path("/p/alembic/versions") / name for name in ("0001.py", "a1_x.py")}
    scripts = [
        Revision(id="a1", path=Path("/p/old/0001.py")),
        Revision(id="a1", path=Path("/p/old/a1_x.py")),
    ]
    assert from_folder(scripts, FOLDERS, taken).command == (
        "cp old/0001.py alembic/versions/0001_a1.py && cp old/a1_x.py alembic/versions/old_a1_x.py"
    )


def test_what_git_log_prints_is_read() -> None:
    """Quoted paths, a subject that looks like anything, and a commit without a parent."""
    lines = [
        "\x01c2\x02c1\x02Ann\x022026-01-02T03:04:05+01:00\x02D\tof 'x'",
        "",
        "D\talembic/versions/a.py",
        'A\t"old/\\303\\251 \\"x\\".py"',
        "M\tb.py",
        "\x01c1\x02\x02Bob\x022026-01-01T00:00:00Z\x02",
        "A\talembic/versions/a.py",
    ]
    second, first = _commits(lines)
    assert (second.removed, second.added, second.changed) == (
        ("alembic/versions/a.py",),
        ('old/é "x".py',),
        ("b.py",),
    )
    assert (second.subject, second.parents) == ("D\tof 'x'", ("c1",))
    assert (first.parents, first.author, first.subject) == ((), "Bob", "")
