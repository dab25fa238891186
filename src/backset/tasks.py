"""The Invoke tasks: names, flags and help. What they do is imported when a task runs."""

from __future__ import annotations

import gc
import signal
import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.tasks import Task, task

from backset.chain import CHAINS, Chain
from backset.steps import STANDARD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from invoke.context import Context
    from invoke.parser.argument import Argument

_CHAIN = {
    "plan": "say what would happen, and change nothing",
    "json": "print one JSON object, and nothing else, on stdout",
    "wait": "wait for the run that holds the lock, instead of stopping at once",
}
_TIMEOUT = {"timeout": "seconds after which a step is stopped, and the run with it"}
_NO_DEEP = "leave out the scratch database in which the models make theirs"
_SEED_TWICE = "run the seed command a second time, which must give the same rows"
_WRITE = "where rows do not fit, put the settings that mend it into pyproject.toml, shown as a diff"
_LOOKS = {word: _CHAIN[word] for word in ("plan", "json")}
_LINES = {"json_lines": "--json, and before it a line of JSON for each thing as it happens"}
_REPLACES = {
    **_CHAIN,
    "yes": "go on although it is not certain that this is the right server",
    "confirm": "the digest of --plan: agree to replace the database that these facts describe",
}
_STANDBY = {
    "standby": "wait a minute, or SECONDS, until each standby has the new database; else exit 6",
    "end_standby_sessions": "wait like --standby, then end the sessions there in the old database",
}
_REBUILDS = {
    **_REPLACES,
    **_TIMEOUT,
    "in_place": "work on the database itself, not beside it; on failure the backup is restored",
}


_REPORT = {
    "report": "then write a page about the run: .backset/report.html, or FILE; see `report`",
}


@contextmanager
def _machine(module: str) -> Iterator[Any]:
    """Import a module of the machine for the block, which has the process to itself.

    Here, so that `--list` is instant. For whoever called, the process is as it was afterwards. In a
    process of ours INT says nothing then, and no garbage is looked for as it ends.
    """
    interrupt, byte_code = signal.getsignal(signal.SIGINT), sys.dont_write_bytecode
    collects, frozen = gc.isenabled(), gc.get_freeze_count()
    is_pythons = getattr(interrupt, "__name__", "") in {"default_int_handler", "quiet"}
    if is_pythons:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until cli takes over: Invoke would exit 1
    # Invoke turned byte code off for its own process; each run would compile us again: 0.26 s.
    sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
    gc.disable()  # what is imported is no garbage; here and in cli that saves 58 ms of a run
    try:
        imported = import_module(f"backset.{module}")
        _note_collection()
        gc.freeze()
        gc.enable()
        yield imported
    finally:
        is_command = import_module("backset.process.identity").is_command()
        if is_pythons and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            quiet = import_module("backset.process.signals").quiet
            signal.signal(signal.SIGINT, quiet if is_command else interrupt)
        sys.dont_write_bytecode = byte_code
        (gc.enable if collects else gc.disable)()
        if is_command:
            gc.freeze()  # its end would look for garbage in all that is imported: 45 ms
        elif not frozen:  # ours cannot be told from what the caller has frozen
            gc.unfreeze()


def _note_collection() -> None:
    """Note under which name a project's own tasks.py has these tasks: `invoke db.reset-db`."""
    identity = import_module("backset.process.identity")
    if identity.is_called_by_invoke():
        names = {*CHAINS, *namespace.task_names}
        words = (word.rpartition(".") for word in sys.argv[1:])
        # The first task decides: what follows may be a file such as `old.backup`.
        found = (f"{head}{dot}" for head, dot, name in words if name in names)
        identity.called("invoke", next(found, ""))


def _dry(c: Context, plan: bool = False) -> bool:
    return plan or bool(c.config.run.dry)


@contextmanager
def _ready(
    name: str,
    c: Context,
    *,
    plan: bool,
    json: tuple[bool, bool],
    asked: Mapping[str, Any] | None = None,
    page: str | None = None,
) -> Iterator[Callable[..., None]]:
    """Open what a chain needs for the block; give what runs it.

    json: whether one object is printed, and whether a line for each event. page: the file of a
    page about the run; True for the usual one, None for no page.
    """
    form = dict(zip(("as_json", "as_lines"), json, strict=True))
    plan = _dry(c, plan)
    with (
        _machine("cli") as cli,
        cli.ready(name, plan=plan, **form, asked=asked or {}, page=page) as run_chain,
    ):
        yield run_chain


def _refuse_both(flag: str, *, yes: bool, no: bool) -> None:
    if yes and no:
        raise Exit(f" ✘ --{flag} and --no-{flag} say the opposite → leave one of them out", code=2)


def _after_dashes() -> list[str]:
    """Return the words after `--` as they are: Invoke's own remainder joins them with spaces."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def rebuilding(chain: Chain) -> Any:  # noqa: ANN401  (Invoke's decorator)
    """Return a task with the flags of `reset-db`, for a chain that rebuilds the database.

    The chain is in use from now on: `repair` rebuilds by the one of the name `reset-db`.
    """
    CHAINS[chain.name] = chain

    @task(
        name=chain.name,
        auto_shortflags=False,
        optional=["carry", "standby", "report"],
        help={
            **_LINES,
            **_REBUILDS,
            **_STANDBY,
            **_REPORT,
            "carry": "copy the rows of the old database: of all tables, or --carry=users,tasks; "
            "--carry= of none, whatever the settings say",
            "drop_data": "with --carry: leave behind what has no place in the new schema",
            "write": f"with --carry: {_WRITE}",
            "seed": "run the seed command after --carry, too",
            "no_seed": "leave the new database without mock data",
            "seed_twice": _SEED_TWICE,
            "accept": "accept the differences of the new database from the models, and go on",
            "cold": "run every migration, whatever an earlier run has kept",
        },
    )
    def rebuild(
        c: Context,
        plan: bool = False,
        carry: str | None = None,
        drop_data: bool = False,
        write: bool = False,
        seed: bool = False,
        no_seed: bool = False,
        json: bool = False,
        json_lines: bool = False,
        wait: bool = False,
        yes: bool = False,
        confirm: str = "",
        standby: str | None = None,
        end_standby_sessions: bool = False,
        in_place: bool = False,
        seed_twice: bool = False,
        accept: bool = False,
        cold: bool = False,
        report: str | None = None,
        timeout: str = "",
    ) -> None:
        """Rebuild the database: backup, reset, upgrade, verify, seed, swap.

        The new database is built beside the old one, compared with the models and
        with what you expect, filled with mock data, and swapped in. If a step
        fails, the old one is as it was. With --carry the rows of the old one are
        copied in place of mock data, and compared; without it they are not. They
        are in `NAME__previous` anyway, where `undo` finds them, and in the backup.
        """
        _refuse_both("seed", yes=seed, no=no_seed)
        skip = frozenset({"seed"}) if no_seed else frozenset()
        said = {"wait": wait, "yes": yes, "digest": confirm, "in_place": in_place}
        said["timeout"] = timeout
        asked: dict[str, Any] = {"seeds_twice": seed_twice, "accepts": accept, "cold": cold}
        asked |= {"standby": standby, "ends_readers": end_standby_sessions}
        asked["carries"] = {"said": carry, "drops": drop_data, "seeds": seed, "writes": write}
        with _ready(
            chain.name, c, plan=plan, json=(json, json_lines), asked=asked, page=report
        ) as run_chain:
            run_chain(said=said, skip=skip)

    return rebuild


@task(
    auto_shortflags=False,
    optional=["standby", "report"],
    help={
        **_LINES,
        **_REPLACES,
        **_STANDBY,
        **_REPORT,
        **_TIMEOUT,
        "from_": "a name from `invoke backups`, the file of a dump, a URL, or env:NAME of a "
        "variable with one",
        "tables": "carry the rows of these alone, as users,tasks",
        "drop_data": "leave behind what has no place in the new schema",
        "write": _WRITE,
        "seed": "run the seed command afterwards",
        "accept": "accept the differences of the new database from the models, and go on",
        "cold": "run every migration, whatever an earlier run has kept",
    },
)
def carry(
    c: Context,
    from_: str = "",
    tables: str = "",
    plan: bool = False,
    drop_data: bool = False,
    write: bool = False,
    seed: bool = False,
    json: bool = False,
    json_lines: bool = False,
    wait: bool = False,
    yes: bool = False,
    confirm: str = "",
    standby: str | None = None,
    end_standby_sessions: bool = False,
    accept: bool = False,
    cold: bool = False,
    report: str | None = None,
    timeout: str = "",
) -> None:
    """Rebuild the database with the rows of a dump or another one.

    As `reset-db --carry` does, by the same rules; but the rows come from a
    backup, from a dump of pg_dump, or from a database that is only read. They
    replace those of the old database, to which `undo` goes back.
    """
    said = {"wait": wait, "yes": yes, "digest": confirm, "timeout": timeout}
    asked: dict[str, Any] = {"accepts": accept, "cold": cold, "origin": from_}
    asked |= {"standby": standby, "ends_readers": end_standby_sessions}
    asked["carries"] = {"said": tables or None, "drops": drop_data, "seeds": seed}
    asked["carries"] |= {"writes": write, "flag": "--tables"}
    with _ready(
        "carry", c, plan=plan, json=(json, json_lines), asked=asked, page=report
    ) as run_chain:
        run_chain(said=said)


@task(auto_shortflags=False, optional=["standby"], help={**_LINES, **_REPLACES, **_STANDBY})
def undo(
    c: Context,
    plan: bool = False,
    json: bool = False,
    json_lines: bool = False,
    wait: bool = False,
    yes: bool = False,
    confirm: str = "",
    standby: str | None = None,
    end_standby_sessions: bool = False,
) -> None:
    """Swap the database from before back in; twice is redo.

    One old database is kept, as `NAME__previous`.
    """
    said = {"wait": wait, "yes": yes, "digest": confirm}
    asked = {"standby": standby, "ends_readers": end_standby_sessions}
    with _ready("undo", c, plan=plan, json=(json, json_lines), asked=asked) as run_chain:
        run_chain(said=said)


@task(
    auto_shortflags=False,
    help={
        **_LINES,
        **_CHAIN,
        **_TIMEOUT,
        "prove": "restore the dump into a scratch database, compare, and drop that",
        "name": "by which `restore` finds it, such as before-demo; it stays until its files go",
        "pin": "let it stay until its files are removed by hand",
    },
)
def backup(
    c: Context,
    prove: bool = False,
    name: str = "",
    pin: bool = False,
    plan: bool = False,
    json: bool = False,
    json_lines: bool = False,
    wait: bool = False,
    timeout: str = "",
) -> None:
    """Dump the database and the migration scripts into backups/.

    A manifest goes with them: exact row counts, a hash of every object's
    definition, SHA-256. A state that another dump has is stored once: the
    new one is a second name of that file.
    """
    said, asked = {"wait": wait, "timeout": timeout}, {"proves": prove}
    named = {"name": name, "pin": pin}
    with _ready("backup", c, plan=plan, json=(json, json_lines), asked=asked) as run_chain:
        run_chain(said=said, named=named)


@task(auto_shortflags=False, optional=["standby"], help={**_LINES, **_REBUILDS, **_STANDBY})
def reset(
    c: Context,
    plan: bool = False,
    json: bool = False,
    json_lines: bool = False,
    wait: bool = False,
    yes: bool = False,
    confirm: str = "",
    standby: str | None = None,
    end_standby_sessions: bool = False,
    in_place: bool = False,
    timeout: str = "",
) -> None:
    """Back up, then put an empty database in place; undo works.

    `upgrade` and `seed` fill it.
    """
    said = {"wait": wait, "yes": yes, "digest": confirm, "in_place": in_place}
    said["timeout"] = timeout
    asked = {"standby": standby, "ends_readers": end_standby_sessions}
    with _ready("reset", c, plan=plan, json=(json, json_lines), asked=asked) as run_chain:
        run_chain(said=said)


@task(
    auto_shortflags=False,
    help={
        **_LINES,
        **_CHAIN,
        **_TIMEOUT,
        "drifted": "follow a squash although the schema is not what the new revision makes",
    },
)
def upgrade(
    c: Context,
    plan: bool = False,
    json: bool = False,
    json_lines: bool = False,
    wait: bool = False,
    drifted: bool = False,
    timeout: str = "",
) -> None:
    """Migrate the database to head; never destructive.

    The live database is migrated itself; where there is none, it is made. Where
    its revisions were squashed, it follows: what of them has not run is run, and
    the id of the new revision is written, once its schema was compared.
    """
    said, asked = {"wait": wait, "timeout": timeout}, {"drifted": drifted}
    with _ready("upgrade", c, plan=plan, json=(json, json_lines), asked=asked) as run_chain:
        run_chain(said=said)


@task(
    auto_shortflags=False,
    help={
        **_LINES,
        **_LOOKS,
        **_TIMEOUT,
        "accept": "accept the differences from the models: write them into a file",
        "downgrade": "also take every migration back, in a scratch database: nothing may be left",
        "deep": "also let the models make theirs in a scratch database, and compare every object",
        "no_deep": _NO_DEEP,
    },
)
def verify(
    c: Context,
    plan: bool = False,
    json: bool = False,
    json_lines: bool = False,
    accept: bool = False,
    downgrade: bool = False,
    deep: bool = False,
    no_deep: bool = False,
    timeout: str = "",
) -> None:
    """Compare the database with the models and expectations.

    Exit code 6 where something is found. The database is only read.
    """
    said = {"timeout": timeout}
    asked: dict[str, Any] = {"accepts": accept, "downgrades": downgrade}
    _refuse_both("deep", yes=deep, no=no_deep)
    asked["deep"] = False if no_deep else deep or None
    with _ready("verify", c, plan=plan, json=(json, json_lines), asked=asked) as run_chain:
        run_chain(said=said)


@task(auto_shortflags=False, help={**_LINES, **_CHAIN, **_TIMEOUT, "seed_twice": _SEED_TWICE})
def seed(
    c: Context,
    plan: bool = False,
    json: bool = False,
    json_lines: bool = False,
    wait: bool = False,
    seed_twice: bool = False,
    timeout: str = "",
) -> None:
    """Run the mock-data script; check rows and sequences.

    It runs on the live database, and what it has committed stays there. Words
    after `--` go to the script: `invoke seed -- --scale 1000`.
    """
    said, asked = {"wait": wait, "timeout": timeout}, {"seeds_twice": seed_twice}
    with _ready("seed", c, plan=plan, json=(json, json_lines), asked=asked) as run_chain:
        run_chain(_after_dashes(), said=said)


_WITH_A_WORD = {"--into", "--from", "--confirm", "--timeout"}


def _after(task: str) -> tuple[list[str], set[str]]:
    """Return the words after a task, and the tasks as they are typed: `db.restore`.

    A project's own tasks.py may have ours in a collection; a backup may be called `old.restore`.
    """
    words = sys.argv[1:]
    dotted = (word for word in words if word.endswith(f".{task}"))
    typed = task if task in words else next(dotted, task)
    place = words.index(typed) + 1 if typed in words else len(words)
    return words[place:], {typed.removesuffix(task) + each for each in namespace.task_names}


class _NamedTask(Task[Any]):
    """A task whose positional argument may be left out: Invoke itself has only required ones.

    Without a default Invoke demands a value, so the default goes only when a name follows.
    """

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        arguments = super().get_arguments(ignore_unknown_help)
        after, tasks = _after(self.name)
        words = [
            word
            for word, before in zip(after, ["", *after], strict=False)
            if not word.startswith("-") and before not in _WITH_A_WORD
        ]
        if words and words[0] not in tasks:
            for argument in arguments:
                argument.default = None if argument.positional else argument.default
        return arguments


@task(
    klass=_NamedTask,
    auto_shortflags=False,
    positional=["backup"],
    optional=["standby"],
    help={
        **_LINES,
        **_REBUILDS,
        **_STANDBY,
        "backup": "a name from `invoke backups`; without one, the list is offered",
        "from_": "where a team shares its backups: s3://bucket/prefix/latest, or a name in place "
        "of `latest`",
        "into": "the database that it goes into, which may be a new one on the same server",
        "yes": f"{_REPLACES['yes']}; without a name, take the newest backup of this server",
    },
)
def restore(
    c: Context,
    backup: str = "",
    from_: str = "",
    into: str = "",
    plan: bool = False,
    json: bool = False,
    json_lines: bool = False,
    wait: bool = False,
    yes: bool = False,
    confirm: str = "",
    standby: str | None = None,
    end_standby_sessions: bool = False,
    in_place: bool = False,
    timeout: str = "",
) -> None:
    """Build a database from a backup and swap it in; undo works.

    Every row count and every object is compared with the manifest before the
    swap. Without a name the list of backups is offered. A backup of another
    database needs `--into`.
    """
    said = {"wait": wait, "yes": yes, "digest": confirm, "in_place": in_place}
    said["timeout"] = timeout
    which = {"backup": backup, "into": into, "whence": from_}
    asked = {"standby": standby, "ends_readers": end_standby_sessions}
    with _ready("restore", c, plan=plan, json=(json, json_lines), asked=asked) as run_chain:
        run_chain(said=said, **which)


@task(auto_shortflags=False, help={"json": _CHAIN["json"]})
def backups(_c: Context, json: bool = False) -> None:
    """List the backups, the oldest first."""
    with _machine("commands.target") as target:
        target.backups(as_json=json)


@task(
    auto_shortflags=False,
    help={"json": _CHAIN["json"], "all": "of all that is noted, not of the last twenty"},
)
def runs(_c: Context, json: bool = False, all: bool = False) -> None:  # noqa: A002  (a flag)
    """List the runs that changed a database: when, who, what, how it ended.

    The newest is last. The runs are noted in backups/.runs.jsonl, of which
    the oldest lines go when there are about a thousand.
    """
    with _machine("commands.target") as target:
        target.runs(as_json=json, is_all=all)


@task(
    auto_shortflags=False,
    help={
        "json": _CHAIN["json"],
        "prove": "build the chain in a scratch database, and compare every object of it",
        "exact": "count the rows of large tables, which are estimated otherwise",
        "drift": "also compare models of more than a hundred tables with the database",
    },
)
def status(
    c: Context,
    json: bool = False,
    prove: bool = False,
    exact: bool = False,
    drift: bool = False,
) -> None:
    """Show the state, its evidence and its cure; revision, tables.

    Exit code 6 where something is to be done. Nothing is changed.
    """
    with _machine("commands.target") as target:
        target.status(as_json=json, plan=_dry(c), proves=prove, exact=exact, drift=drift)


@task(
    auto_shortflags=False,
    help={
        **_REBUILDS,
        "yes": f"{_REPLACES['yes']}; replace a database that is not empty without asking",
    },
)
def repair(
    c: Context,
    plan: bool = False,
    json: bool = False,
    wait: bool = False,
    yes: bool = False,
    confirm: str = "",
    in_place: bool = False,
    timeout: str = "",
) -> None:
    """Do the smallest cure of the state that `status` shows.

    Each is proved first, in a scratch database. It looks again after each,
    and goes on until the database is at head or a person is needed. It takes
    a backup before it changes the database in another way than by an
    upgrade. One that has rows is rebuilt only with them (`reset-db --carry`),
    and after asking; without a terminal it wants `--yes`.
    """
    said: dict[str, Any] = {"wait": wait, "yes": yes, "digest": confirm, "in_place": in_place}
    said["timeout"] = timeout
    with _machine("commands.target") as target:
        target.repair(plan=_dry(c, plan), as_json=json, said=said)


@task(
    auto_shortflags=False,
    positional=["old"],
    help={
        **_CHAIN,
        **_TIMEOUT,
        "old": "a git ref, such as main~3, or a folder of old revisions",
        "no_deep": _NO_DEEP,
    },
)
def prove_squash(
    c: Context,
    old: str,
    plan: bool = False,
    json: bool = False,
    wait: bool = False,
    no_deep: bool = False,
    timeout: str = "",
) -> None:
    """Prove that the chain makes what an old one made.

    Both chains are built in scratch databases; every object and the rows that
    migrations insert are compared. Exit code 6 where they differ. A git ref
    brings its own env.py and models. How the models differ is told, too.
    """
    said = {"wait": wait, "timeout": timeout}
    with _machine("commands.prove_squash") as proof:
        proof.prove_squash(old, plan=_dry(c, plan), as_json=json, deep=not no_deep, said=said)


class _ShortNamed(Task[Any]):
    """A task whose message may be given as Alembic's is: `-m`."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        arguments = super().get_arguments(ignore_unknown_help)
        for argument in arguments:
            if argument.name == "message":
                argument.names = ("message", "m")
        return arguments


@task(
    klass=_ShortNamed,
    auto_shortflags=False,
    help={
        **_CHAIN,
        **_TIMEOUT,
        "message": "what the new revision is for, as `alembic revision -m` has it",
        "from_": "the first revision to replace; without it the chain from its base",
        "to": "the last one; without it up to its heads",
        "chain": "the name of one of several chains",
        "rows": "keep or none: what becomes of rows that each build makes anew",
        "cluster": "keep or none: what becomes of roles, and all else that belongs to the server",
        "as_": "ops or sql: Alembic's operations where they say it exactly, or SQL alone",
        "dirty": "although the folder of the revisions has changes that git does not have",
        "sql": "print what production needs: the statement that lets a database follow",
    },
)
def squash(
    c: Context,
    message: str = "",
    from_: str = "",
    to: str = "",
    chain: str = "",
    rows: str = "",
    cluster: str = "",
    as_: str = "ops",
    dirty: bool = False,
    sql: bool = False,
    plan: bool = False,
    json: bool = False,
    wait: bool = False,
    timeout: str = "",
) -> None:
    """Replace many revisions by one that makes the same.

    It is written from the database that the old ones build, and proved: every
    object and the rows that migrations insert. Only then the old files go into
    a tar. A database at one of them follows by itself: `invoke upgrade`.
    """
    wanted: dict[str, Any] = {
        "message": message,
        "first": from_,
        "last": to,
        "chain": chain,
        "rows": rows,
        "cluster": cluster,
    }
    wanted |= {"form": as_, "dirty": dirty}
    said: dict[str, Any] = {"wait": wait, "timeout": timeout}
    with _machine("commands.squash") as command:
        if sql:
            command.print_statements(chain, as_json=json)
        else:
            command.squash(wanted, plan=_dry(c, plan), as_json=json, said=said)


@task(auto_shortflags=False, help={"json": _CHAIN["json"]})
def history(_c: Context, json: bool = False) -> None:
    """Draw the revisions, with the database's own place in them.

    As `git log --graph` does: branches, merges, labels, heads, missing files,
    and an orphaned revision beside them. Without a server the scripts alone
    are drawn.
    """
    with _machine("commands.revisions") as revisions:
        revisions.history(as_json=json)


@task(
    auto_shortflags=False,
    help={
        **_LOOKS,
        "output": "the file that it is written to; .backset/report.html without it",
        "run": "the file of what a task has printed with --json: its steps and waits are shown",
    },
)
def report(
    c: Context, output: str = "", run: str = "", plan: bool = False, json: bool = False
) -> None:
    """Write a page to look at: state, revisions, schema, rows.

    One file of HTML that loads nothing: the revisions with the database's
    place in them, the tables with what differs from the models, the rows, and
    with `--run` the steps of a run on a time scale. `reset-db --report` writes
    it after the rebuild, also after one that failed. The database is only read.
    """
    with _machine("commands.report") as command:
        command.report(output=output, run=run, as_json=json, plan=_dry(c, plan))


@task(auto_shortflags=False, help=_LOOKS)
def archive(c: Context, plan: bool = False, json: bool = False) -> None:
    """Put migration scripts that are out of use into a tar.

    Old version folders, files that Alembic does not load, byte code without
    source: they are put into the backup folder, read back, and only then
    removed. The last line says how they come back. What the configuration
    names, or another chain may load, stays.
    """
    with _machine("commands.revisions") as revisions:
        revisions.archive(as_json=json, plan=_dry(c, plan))


@task(auto_shortflags=False, help=_LOOKS)
def rebase(c: Context, plan: bool = False, json: bool = False) -> None:
    """Let scripts from before a squash follow the new revision.

    A script whose down_revision or depends_on names a replaced revision gets
    the id of the one that replaces it, and nothing else in the file changes.
    One that did not follow the last of them gets a new id as well, and keeps
    its old one in `replaces`: `invoke upgrade` runs the rest where it has run.
    """
    with _machine("commands.revisions") as revisions:
        revisions.rebase(as_json=json, plan=_dry(c, plan))


@task
def protect(c: Context) -> None:
    """Keep every run from replacing the database.

    Whatever flags the run has: the marker is in the database itself, so
    every checkout sees it. `seed` respects it too.
    """
    with _machine("commands.target") as target:
        target.protect(plan=_dry(c))


@task(auto_shortflags=False, help={"confirm": "the database's name, where nobody can be asked"})
def unprotect(c: Context, confirm: str = "") -> None:
    """Let runs replace the database again; asks for its name."""
    with _machine("commands.target") as target:
        target.unprotect(confirm=confirm, plan=_dry(c))


@task
def psql(c: Context) -> None:
    """Open psql: `invoke psql`, `invoke psql -- -c "select 1"`.

    It is the embedded program, which talks to servers of every version; it
    ends with psql's exit code.
    """
    with _machine("commands.programs") as programs:
        programs.psql(_after_dashes(), plan=_dry(c))


@task(
    auto_shortflags=False,
    help={"chain": "the name of one of several chains, as [[tool.backset.chains]] has it"},
)
def alembic(c: Context, chain: str = "") -> None:
    """Run alembic: `invoke alembic -- history` and the like.

    It runs under the project's interpreter, and reaches the same database as
    the other tasks: a connection to another one is refused, whatever env.py
    and its files say. It ends with Alembic's exit code.
    """
    with _machine("commands.programs") as programs:
        programs.alembic(_after_dashes(), chain=chain, plan=_dry(c))


@task(auto_shortflags=False, help={"reveal": "print the password too"})
def url(c: Context, reveal: bool = False) -> None:
    """Print the URL of the database, for the application.

    Its password is left out, unless `--reveal` asks for it.
    """
    with _machine("commands.target") as target:
        target.url(reveal=reveal, plan=_dry(c))


@task
def start(c: Context) -> None:
    """Start the embedded PostgreSQL (used without DATABASE_URL).

    The tasks that need it start it by themselves; it runs until `stop`.
    """
    with _machine("commands.target") as target:
        target.start(plan=_dry(c))


@task
def stop(c: Context) -> None:
    """Stop the embedded PostgreSQL."""
    with _machine("commands.target") as target:
        target.stop(plan=_dry(c))


@task(
    auto_shortflags=False,
    positional=["action"],
    help={
        **_REPLACES,
        **_TIMEOUT,
        "action": "status, upgrade, verify, reset-db or backup",
        "json": "print a JSON object for each thing that happens, and one for all at the end",
        "jobs": "how many databases at a time; without it, one for each processor",
        "fail_fast": "begin no other database after the first failure",
        "canary": "stop after so many databases, unless `verify` has nothing to say of them",
        "dask": "the scheduler of a Dask cluster that does the work, such as tcp://host:8786",
        "anew": "begin anew, whatever a run before has left",
        "yes": "go on although it is not certain that these are the right servers",
        "confirm": "the digest of --plan: agree to replace the databases that the plan shows",
    },
)
def fleet(
    c: Context,
    action: str,
    plan: bool = False,
    json: bool = False,
    jobs: str = "",
    fail_fast: bool = False,
    canary: str = "",
    dask: str = "",
    wait: bool = False,
    yes: bool = False,
    confirm: str = "",
    anew: bool = False,
    timeout: str = "",
) -> None:
    """Do a task on many databases: `invoke fleet upgrade`.

    Which, [[tool.backset.fleet]] says. A plan comes first, then so many at a
    time; each has its own lock, backup and undo. A failure stops no other. A
    second run goes on where the first one has stopped.
    """
    with _machine("commands.fleet") as command:
        flags = command.FleetFlags(
            plan=_dry(c, plan),
            as_json=json,
            jobs=jobs,
            fail_fast=fail_fast,
            canary=canary,
            dask=dask,
            wait=wait,
            yes=yes,
            confirm=confirm,
            anew=anew,
            timeout=timeout,
        )
        command.fleet(action, flags)


class _BranchTask(Task[Any]):
    """A task with an action and a name, of which either may be left out; see _NamedTask."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        arguments = super().get_arguments(ignore_unknown_help)
        after, tasks = _after(self.name)
        words: list[str] = []
        for word, before in zip(after, ["", *after], strict=False):
            if word.startswith("-") or before in _WITH_A_WORD:
                continue
            if word in tasks or len(words) > words.count("list") + 1:
                break
            words.append(word)
        for argument in [each for each in arguments if each.positional][: len(words)]:
            argument.default = None
        return arguments


@task(
    klass=_BranchTask,
    auto_shortflags=False,
    positional=["action", "name"],
    help={
        **_CHAIN,
        "action": "list, create, switch or delete; without one, list",
        "name": "the branch; without it, the one that is checked out",
        "from_": "the branch whose database is copied, whatever its revisions are",
        "empty": "make an empty database in place of a copy; `reset-db` fills it",
        "install_hook": "let git run `branch switch` after each checkout: post-checkout",
        "remove_hook": "take the lines of --install-hook away; others in that hook stay",
        "yes": "drop it without asking; copy although the server may be on another machine",
    },
)
def branch(
    c: Context,
    action: str = "list",
    name: str = "",
    from_: str = "",
    empty: bool = False,
    install_hook: bool = False,
    remove_hook: bool = False,
    plan: bool = False,
    json: bool = False,
    wait: bool = False,
    yes: bool = False,
) -> None:
    """Give each branch of git a database of its own.

    It is copied from the nearest one: of those whose revisions are all in the
    scripts of the branch, the one with the fewest left to run. All tasks and
    `url` then follow what is checked out; .env stays as it is. `switch` makes
    the database that a branch lacks, or says how it stands.
    """
    if install_hook and remove_hook:
        what = "--install-hook and --remove-hook say the opposite"
        raise Exit(f" ✘ {what} → leave one of them out", code=2)
    hook = "install" if install_hook else "remove" if remove_hook else ""
    with _machine("commands.branch") as command:
        flags = command.BranchFlags(
            name=name,
            source=from_,
            empty=empty,
            hook=hook,
            plan=_dry(c, plan),
            as_json=json,
            wait=wait,
            yes=yes,
        )
        command.branch(action, flags)


@task(auto_shortflags=False, help={"json": _CHAIN["json"], "no_deep": _NO_DEEP})
def check(c: Context, json: bool = False, no_deep: bool = False) -> None:
    """Try the migrations and the models on a throw-away server.

    One head, no missing file, every migration runs, and the models agree, as
    Alembic compares them and as PostgreSQL has them. No server of yours is
    needed.
    """
    with _machine("commands.target") as target:
        target.check(as_json=json, plan=_dry(c), deep=not no_deep)


@task(auto_shortflags=False, help={"timeout": "seconds after which to give up; 60 without it"})
def wait(c: Context, timeout: str = "60") -> None:
    """Wait until the server of the database really serves.

    It has answered twice in a row, over the way that the tasks take. Exit
    code 4 when the time is over: a minute, without `--timeout`.
    """
    with _machine("commands.target") as target:
        target.wait(timeout=timeout, plan=_dry(c))


_OF_CHAINS = {
    each.name: each for each in (carry, undo, backup, reset, restore, upgrade, verify, seed)
}


def collection(chains: Iterable[Chain], *single: Any) -> Collection:  # noqa: ANN401  (Invoke's decorator)
    """Return a task for each chain, with the single ones beside them; see rebuilding()."""
    made = [*chains]
    CHAINS.update({each.name: each for each in made})
    return Collection(*(_OF_CHAINS.get(each.name) or rebuilding(each) for each in made), *single)


namespace = collection(
    STANDARD,
    *(status, repair, backups, runs, history, report, archive, squash, rebase, prove_squash),
    *(branch, protect, unprotect, psql, alembic, url, start, stop, wait, check, fleet),
)
