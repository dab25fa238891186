"""How each state of a database comes about, in the project `states`."""

from __future__ import annotations

import py_compile
import shutil
from typing import TYPE_CHECKING

from backset.connections.target import Target
from tests.clusters import free_port
from tests.git import commit, git
from tests.incident.project import run_alembic
from tests.states import migrated

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project import Project

MORE = "revision, down_revision = {0!r}, {1!r}\ndef upgrade(): pass\ndef downgrade(): pass\n"


def versions(project: Project) -> Path:
    """Return the folder of the scripts."""
    return project.folder / "migrations/versions"


def alembic(project: Project, *arguments: str) -> None:
    """Run alembic as a developer would."""
    done = run_alembic(project.folder, project.url, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def built(project: Project) -> None:
    """Migrate to head, with a row that no repair may lose."""
    migrated(project, "states")
    project.query("INSERT INTO users (name) VALUES ('ann')")


def in_git(project: Project) -> None:
    """Migrate to head, in a repository that has all scripts."""
    built(project)
    git(project.folder, "init", "-q", "-b", "main")
    commit(project.folder, "Begin")


def missing_database(project: Project) -> None:
    """Name a database that is not there."""
    target = Target.parse(project.url)
    project.env["DATABASE_URL"] = target.named(f"{target.database}_new").url


def no_server(project: Project) -> None:
    """Name a port that nobody listens on, with a password that nobody may read."""
    project.env["DATABASE_URL"] = f"postgresql://u:c4nary@127.0.0.1:{free_port()}/db"


def behind(project: Project) -> None:
    """Stop one revision before the head."""
    migrated(project, "states", "b1")


def without_version(project: Project) -> None:
    """Lose the version table."""
    built(project)
    project.query("DROP TABLE alembic_version")


def made_by_hand(project: Project) -> None:
    """Lose the version table of a schema that no revision makes."""
    without_version(project)
    project.query("ALTER TABLE users ADD COLUMN shoe_size int")


def deleted(project: Project) -> None:
    """Delete the newest script, which the database names."""
    in_git(project)
    (versions(project) / "c1_notes.py").unlink()


def squashed(project: Project) -> None:
    """Name a revision of an older chain that made the very same."""
    built(project)
    project.query("UPDATE alembic_version SET version_num = 'dead'")


def squashed_otherwise(project: Project) -> None:
    """Name a revision of an older chain that made something else."""
    squashed(project)
    project.query("ALTER TABLE users DROP COLUMN name")


def two_heads(project: Project) -> None:
    """Let two people add a revision after the same one."""
    built(project)
    (versions(project) / "d1_x.py").write_text(MORE.format("d1", "b1"))


def missing_middle(project: Project) -> None:
    """Delete a script that another one follows."""
    in_git(project)
    (versions(project) / "b1_tasks.py").unlink()


def duplicate(project: Project) -> None:
    """Copy a script, and forget to give it an id of its own."""
    built(project)
    shutil.copy(versions(project) / "c1_notes.py", versions(project) / "d1_copy.py")


def no_scripts(project: Project) -> None:
    """Empty the folder of the scripts."""
    in_git(project)
    for path in versions(project).glob("*.py"):
        path.unlink()


def byte_code(project: Project) -> None:
    """Delete a script whose byte code Alembic goes on loading."""
    built(project)
    ini = project.folder / "alembic.ini"
    ini.write_text(f"{ini.read_text()}sourceless = true\n")
    script = versions(project) / "d1_x.py"
    script.write_text(MORE.format("d1", "c1"))
    py_compile.compile(str(script))
    script.unlink()


def half_applied(project: Project) -> None:
    """Let an index fail that is made in an autocommit block, after a table was made."""
    migrated(project, "states", "b1")
    project.query("INSERT INTO users (name) VALUES ('ann'), ('ann')")
    assert run_alembic(project.folder, project.url, "upgrade", "head").returncode != 0
    project.query("DELETE FROM users WHERE id = 2")


def invalid_index(project: Project) -> None:
    """Let only the index fail."""
    script = versions(project) / "c1_notes.py"
    text = script.read_text()
    table = '    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))\n'
    assert table in text
    block = text[text.index("    with op.get") : text.index("def downgrade")]
    script.write_text(text.replace(table, "").replace(block, f"{block.rstrip()}\n{table}\n\n"))
    half_applied(project)


def unrecorded(project: Project) -> None:
    """Be killed between the last statement and the version."""
    built(project)
    project.query("UPDATE alembic_version SET version_num = 'b1'")


def row_too_many(project: Project) -> None:
    """Leave the row of before in the version table."""
    built(project)
    project.query("INSERT INTO alembic_version VALUES ('b1')")


def drifted(project: Project) -> None:
    """Change the database by hand."""
    built(project)
    project.query("ALTER TABLE users DROP COLUMN name")
    project.query("ALTER TABLE users ADD COLUMN shoe_size int")


def new_model(project: Project) -> None:
    """Change the models, and write no migration."""
    built(project)
    models = project.folder / "models.py"
    models.write_text(f'{models.read_text()}Table("new", metadata, Column("id", Integer))\n')


def stamped_empty(project: Project) -> None:
    """Stamp an empty database to get rid of an error."""
    alembic(project, "stamp", "head")


def stamped_early(project: Project) -> None:
    """Stamp a database that is one revision behind."""
    migrated(project, "states", "b1")
    alembic(project, "stamp", "head")


INDEX = """revision, down_revision = "d1", "c1"
def upgrade():
    from alembic import op
    op.create_index("ix_tasks_user_id", "tasks", ["user_id"])
"""


def stamped_index(project: Project) -> None:
    """Stamp a database that lacks an index, which no table and no column tells of."""
    built(project)
    models = project.folder / "models.py"
    models.write_text(f'{models.read_text()}Index("ix_tasks_user_id", tasks.c.user_id)\n')
    (versions(project) / "d1_index.py").write_text(INDEX)
    alembic(project, "stamp", "head")


def no_models(project: Project) -> None:
    """Import no model in env.py."""
    built(project)
    (project.folder / "models.py").write_text(
        "from sqlalchemy import MetaData\nmetadata = MetaData()\n"
    )


def of_others(project: Project) -> None:
    """Name the database of another application, with a chain of its own."""
    project.query("CREATE TABLE wp_posts (id int)")
    project.query("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    project.query("INSERT INTO alembic_version VALUES ('f00')")


def elsewhere(project: Project) -> None:
    """Let env.py open another database, whatever it is told."""
    env = project.folder / "migrations/env.py"
    other = Target.parse(project.url).named("postgres").url
    env.write_text(env.read_text().replace('os.environ["DATABASE_URL"]', repr(other)))
