"""What may be set, what a run is told by that, and what its children are told of it."""

from __future__ import annotations

import getpass
import os
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from backset.connections.target import CONNECT_TIMEOUT_S, respelled
from backset.errors import SettingsError
from backset.settings import fleets, values
from backset.text.redaction import blank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from backset.connections.target import Target
    from backset.settings.fleets import Fleet
    from backset.settings.values import Ignore, Lineage


PREFIX = "BACKSET_"  # of the variables
TEMPORARY = f"{PREFIX}TEMPORARY"  # no key: where throw-away servers are, whatever the project
# No key: `host:port` of the throw-away server that a rehearsal tells its tasks about.
THROW_AWAY = f"{PREFIX}THROW_AWAY"
BASE = f"{PREFIX}BASE"  # no key: set, the database is the one that the settings name, on any branch
NO_KEYS = frozenset({TEMPORARY, THROW_AWAY, BASE})
_HARD_CHARS = 16  # of a key: what is shorter is a word such as `testing`, and stands everywhere
_NOTHING: Mapping[str, Any] = MappingProxyType({})
# Variables by which the libraries of object stores are let in.
CREDENTIALS = re.compile(
    r"(?:AWS|AZURE|GOOGLE)_\w*(?:KEY|KEY_ID|SECRET|TOKEN|SERVICE_ACCOUNT\w*|CREDENTIALS)"
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key of [tool.backset].

    what: what it is, for the reference, in Markdown.
    check: returns its value as Settings has it, or raises ValueError with what it must be.
    default: its value where it is not set. unset: what is so then, in words.
    variable: how a variable spells it: as it is, in digits, as a command line, or not at all.
    is_secret: whether it may hold a password, so that no message may show it.
    """

    what: str
    check: Callable[[Any], Any]
    default: Any
    unset: str = ""
    variable: Literal["text", "digits", "words", ""] = "text"
    is_secret: bool = False


def _key(what: str, check: Callable[[Any], Any], **more: Any) -> Any:  # noqa: ANN401
    """Return the field of a key; more: the other fields of Key."""
    return field(metadata={"key": Key(what, check, **more)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a run is told: the keys of [tool.backset], and what is known beside them.

    A key is declared here, once: its check, its default, and what it is.
    target: None means the embedded PostgreSQL, and `database` is the name of its database.
    is_throw_away: whether the target is on a server of ours, over TCP, that nobody else has and
    that stands in for the project's own: what env.py opens elsewhere is opened there.
    lineages: the chains of revisions, in the order in which they are migrated; at least one. They
    are `chains`, else the one that `heads`, `config`, `section` and `arguments` describe.
    env: has DATABASE_URL, too; its templates are over `environ`.
    environ: what children get beside that; `dotenv` are the names in it that .env sets.
    sources: where the value of each name came from.
    follows: whether it is to be that of the branch of git that is checked out, if it has its own.
    branch: the branch of git whose own database the target is; empty where it is the project's.
    bucket: the URL that `backups` is; empty where it is a folder. `backups` is then the folder of
    what a run notes for itself. store_environ: the variables by which the bucket is found and
    opened, of which children get no credentials.
    """

    root: Path
    is_throw_away: bool
    target: Target | None
    lineages: tuple[Lineage, ...]
    environ: Mapping[str, str]
    dotenv: frozenset[str]
    sources: Mapping[str, str]
    follows: bool = False
    branch: str = ""
    bucket: str = ""
    store_environ: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    database: str = _key(
        "the database's name on the embedded PostgreSQL",
        values.name,
        default="",
        unset="the folder's name",
    )
    seed: tuple[str, ...] = _key(
        "the command that writes the mock data, as a list of words; no shell is involved, and "
        "a leading `python` or `python3` means the key `python`",
        values.argv,
        default=(),
        unset="nothing to run",
        variable="words",
        is_secret=True,
    )
    upgrade: tuple[str, ...] = _key(
        'the project\'s own command that migrates, such as `["flask", "db", "upgrade"]`',
        values.argv,
        default=(),
        unset="Alembic itself",
        variable="words",
        is_secret=True,
    )
    init: tuple[str, ...] = _key(
        "its command for a database without tables, run before that",
        values.argv,
        default=(),
        unset="nothing to run",
        variable="words",
        is_secret=True,
    )
    heads: tuple[str, ...] = _key(
        'the heads where `upgrade` ends, as a list, or `"all"`; another head is then a finding',
        values.heads,
        default=(),
        unset="one head",
        variable="words",
    )
    chains: tuple[Lineage, ...] = _key(
        "tables: several chains of revisions in one database, each with "
        + ", ".join(f"`{name}`" for name in values.KEYS),
        values.read,
        default=(),
        unset="one chain",
        variable="",
        is_secret=True,
    )
    python: str = _key(
        "the interpreter that has the project's packages; it runs Alembic and the seed command",
        values.text,
        default="",
        unset="`VIRTUAL_ENV`, `.venv`, `venv`, else the one that runs `invoke`",
    )
    config: str = _key(
        "Alembic's configuration file", values.text, default="", unset="it is looked for"
    )
    section: str = _key("the section of that file", values.text, default="", unset="`alembic`")
    arguments: tuple[str, ...] = _key(
        'what `env.py` gets as `-x`, such as `["tenant=a"]`; templates as in `env`: '
        '`["url={url}"]`',
        values.arguments,
        default=(),
        unset="none",
        variable="words",
        is_secret=True,
    )
    backups: Path = _key(
        "the folder of the backups, or where a team shares them: `s3://bucket/prefix`, also `gs`, "
        "`az` and `file`",
        values.place,
        default="backups",
        is_secret=True,
    )
    backups_timeout: int = _key(
        "how many seconds one request to that store may take, of a few MB; it is repeated twice",
        values.AtLeast(1),
        default=60,
        variable="digits",
    )
    backup_recipients: tuple[str, ...] = _key(
        'public keys of age or SSH that backups there are encrypted for, such as `["age1…"]`',
        values.recipients,
        default=(),
        unset="as the store encrypts them",
        variable="words",
    )
    backup_identity: str = _key(
        "the file with the private key, of age or SSH, that opens such backups",
        values.text,
        default="",
        unset="none",
    )
    backup_from: str = _key(
        "the host that a backup is dumped from: `primary`, or `standby` for one of those that "
        "`DATABASE_URL` names beside it",
        values.OneOf(("primary", "standby")),
        default="primary",
    )
    ask_above: int = _key(
        "the size in bytes above which replacing a database needs consent",
        values.AtLeast(0),
        default=1_000_000_000,
        variable="digits",
    )
    keep: int = _key(
        "how many backups of one server stay: the newest, the newest of each revision and of "
        "each day, then others; at least 1",
        values.AtLeast(1),
        default=10,
        variable="digits",
    )
    keep_days: int = _key(
        "of how many days, the last ones with a backup, the newest is among those of `keep`",
        values.AtLeast(0),
        default=7,
        variable="digits",
    )
    zstd_above: int = _key(
        "the size in bytes above which zstd compresses the dump of a database; an empty one has "
        "8 million. Where `pg_dump` cannot do so itself, the file is a `.dump.zst`",
        values.AtLeast(0),
        default=9_000_000,
        variable="digits",
    )
    env: Mapping[str, str] = _key(
        "a table: variables for Alembic and the commands, with "
        + " ".join(f"`{{{name}}}`" for name in values.PLACEHOLDERS)
        + ", and `{url:asyncpg}` for a driver",
        values.templates,
        default=_NOTHING,
        unset='`DATABASE_URL = "{url}"`',
        variable="",
        is_secret=True,
    )
    ini: Mapping[str, str] = _key(
        "a table: options of Alembic's configuration, with the same words; a `%` is doubled for it",
        values.templates,
        default=_NOTHING,
        unset="`sqlalchemy.url`",
        variable="",
        is_secret=True,
    )
    expect: Mapping[str, tuple[str, ...]] = _key(
        'a table: columns that `verify` must find, such as `tasks = ["id", "archived"]`',
        values.columns,
        default=_NOTHING,
        unset="nothing",
        variable="",
    )
    rows: Mapping[str, int] = _key(
        "a table: the least rows after `seed`, such as `users = 1`",
        values.counts,
        default=_NOTHING,
        unset="nothing",
        variable="",
    )
    carry: tuple[str, ...] = _key(
        "the tables whose rows `reset-db` carries into the new database, as a list, or "
        '`"all"`; `--carry` says others, and `--carry=` none',
        values.tables,
        default=(),
        unset="none",
        variable="words",
    )
    rename: Mapping[str, str] = _key(
        "a table, for carried rows: new name = old name of tables and columns, such as "
        '`"users.full_name" = "users.name"`',
        values.renames,
        default=_NOTHING,
        unset="nothing",
        variable="",
    )
    fill: Mapping[str, str] = _key(
        "a table, for carried rows: column of the new schema = SQL expression over the old "
        'row, such as `"tasks.archived" = "false"`',
        values.fillings,
        default=_NOTHING,
        unset="nothing",
        variable="",
        is_secret=True,
    )
    leave: tuple[str, ...] = _key(
        "tables and columns of the old schema whose content may be left behind, such as "
        '`["users.nickname"]`',
        values.names,
        default=(),
        unset="nothing",
        variable="",
    )
    exclude: tuple[str, ...] = _key(
        "tables whose rows are never carried, as a list of names and patterns, such as "
        '`["sessions", "audit_*", "logs.*"]`; the new database has what the migrations write there',
        values.table_patterns,
        default=(),
        unset="none",
        variable="words",
    )
    replace: tuple[str, ...] = _key(
        'carried tables that get the rows of the old database alone, as a list, or `"all"`: '
        "what the migrations write there, such as rows with random ids, is taken away first",
        values.tables,
        default=(),
        unset="rows that only the migrations have stay beside them",
        variable="",
    )
    unmigrated: tuple[str, ...] = _key(
        "revisions that carried rows need not go through, as a list: the rows of a database "
        "that has not run them are carried as they are, though these would change them",
        values.argv,
        default=(),
        unset="the rows go through all of them, in a copy",
        variable="",
    )
    schemas: tuple[str, ...] = _key(
        "schemas that are this project's, though no migration names them, such as "
        '`["reporting"]`; a rebuild asks before one goes that nobody knows',
        values.names,
        default=(),
        unset="those that the migrations name",
        variable="",
    )
    ignore: tuple[Ignore, ...] = _key(
        "tables: noise that is silenced, with "
        + ", ".join(f"`{name}`" for name in values.IGNORE_KEYS),
        values.ignored,
        default=(),
        unset="nothing",
        variable="",
        is_secret=True,  # what is wrong with it, its error tells in words
    )
    baseline: Path = _key(
        "the file of the accepted differences", values.text, default="backset-baseline.toml"
    )
    strict: bool | None = _key(
        "whether a rebuild fails where its models and migrations differ; else it says so, and "
        "`verify` and `check` fail",
        values.flag,
        default=None,
        unset="`true` where there is a baseline, else `false`",
    )
    deep: bool | None = _key(
        "whether the models make their tables in a scratch database, so that `verify`, `check` "
        "and a rebuild compare what PostgreSQL has of both",
        values.flag,
        default=None,
        unset="`true` in `check` and in a rehearsal, else `false`",
    )
    inputs: tuple[str, ...] = _key(
        "files that the rebuilt database depends on beside those that `env.py` reads, as a "
        'list of patterns: `["data/*.csv"]`',
        values.patterns,
        default=(),
        unset="those alone",
        variable="words",
    )
    ignore_inputs: tuple[str, ...] = _key(
        "what a rebuilt database does not depend on, though `env.py` reads it: patterns of "
        "variables, of files seen from the project's folder, of programs and of addresses, such "
        'as `["GIT_SHA", "version.txt", "git", "localhost:6379"]`',
        values.noise,
        default=(),
        unset="all of that counts",
        variable="words",
    )
    cache_seed: bool = _key(
        "whether the seeded state is kept as well, and cloned while the seed command and "
        "`inputs` stay as they are",
        values.flag,
        default=False,
        unset="`false`",
    )
    server_log: bool = _key(
        "whether `reset-db` and `seed` look into the log of a server that is not the embedded one",
        values.flag,
        default=False,
        unset="`false`",
    )
    fleet: tuple[Fleet, ...] = _key(
        "tables: the databases of `invoke fleet`, each with "
        + ", ".join(f"`{name}`" for name in fleets.KEYS),
        fleets.read,
        default=(),
        unset="no fleet",
        variable="",
        is_secret=True,
    )

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
        in_time = {"PGCONNECT_TIMEOUT": CONNECT_TIMEOUT_S}
        return {**in_time, **self.plain_env, **self.filled_env(target)}

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

    def x_arguments(self, lineage: Lineage, target: Target | None) -> list[str]:
        """Return what env.py gets as `-x`; what names a target is left out where there is none."""
        templates = {each: each for each in lineage.arguments}
        if target is None:
            return [each for each in templates if "{" not in each]
        return list(self._filled(templates, target).values())

    def _filled(self, templates: Mapping[str, str], target: Target) -> dict[str, str]:
        given = {name: target.params.get(name, "") for name in values.PLACEHOLDERS}
        known = _defaults(self.environ) | {name: text for name, text in given.items() if text}
        known |= {"url": _Url(target.url), "database": target.database}
        return {name: template.format_map(known) for name, template in templates.items()}

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
        store = {text for name, text in self.store_environ.items() if CREDENTIALS.fullmatch(name)}
        keys = {each for each in store if len(each) >= _HARD_CHARS}
        return {self.environ.get("PGPASSWORD", ""), *keys, *(target.secrets if target else ())}

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


KEYS: Mapping[str, Key] = {
    each.name: each.metadata["key"] for each in fields(Settings) if "key" in each.metadata
}


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
