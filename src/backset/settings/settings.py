"""What a run is told, and what its children are told of it."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backset.connections.target import respelled
from backset.errors import SettingsError
from backset.settings.values import PLACEHOLDERS
from backset.text.redaction import blank

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backset.connections.target import Target
    from backset.settings.values import Ignore, Lineage


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a run is told; `sources` says of each name where its value came from.

    target: None means the embedded PostgreSQL, and `database` is the name of its database.
    upgrade: the project's own command that migrates, in place of Alembic's process.
    init: its command for a database that is empty, before that.
    is_throw_away: whether the target is on a server of ours, over TCP, that nobody else has and
    that stands in for the project's own: what env.py opens elsewhere is opened there.
    ini: templates of options of Alembic's configuration; `sqlalchemy.url` is set without one.
    lineages: the chains of revisions, in the order in which they are migrated; at least one.
    env: templates of what env.py and the project's commands are given, over `environ`.
    expect: columns that must exist, by table. rows: least rows after the seed, by table.
    carry: the tables whose rows are carried; empty is none. Of these rows: rename has old names by
    new ones, fill SQL expressions by column, leave what may stay behind, exclude patterns of tables
    that are not carried, replace those that get the old rows alone, unmigrated the revisions that
    these rows need not go through.
    schemas: those that are the project's beside what its migrations name.
    ignore: findings that are noise. baseline: the file of the accepted differences.
    strict: whether a rebuild fails with differences of the models; None: where it has a baseline.
    server_log: whether every task that migrates or seeds looks into the log of any server.
    inputs: patterns of the files that a build depends on, seen from `root`. cache_seed: whether the
    seeded state is kept.
    ask_above: the size in bytes above which replacing the target needs consent.
    environ: what children get beside that; `dotenv` are the names in it that .env sets.
    keep: how many backups of one server stay; keep_days: of how many days the newest one is among
    these. zstd_above: the size in bytes above which a dump is
    compressed by zstd.
    """

    root: Path
    is_throw_away: bool
    target: Target | None
    database: str
    seed: tuple[str, ...]
    upgrade: tuple[str, ...]
    init: tuple[str, ...]
    lineages: tuple[Lineage, ...]
    python: str
    env: Mapping[str, str]
    ini: Mapping[str, str]
    expect: Mapping[str, tuple[str, ...]]
    rows: Mapping[str, int]
    carry: tuple[str, ...]
    rename: Mapping[str, str]
    fill: Mapping[str, str]
    leave: tuple[str, ...]
    exclude: tuple[str, ...]
    replace: tuple[str, ...]
    unmigrated: tuple[str, ...]
    schemas: tuple[str, ...]
    ignore: tuple[Ignore, ...]
    baseline: Path
    strict: bool | None
    server_log: bool
    backups: Path
    inputs: tuple[str, ...]
    cache_seed: bool
    ask_above: int
    keep: int
    keep_days: int
    zstd_above: int
    environ: Mapping[str, str]
    dotenv: frozenset[str]
    sources: Mapping[str, str]

    @property
    def is_embedded(self) -> bool:
        """Whether the database is known to be on the embedded server, since it is named for it."""
        return self.target is None and self.sources["database"] != "default"

    @property
    def is_in_github(self) -> bool:
        """Whether what a run says goes into a log of GitHub's runner."""
        return bool(self.environ.get("GITHUB_ACTIONS"))

    @property
    def shown_python(self) -> str:
        """The interpreter, and where it was found."""
        source = self.sources.get("python", "default")
        found = "backset's own" if source == "default" else source
        return f"{self.python} ({found})"

    @property
    def has_door(self) -> bool:
        """Whether a command of the project migrates, of whose inputs nothing is known."""
        lineages = any(each.upgrade or each.init for each in self.lineages)
        return bool(self.upgrade or self.init or lineages)

    @property
    def plain_env(self) -> dict[str, str]:
        """The environment of a child of the project that is not told its database yet."""
        static = {name: text for name, text in self.env.items() if "{" not in text}
        programs = str(Path(self.python).parent)  # those of the project's packages, such as flask
        path = os.pathsep.join(filter(None, (programs, self.environ.get("PATH"))))
        # The encoding is the one in which we read what it says.
        return {"PYTHONIOENCODING": "utf-8", **self.environ, "PATH": path, **static}

    def child_env(self, target: Target) -> dict[str, str]:
        """Return the environment of a child of the project that is to work on `target`."""
        return {**self.plain_env, **self.filled_env(target)}

    def filled_env(self, target: Target) -> dict[str, str]:
        """Return what the settings say to it beside the environment."""
        return self._filled(self.env, target)

    def options(self, lineage: Lineage, target: Target) -> dict[str, str]:
        """Return the options that the Alembic configuration of a chain is given for `target`."""
        return self._filled({**self.ini, **lineage.ini}, target)

    def plain_options(self, lineage: Lineage) -> dict[str, str]:
        """Return those of them that name no target."""
        every = {**self.ini, **lineage.ini}
        return {name: text for name, text in every.items() if "{" not in text}

    def arguments(self, lineage: Lineage, target: Target | None) -> list[str]:
        """Return what env.py gets as `-x`; what names a target is left out where there is none."""
        templates = {each: each for each in lineage.arguments}
        if target is None:
            return [each for each in templates if "{" not in each]
        return list(self._filled(templates, target).values())

    def _filled(self, templates: Mapping[str, str], target: Target) -> dict[str, str]:
        given = {name: target.params.get(name, "") for name in PLACEHOLDERS}
        values = _defaults(self.environ) | {name: text for name, text in given.items() if text}
        values |= {"url": _Url(target.url), "database": target.database}
        return {name: template.format_map(values) for name, template in templates.items()}

    def port(self, target: Target) -> str:
        """Return the port of the server of `target`."""
        return target.params.get("port") or _defaults(self.environ)["port"]

    def shown(self, path: Path) -> str:
        """Return a path as people read it: seen from the project, where it is in there."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)

    def redact(self, target: Target | None, text: str) -> str:
        """Blank the passwords in what a child or a bug says, PGPASSWORD included."""
        return blank(text, self.secrets(target))

    def secrets(self, target: Target | None) -> set[str]:
        """Return the passwords that are known, of the target and of the environment."""
        return {self.environ.get("PGPASSWORD", ""), *(target.secrets if target else ())}

    def seeded_with(self, words: Sequence[str]) -> Settings:
        """Return the same with more words for the seed command, which there must be then."""
        if words and not self.seed:
            what = "there is no seed command for the words after `--`"
            raise SettingsError([(what, "set [tool.backset] seed or BACKSET_SEED")])
        return replace(self, seed=(*self.seed, *words)) if words else self

    def command(self, argv: Iterable[str]) -> list[str]:
        """Return `argv` with a leading `python` replaced by the project's interpreter."""
        program, *rest = argv
        return [self.python if program in {"python", "python3"} else program, *rest]


class _Url(str):
    """A URL that a template can ask for as a driver spells it: `{url:asyncpg}`."""

    __slots__ = ()

    def __format__(self, driver: str) -> str:
        return respelled(str(self), driver) if driver else str(self)


def _defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a URL that leaves out its parts means, to those who have only the parts."""
    return {
        "user": environ.get("PGUSER") or getpass.getuser(),
        "password": environ.get("PGPASSWORD", ""),
        "host": environ.get("PGHOST") or "localhost",
        "port": environ.get("PGPORT") or "5432",
    }
