"""What the JSON report consists of: each key with its type and what it is.

A key that is `NotRequired` is there only for the tasks or steps that its text names.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict


class Session(TypedDict):
    """A connection of somebody else, in `sessions` and in the `ended` of a step.

    Where our role is no member of its role, the server shows user, database and pid alone.
    """

    pid: Annotated[int, "its process at the server; 0 for a prepared transaction or a standby"]
    database: Annotated[str | None, "the database that it is connected to"]
    user: Annotated[str | None, "its role"]
    application: Annotated[str, "its `application_name`; may be empty"]
    address: Annotated[
        str | None, "of a TCP client; `socket` on a Unix socket; null where the server hides it"
    ]
    state: Annotated[
        str | None, "as in `pg_stat_activity`: `idle`, `active`, …; null where that is hidden"
    ]
    connected_s: Annotated[
        float | None, "seconds since it connected; null where the server hides that"
    ]
    state_s: Annotated[
        float | None, "seconds since its state began; null where the server hides that"
    ]
    may_end: Annotated[bool, "whether our role may end it"]
    is_superuser: Annotated[bool, "whether only a superuser may end it"]


class Notice(TypedDict):
    """What must not go unsaid and stops nothing, in `notices`: the lines that begin with `!`."""

    step: Annotated[str | None, "the step that ran; null outside of the steps"]
    text: Annotated[str, "the line, as people read it"]
    sessions: Annotated[list[Session], "the sessions that it is about; mostly none"]


class Finding(TypedDict):
    """One thing that is not as it should be, in `findings`."""

    kind: Annotated[str, "a stable word: those of [the findings](findings.md)"]
    name: Annotated[
        str, "the object that it is about, by which the settings can silence it; may be empty"
    ]
    what: Annotated[str, "what is so, and where"]
    why: Annotated[str, "why it matters"]
    remedy: Annotated[str, "what to do"]


class Problem(TypedDict):
    """What ended the task, in `error`."""

    step: Annotated[str | None, "the step that ran; null outside of the steps"]
    lines: Annotated[list[str], "every problem in a line: what and where, `→`, what to do"]
    exit_code: Annotated[int, "the same as that of the whole object"]


_FromTo = TypedDict(
    "_FromTo",  # `from` can only be said this way
    {
        "from": Annotated[list[str], "the revisions before; empty is base"],
        "to": Annotated[list[str], "the heads, at which it is now"],
    },
)


class MigratedChain(_FromTo):
    """What `upgrade` did to one chain of revisions, in the `chains` of its step."""

    name: Annotated[str, "of `[[tool.backset.chains]]`; empty where there is only one chain"]
    ran: Annotated[int, "how many revisions ran"]
    schemas: Annotated[list[str], "the schemas of version tables that were made for it"]


class Made(TypedDict):
    """How much a chain has made, in the `made` of the steps `old` and `new` of `prove-squash`."""

    revisions: Annotated[int, "how many revisions ran"]
    objects: Annotated[int, "how many objects they made"]
    rows: Annotated[int, "how many rows they inserted, of all tables together"]


class ServerLog(TypedDict):
    """What the server's log has of this run, in the steps `verify` and `seed`."""

    readable: Annotated[bool, "whether it was read"]
    why: Annotated[str | None, "why it was not read; null where it was"]
    errors: Annotated[list[str], "the errors of this run that no step before has told"]


class Left(TypedDict):
    """What a carry left behind, with consent, in `left` of the step `carry`."""

    what: Annotated[Literal["table", "column", "large objects"], "what it is"]
    name: Annotated[str, "its name in the old schema"]
    count: Annotated[int, "how many rows of a table, values of a column that are not NULL, objects"]


class Step(TypedDict):
    """One step that ended well, in `steps`, in the order in which they ended."""

    step: Annotated[str, "its name, such as `backup`, `reset` or `prove`"]
    text: Annotated[str, "its line, as people read it"]
    seconds: Annotated[float, "how long it took, with what went on beside it"]
    ended: NotRequired[
        Annotated[
            list[Session],
            "`promote`, `undo`, `clear`, and `backup` in place: the sessions that were ended",
        ]
    ]
    file: NotRequired[
        Annotated[str, "`backup`: the path of the dump; absent where there was nothing to dump"]
    ]
    rows: NotRequired[
        Annotated[
            dict[str, int],
            "`backup` and `load`: exact counts in the dump, by table; `seed`: in the database; "
            "`carry`: the rows that came, by table",
        ]
    ]
    sha256: NotRequired[Annotated[str, "`backup`: of the dump, in hexadecimal, as in its manifest"]]
    proved: NotRequired[
        Annotated[bool, "`backup`: whether it was restored and compared (`--prove`)"]
    ]
    same_as: NotRequired[
        Annotated[
            str | None,
            "`backup`: another one of the same state, whose file it has; null where there is none",
        ]
    ]
    needs_search_path: NotRequired[
        Annotated[bool, "`backup`: whether it loads only with the search path of the database"]
    ]
    removed: NotRequired[
        Annotated[int, "`promote`: how many older backups were removed (`keep`, `keep_days`)"]
    ]
    dropped: NotRequired[Annotated[int, "`clear`: how many objects were dropped"]]
    cloned: NotRequired[
        Annotated[str | None, "`reset`: the template that it is a copy of; null where it is empty"]
    ]
    why: NotRequired[
        Annotated[str | None, "`reset`: why it is no copy; null where it is, or cannot be"]
    ]
    since: NotRequired[
        Annotated[
            str,
            "`upgrade`, `verify` and `seed` of a copy: when that was done which is told here, in "
            "ISO 8601, UTC",
        ]
    ]
    kept: NotRequired[Annotated[list[str], "`promote`: the templates that this run has made"]]
    unkept: NotRequired[
        Annotated[str | None, "`promote`: why it has made none; null where it has, or need not"]
    ]
    chains: NotRequired[
        Annotated[list[MigratedChain], "`upgrade`: what it did to each chain of revisions"]
    ]
    cluster_wide: NotRequired[
        Annotated[
            list[str],
            "`upgrade`: roles and tablespaces that the migrations made, which `undo` leaves",
        ]
    ]
    tables: NotRequired[Annotated[int, "`verify`: how many tables the database has"]]
    accepted: NotRequired[
        Annotated[int, "`verify`: how many differences are accepted ones (`--accept`)"]
    ]
    silenced: NotRequired[
        Annotated[int, "`verify`: how many findings the settings silence (`ignore`)"]
    ]
    server_log: NotRequired[
        Annotated[ServerLog, "`verify` and `seed`: what the server's log has of this run"]
    ]
    left: NotRequired[
        Annotated[list[Left], "`carry`: what has no place in the new schema, and was left behind"]
    ]
    through: NotRequired[
        Annotated[
            list[str],
            "`carry`: the files of pending migrations that the rows went through in a copy",
        ]
    ]
    origin: NotRequired[
        Annotated[str, "`carry` of the task `carry`: what the rows came from, without passwords"]
    ]
    seeded_twice: NotRequired[
        Annotated[bool, "`seed`: whether it ran a second time (`--seed-twice`)"]
    ]
    previous: NotRequired[
        Annotated[
            str | None,
            "`promote`: the name of the database kept for `undo`; null where there was none",
        ]
    ]
    same: NotRequired[
        Annotated[
            list[str],
            "`prove` of `repair` and `status`: the revisions at which the chain makes this schema",
        ]
    ]
    not_compared: NotRequired[
        Annotated[list[str], "`prove`: what belongs to others, and extensions that stay"]
    ]
    revisions: NotRequired[Annotated[list[str], "`stamp`: what the version table says now"]]
    indexes: NotRequired[Annotated[list[str], "`drop_indexes`: the names of those dropped"]]
    revision: NotRequired[Annotated[str, "`merge`: the revision that was made"]]
    path: NotRequired[Annotated[str, "`merge`: the path of its file"]]
    down: NotRequired[Annotated[list[str], "`merge`: the heads that it joins"]]
    command: NotRequired[
        Annotated[str, "`bring_back`: the command line that does the same as the step did"]
    ]
    made: NotRequired[Annotated[Made, "`old` and `new`: how much the chain has made"]]
    minor: NotRequired[
        Annotated[int, "`compare`: how many differences matter less; they are among `notices`"]
    ]


class PlannedStep(TypedDict):
    """One line of `plan`: what a step would do, or what is so before the first."""

    step: Annotated[
        str, "the step; or a word such as `strategy`, `because` or `consent`, or that of a fact"
    ]
    text: Annotated[str, "the line, as people read it"]


class Stakes(TypedDict):
    """The facts that consent is about, in `stakes`, in words for people."""

    server: Annotated[str, "where it is, and its version"]
    database: Annotated[str, "the one that would be replaced"]
    size: Annotated[str, "its size"]
    tables: Annotated[str, "its tables with their rows"]
    youngest: Annotated[str, "its youngest row, where a table has times"]
    clients: Annotated[str, "who is connected"]
    rebuilt: Annotated[str, "what it would be afterwards"]


class Cure(TypedDict):
    """The smallest repair of a state, in `cure`."""

    way: Annotated[
        Literal[
            "none",
            "upgrade",
            "restore file",
            "merge heads",
            "drop index",
            "prove",
            "stamp",
            "reset",
            "by hand",
        ],
        "what is done; `prove` finds out whether it is `stamp` or `reset`",
    ]
    command: Annotated[str | None, "what does it; null where a person has to, or nothing is wrong"]
    why: Annotated[str, "why that helps; of `by hand` what to do; empty where nothing is wrong"]


class Repair(TypedDict):
    """One cure that `repair` did, in `repairs`, in their order."""

    state: Annotated[str, "the state that was cured"]
    evidence: Annotated[list[str], "what proved that state, a line each"]
    cure: Annotated[Cure, "what was done"]


class Revision(TypedDict):
    """One migration script: in the `scripts` of a chain, and in `replaced_by`."""

    revision: Annotated[str, "its id"]
    down: Annotated[list[str], "those it follows (`down_revision`)"]
    depends_on: Annotated[list[str], "those it needs besides; labels, too"]
    labels: Annotated[list[str], "its branch labels"]
    doc: Annotated[str, "the first line of its docstring; may be empty"]
    path: Annotated[str, "of its file; in `replaced_by` from the top of git's repository"]


class Removal(TypedDict):
    """The commit that took a revision's file away, in the `removal` of an orphan."""

    commit: Annotated[str, "its full id"]
    author: Annotated[str, "who wrote it"]
    date: Annotated[str, "when, in ISO 8601"]
    subject: Annotated[str, "the first line of its message"]
    path: Annotated[str, "where the file was, from the top of git's repository"]
    renamed_to: Annotated[str | None, "where it went; null unless it was renamed"]
    replaced_by: Annotated[list[Revision], "the scripts that the same commit added"]
    in_head: Annotated[bool, "whether what is checked out comes after this commit"]


class Packed(TypedDict):
    """A script in a tar of `backup` or `archive`, in the `archives` of an orphan."""

    file: Annotated[str, "the path of the tar"]
    member: Annotated[str, "the script's name in it"]


class Generation(TypedDict):
    """One of several scripts that have had one id, in `generations`."""

    path: Annotated[str, "its file"]
    commit: Annotated[str | None, "a commit that has it; null for a copy in the project"]
    after: Annotated[list[str], "the revisions that it needs"]
    doc: Annotated[str, "the first line of its docstring"]
    command: Annotated[str, "the command line that brings it back"]
    meant: Annotated[bool, "whether it is the one that fits today's scripts"]


class Orphan(TypedDict):
    """Where a revision went that no migration file has, in `orphans`."""

    revision: Annotated[str, "its id"]
    doc: Annotated[str, "the first line of its docstring; empty where that is not known"]
    copies: Annotated[list[str], "files of the project that still have it"]
    archives: Annotated[
        list[Packed],
        "tars of `backup` or `archive` that have it; looked at where nothing else has it",
    ]
    removal: Annotated[
        Removal | None, "the commit that took its file away; null where none is known"
    ]
    uncommitted: Annotated[
        str | None, "its path, where it was deleted and that is not committed; else null"
    ]
    refs: Annotated[list[str], "branches and tags that still have it"]
    companions: Annotated[list[str], "other missing revisions that come back with it"]
    command: Annotated[str | None, "the command line that brings it back; null where none does"]
    generations: Annotated[
        list[Generation],
        "the scripts that have had this id, where there are several: all else is about the one "
        "that fits, and empty where a person has to choose",
    ]
    not_searched: Annotated[list[str], "what could not be looked at, such as git's history"]


class Chain(TypedDict):
    """One chain of revisions, in `chains`."""

    name: Annotated[str, "of `[[tool.backset.chains]]`; empty where there is only one chain"]
    revisions: Annotated[
        list[str] | None,
        "the rows of its version table; null where `history` could not ask the database",
    ]
    heads: Annotated[list[str], "the heads of its scripts"]
    scripts: NotRequired[Annotated[list[Revision], "`history`: its scripts"]]
    missing: NotRequired[
        Annotated[list[str], "`history`: those that a script follows, and no file has"]
    ]
    problems: NotRequired[Annotated[list[str], "`history`: what keeps Alembic from loading it"]]
    orphans: NotRequired[
        Annotated[list[Orphan], "`history`: where those of its revisions went that no file has"]
    ]


class Backup(TypedDict):
    """One backup, in `backups`: its manifest, which lies beside the dump, and where it is."""

    name: Annotated[str, "what `restore` takes"]
    file: Annotated[str, "the path of the dump; an earlier version made a folder of a large one"]
    database: Annotated[str, "the database that was dumped"]
    taken_at: Annotated[str, "when, in ISO 8601, UTC"]
    server_id: Annotated[
        str,
        "PostgreSQL's system identifier, or the mark of a server that hides it; empty without both",
    ]
    server_version: Annotated[str, "of the server that was dumped"]
    tool_version: Annotated[str, "of `pg_dump`"]
    revisions: Annotated[list[str], "the rows of its version table"]
    rows: Annotated[dict[str, int], "exact counts, by table"]
    objects: Annotated[
        dict[str, str] | None,
        "a hash of every object; null in the first format of manifests, which had none",
    ]
    size_bytes: Annotated[int, "of the dump; of a folder, of its files together"]
    sha256: Annotated[
        str, "of the dump, in hexadecimal; of a folder, that of `LC_ALL=C; sha256sum *` in it"
    ]
    dump_format: Annotated[str, "in words; empty in a manifest of an earlier format"]
    by_hand: Annotated[
        str, "the command that loads the dump without backset, in its folder; likewise"
    ]
    left_out: Annotated[
        list[list[str]],
        "what others own and the role may not read, and the dump has not: a schema, or schema and "
        "name of a table, view or sequence",
    ]
    is_half_built: Annotated[bool, "whether it is of what a run in place had left half built"]
    content_sha256: Annotated[
        str, "of what the dump says: dumps of one state have the same; empty in an earlier format"
    ]
    number: Annotated[
        int, "of the backups in the folder: each new one has the next; 0 in an earlier format"
    ]
    wal_position: Annotated[
        int | None, "bytes that the server had written to its log; null where it does not say"
    ]
    is_pinned: Annotated[bool, "whether it stays until a person removes it (`--name`, `--pin`)"]
    search_path: Annotated[str | None, "that of the database; null in an earlier format"]
    needs_search_path: Annotated[bool, "whether the dump loads only with that one"]
    obstacle: Annotated[str, "why the dump does not load at all; empty where nothing is known"]
    is_remade: Annotated[bool, "whether a rebuild makes all its rows again"]
    is_replaced: Annotated[
        bool, "whether a run has replaced this state, without all its rows: it stays"
    ]
    format: Annotated[int, "of the manifest"]


class StaleFile(TypedDict):
    """One file that is out of use, in the `files` of a stale script."""

    path: Annotated[str, "from the project's root"]
    in_git: Annotated[bool, "whether git has it, so that it is in the repository too"]


class StaleScript(TypedDict):
    """One thing that is out of use, in `stale`."""

    kind: Annotated[
        Literal["folder", "stray", "bytecode"],
        "an old version folder, a file that Alembic does not load, or byte code without source",
    ]
    path: Annotated[str, "of the file or folder, from the project's root"]
    why: Annotated[str, "why it is out of use"]
    files: Annotated[list[StaleFile], "all that goes with it"]


class KeptScript(TypedDict):
    """What looks out of use and stays, in `kept`."""

    path: Annotated[str, "of the file or folder, from the project's root"]
    why: Annotated[str, "why it stays"]


class Rewriting(TypedDict):
    """What `pyproject.toml` gets, with `--write`, in `pyproject`."""

    diff: Annotated[list[str], "the lines of a unified diff"]
    written: Annotated[bool, "whether the file has them; with `--plan` it has not"]


class Content(TypedDict):
    """The whole object."""

    task: Annotated[str, "the task, as it is typed"]
    exit_code: Annotated[int, "of the program"]
    seconds: Annotated[float, "how long the task took"]
    steps: Annotated[list[Step], "the steps that ended well, in their order"]
    notices: Annotated[list[Notice], "what must not go unsaid and stops nothing"]
    findings: Annotated[
        list[Finding],
        "what is not as it should be; those of an error, else those of the steps",
    ]
    error: Annotated[Problem | None, "what ended the task; null where it came to its end"]
    database: NotRequired[
        Annotated[str, "the target's name, once it is known; not of `backups`, `check`, `history`"]
    ]
    url: NotRequired[Annotated[str, "the target's URL without its password; beside `database`"]]
    plan: NotRequired[
        Annotated[list[PlannedStep], "with `--plan`: what would happen; nothing was changed"]
    ]
    sessions: NotRequired[
        Annotated[list[Session], "with `--plan` of the tasks that run steps: who is on the target"]
    ]
    pyproject: NotRequired[
        Annotated[Rewriting, "with `--write`, where settings mend it: what becomes of that file"]
    ]
    stakes: NotRequired[
        Annotated[Stakes, "what consent is about; with `--plan`, and where that was missing"]
    ]
    confirm: NotRequired[
        Annotated[str, "what `--confirm` must say to agree to `stakes`; beside these"]
    ]
    state: NotRequired[Annotated[str, "`status`, `repair`: the name of the state, a stable word"]]
    evidence: NotRequired[Annotated[list[str], "`status`, `repair`: what proves it, a line each"]]
    cure: NotRequired[Annotated[Cure, "`status`, `repair`: the smallest repair of it"]]
    server: NotRequired[
        Annotated[str | None, "`status`, `repair`: its version; null where it is not reached"]
    ]
    python: NotRequired[Annotated[str, "`status`, `repair`: the interpreter of the project"]]
    revisions: NotRequired[
        Annotated[list[str], "`status`, `repair`: the rows of the version table"]
    ]
    heads: NotRequired[Annotated[list[str], "`status`, `repair`: the heads of the scripts"]]
    passed_over: NotRequired[
        Annotated[str | None, "the same: scripts in folders below, which Alembic does not load"]
    ]
    rows: NotRequired[
        Annotated[
            dict[str, int | None],
            "`status`, `repair`: exact counts, by table; null where the role may not read it",
        ]
    ]
    orphans: NotRequired[
        Annotated[list[Orphan], "`status`, `repair`: where missing files of migrations went"]
    ]
    previous: NotRequired[
        Annotated[bool, "`status`, `repair`: whether `undo` has something to go back to"]
    ]
    protected: NotRequired[
        Annotated[bool, "`status`, `repair`: whether the database has the marker of `protect`"]
    ]
    not_compared: NotRequired[
        Annotated[list[str], "`status`, `repair`: what was not looked at, in words"]
    ]
    chains: NotRequired[
        Annotated[
            list[Chain],
            "`history`: every chain of revisions; `status`, `repair`: each where there are several",
        ]
    ]
    repairs: NotRequired[Annotated[list[Repair], "`repair`: the cures that were begun"]]
    backups: NotRequired[
        Annotated[list[Backup], "`backups`, and `restore` without a name: the oldest first there"]
    ]
    folder: NotRequired[Annotated[str, "the folder of `backups`; beside these"]]
    unreadable: NotRequired[
        Annotated[list[str], "a line for each dump in it that is no backup; beside these"]
    ]
    stale: NotRequired[Annotated[list[StaleScript], "`archive`: what is out of use"]]
    kept: NotRequired[Annotated[list[KeptScript], "`archive`: what looks so, and stays"]]
    archive: NotRequired[
        Annotated[str, "`archive`: the path of the tar; absent where nothing was put away"]
    ]
    command: NotRequired[
        Annotated[str, "`archive`: the command line that brings all of it back; beside that"]
    ]
