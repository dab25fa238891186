"""What a build depends on outside of the server: files, folders, packages and variables, hashed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from backset.settings.settings import Settings

    Account = Mapping[str, Any]  # what the worker's tracer says
    Parts = dict[str, str]  # what each thing is called → a hash of it

OF_ENVIRONMENT = ("a variable that is read",)
EVERY = "*"  # among the names of variables: somebody went through all of them
_MODULES = (".py", ".pyc", ".so")  # beside folders; `app.log` beside `app` is none
_SEEN = ("files", "looks", "folders")  # each with what was seen there
_MOVED = "?"  # what stood at a path, if two processes have seen different things there
# What a terminal, a session, a run of tests or of CI puts there; it differs where nothing else
# does. It counts where the project's own code asks for it by its name.
_NOISE = re.compile(
    "_|PWD|OLDPWD|SHLVL|TERM|TERMINFO|TERM_PROGRAM(_VERSION)?|TERM_SESSION_ID|TERMCAP|COLORTERM|NO_COLOR|FORCE_COLOR|CLICOLOR(_FORCE)?|PY_COLORS|CI"
    "|COLUMNS|LINES|LS_COLORS|LESS|LESSOPEN|LESSCLOSE|LESSCHARSET|PAGER|EDITOR|VISUAL|PS1"
    "|WINDOWID|DISPLAY|WAYLAND_DISPLAY|TMUX|TMUX_PANE|TMUX_TMPDIR|STY|SSH_(AUTH_SOCK|AGENT_PID|AGENT_LAUNCHER|CLIENT|CONNECTION|TTY|ASKPASS)|XDG_SESSION_.*|XDG_ACTIVATION_TOKEN"
    "|DBUS_SESSION_BUS_ADDRESS|GPG_(AGENT_INFO|TTY)|INVOCATION_ID|JOURNAL_STREAM|HISTFILE|VSCODE_.*|PGAPPNAME"
    "|PYTEST_CURRENT_TEST|PYTEST_XDIST_.*|PYTHONPYCACHEPREFIX|PYTHONDONTWRITEBYTECODE"
)


def parts(account: Account, chosen: Iterable[Path]) -> Parts:
    """Return a hash of each thing that the account tells of, as it is now.

    chosen: files that the settings name.
    """
    found = {path: _content(path) for path in [*account["files"], *map(str, chosen)]}
    for folder in account["folders"]:
        found[f"the folder {folder}"] = digest(_names(folder, account))
    for program in account["programs"]:
        found[f"the program {program}"] = digest(_state(program))
    looks = {path: _kind(path) for path in account["looks"]}
    return {
        **found,
        "a file that is looked for": digest(looks),
        "a module that can be imported": digest(sorted(_importable(account))),
        "an installed package": digest(states(_installed(account))),
    }


def counted(account: Account, environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that count, and those of them that are not set as None.

    Of a settings class each variable counts whose name has that of a field in it. Noise counts
    where the project's own code names it.
    """
    fields, own = account["fields"], {*account["own"]}
    starts = tuple(f"{prefix}{field}" for prefix in ("", *account["prefixes"]) for field in fields)

    def is_read(name: str) -> bool:
        lower, is_noise = name.lower(), _NOISE.fullmatch(name)
        if EVERY in account["variables"] and not is_noise:
            return True
        return lower.startswith(starts) if is_noise else any(each in lower for each in fields)

    named = {name for name in account["variables"] if name in own or not _NOISE.fullmatch(name)}
    wanted = {*named, *filter(is_read, environ)} - {EVERY}
    return {name: environ.get(name) for name in wanted if not _is_ignored(account, name)}


def variables(account: Account, environ: Mapping[str, str]) -> str:
    """Return a hash of the variables that count."""
    return digest(counted(account, environ))


def hints(settings: Settings, account: Account, environ: Mapping[str, str]) -> dict[str, str]:
    """Return four hexadecimal digits of each variable that counts, only to find what has changed.

    They are too few to tell the value by.
    """
    found = counted(of_everything(settings, account), environ)
    return {name: digest([name, value])[:4] for name, value in found.items()}


def variable(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Return in words the first variable whose hint has changed; empty where all are the same."""
    changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return f"variable {changed[0]} has changed" if changed else ""


def difference(old: Mapping[str, str], new: Mapping[str, str], root: Path) -> str:
    """Return in words the first thing that is not as it was; empty if everything is."""
    for name in [*old, *new]:
        if old.get(name) != new.get(name):
            shown = name.replace(f"{root}{os.sep}", "")
            return f"{shown} is new" if name not in old else f"{shown} has changed"
    return ""


def restless(account: Account, chosen: Iterable[Path], since_ns: int) -> str:
    """Return what may have changed while it was read; then nobody knows what was built from it.

    since_ns: when the run began, in nanoseconds. A file's ctime nobody can set back.
    """
    for path, kind in [*account["files"].items(), *account["looks"].items()]:
        if _kind(path) != kind:
            return str(path)
    for folder, names in account["folders"].items():
        if _names(folder, account) != _counted(folder, names, account):
            return str(folder)
    read = [path for path, kind in account["files"].items() if kind == "f"]
    read += [*map(str, chosen), *_importable(account), *_installed(account)]
    read += account["programs"]
    return next((path for path in read if _has_changed(path, since_ns)), "")


def outside(account: Account, folders: Sequence[Path]) -> dict[str, Any]:
    """Return an account without what is in `folders`, which every run writes to."""
    inside = tuple(f"{each}{os.sep}" for each in folders)
    trimmed = {
        key: {path: what for path, what in account[key].items() if not path.startswith(inside)}
        for key in _SEEN
    }
    return {**account, **trimmed}


def together(accounts: Sequence[Account]) -> dict[str, Any]:
    """Return one account of several processes, of which each has migrated a chain."""
    whole = dict(accounts[0])
    for account in accounts[1:]:
        for key, more in account.items():
            unite = _agreed if key in _SEEN else _united
            whole[key] = unite(whole[key], more)
    return whole


def _agreed(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    moved = {path: _MOVED for path in one.keys() & other.keys() if one[path] != other[path]}
    return {**one, **other, **moved}


def _united(one: Any, other: Any) -> Any:  # noqa: ANN401  (lists of names, and tables of these)
    if isinstance(one, dict):
        return {key: _united(one.get(key, []), other.get(key, [])) for key in {*one, *other}}
    return sorted({*one, *other})


def ignoring(account: Account, patterns: Sequence[str], root: Path) -> dict[str, Any]:
    """Return an account without what the settings say does not count.

    patterns: of names of variables, of paths seen from `root`, of programs and of addresses.
    """
    account = {**account, "ignored": [*patterns], "root": str(root)}
    if not patterns:
        return account
    files = {
        key: {path: what for path, what in account[key].items() if not _is_ignored(account, path)}
        for key in _SEEN
    }
    unknown = {
        words: names
        for words, names in account["unknown"].items()
        if not any(_is_ignored(account, name) for name in names)
    }
    programs = [
        each
        for each in account["programs"]
        if not any(_is_ignored(account, name) for name in (each, os.path.basename(each)))  # noqa: PTH119
    ]
    return {**account, **files, "programs": programs, "unknown": unknown}


def idle(
    account: Account, environ: Mapping[str, str], patterns: Sequence[str], root: Path
) -> list[str]:
    """Return the patterns that nothing in an account has.

    None where somebody went through all variables: another environment may have one of that name.
    """
    if EVERY in account["variables"]:
        return []
    names = {*account["files"], *account["looks"], *account["folders"], *account["programs"]}
    for folder, inside in account["folders"].items():
        names.update(os.path.join(folder, each) for each in inside)  # noqa: PTH118
    names |= {os.path.basename(each) for each in account["programs"]}  # noqa: PTH119
    names |= {each for known in account["unknown"].values() for each in known}
    names |= counted(account, environ).keys() | {*account["variables"]}
    alone = [(each, {"ignored": [each], "root": str(root)}) for each in patterns]
    return [each for each, one in alone if not any(_is_ignored(one, name) for name in names)]


def _is_ignored(account: Account, name: str) -> bool:
    """Tell whether a pattern of the settings has a name, or a path seen from the project."""
    ignored = account.get("ignored", ())
    shown = name.removeprefix(f"{account['root']}{os.sep}") if ignored else name
    return any(fnmatchcase(shown, each) for each in ignored)


def states(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return size and time of files that nobody edits: their bytes are not read."""
    return {path: _state(path) for path in paths}


def digest(content: object) -> str:
    """Return 32 hexadecimal digits of anything that JSON can say."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _content(path: str) -> str:
    """Return a hash of a file's bytes; of another thing, what it is."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (hundreds of them)
            return hashlib.sha256(file.read()).hexdigest()[:32]
    except OSError:
        return f"no file: {_kind(path)}"


def _kind(path: str) -> str:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):
        return ""
    return "f" if stat.S_ISREG(mode) else "d" if stat.S_ISDIR(mode) else "o"


def _state(path: str) -> tuple[int, int]:
    try:
        about = os.stat(path)  # noqa: PTH116
    except OSError:
        return (0, 0)
    return about.st_size, about.st_mtime_ns


def _has_changed(path: str, since_ns: int) -> bool:
    """Tell whether something has changed; of a package its byte code is nothing that counts."""
    byte_code = os.path.join(path, "__pycache__")  # noqa: PTH118
    return _changed_at(path) >= since_ns > _changed_at(byte_code)


def _changed_at(path: str) -> int:
    try:
        return os.stat(path).st_ctime_ns  # noqa: PTH116
    except OSError:
        return 0


def _names(folder: str, account: Account) -> list[str] | None:
    try:
        return _counted(folder, os.listdir(folder), account)  # noqa: PTH208
    except OSError:
        return None


def _counted(folder: str, names: Iterable[str], account: Account) -> list[str]:
    return sorted(
        name
        for name in names
        if name != "__pycache__" and not _is_ignored(account, os.path.join(folder, name))  # noqa: PTH118
    )


def _importable(account: Account) -> Iterator[str]:
    """Yield what stands where modules are looked for, under a name that was tried to import."""
    tried = set(account["tried"])
    for folder in account["searched"]:
        for name in _names(folder, account) or ():
            module, _, kind = name.partition(".")
            is_module = module in tried and (not kind or name.endswith(_MODULES))
            if is_module or name.endswith((".dist-info", ".egg-info")):
                yield os.path.join(folder, name)  # noqa: PTH118


def _installed(account: Account) -> Iterator[str]:
    for folder, names in account["installed"].items():
        yield from (os.path.join(folder, name) for name in names)  # noqa: PTH118


def chosen_files(root: Path, globs: Iterable[str]) -> list[Path]:
    """Return the files that patterns of the settings name."""
    found = set()
    for pattern in globs:
        with suppress(OSError):
            found |= {path for path in root.glob(pattern) if path.is_file()}
    return sorted(found)


def of_files(settings: Settings, account: Mapping[str, Any]) -> Parts:
    """Return the parts of a record that are files or settings, as they are now."""
    chosen = [*chosen_files(settings.root, settings.inputs), settings.baseline]
    return {
        **parts(account, chosen),
        "a setting": digest(_settings(settings)),
        "the interpreter": digest(states([os.path.realpath(settings.python)])),
        "backset": digest(states(_ourselves())),
    }


def of_environment(
    settings: Settings, account: Mapping[str, Any], environ: Mapping[str, str]
) -> Parts:
    """Return those that are variables. environ: of the worker; a command may read all of it."""
    return {OF_ENVIRONMENT[0]: variables(of_everything(settings, account), environ)}


def of_everything(settings: Settings, account: Account) -> Account:
    """Return the same with every variable, where a command of the project migrates."""
    every = [EVERY, *account["variables"]]
    return {**account, "variables": every} if settings.has_door else account


def of_seed(settings: Settings, environ: Mapping[str, str]) -> Parts:
    """Return the parts of the seeded state, beside those of the record. environ: of the command."""
    about = [settings.seed, dict(settings.rows)]
    every = {"variables": [EVERY], "own": [], "fields": [], "prefixes": []}
    ignored = {"ignored": settings.ignore_inputs, "root": str(settings.root)}
    return {
        "the seed command": digest(about),
        "its environment": variables({**every, **ignored}, environ),
    }


def _settings(settings: Settings) -> list[object]:
    """Return what of the settings decides what is built, and what is said of it."""
    today = datetime.now().astimezone().date()
    return [
        [asdict(each) for each in settings.lineages],
        [asdict(each) | {"over": each.has_expired(today)} for each in settings.ignore],
        [dict(each) for each in (settings.env, settings.ini, settings.expect)],
        [settings.upgrade, settings.init, settings.inputs, settings.baseline],
        settings.ignore_inputs,
        [settings.strict, settings.server_log],
    ]


def _ourselves() -> list[str]:
    """Return the files that we consist of: what they do may change with them."""
    top = Path(__file__).parents[1]
    return [
        os.path.join(folder, name)  # noqa: PTH118  (hundreds of them)
        for folder, _, names in os.walk(top)
        for name in names
        if name.endswith(".py")
    ]
