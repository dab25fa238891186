"""Which variables the project's code depends on: those that it names, and fields of settings.

A library may go through all of them to find a few. Where it is known which, these alone count.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .callers import MAPPINGS, PYTHON, VIEWS, outside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .callers import Callers

_EVERY = "*"
_CHOOSING = frozenset({"CI"})  # code that goes through all of them may choose a database by it
# Python, the C library and libpq read them, and nobody sees that.
_UNSEEN = (
    *("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONUSERBASE", "PYTHONNOUSERSITE"),
    *("PYTHONOPTIMIZE", "PYTHONHASHSEED", "PYTHONUTF8", "TZ", "PGTZ", "PGDATESTYLE"),
)
# They copy the environment for a program that they start, or for what a program says.
_COPIES = frozenset(f"{PYTHON}{each}" for each in ("ctypes/util.py", "platform.py", "uuid.py"))
_PROXIES = f"{PYTHON}urllib/request.py"  # it looks for `https_proxy` and the like in all of them
_SETTINGS = "/pydantic_settings/"
_OLD_SETTINGS = ("/pydantic/env_settings.py", "/pydantic/v1/env_settings.py")
_OLD_MODULES = ("pydantic.env_settings", "pydantic.v1.env_settings")
_DOTENV = "/dotenv/main.py"
_INTERPOLATED = re.compile(r"\$\{([^}:]*)")


class AskedVariables:
    """What is asked of `os.environ` from now on.

    names: those that are asked for, and `*` where somebody goes through all of them. own: those of
    them for which people's code asks. fields: lower-cased names of which a variable of a settings
    class has one in its own name; prefixes: lower-cased, what these classes put in front.
    """

    def __init__(self, callers: Callers) -> None:
        self.names = set(_UNSEEN)
        self.own = set()  # type: set[str]
        self.fields = set()  # type: set[str]
        self.prefixes = set()  # type: set[str]
        self._callers = callers
        self._walks = {}  # type: dict[tuple[int, int], Any]  # instructions that walk, their code
        self._watch()

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Note nothing of what is asked for in the block."""
        kept = set(self.names), set(self.own)
        yield
        self.names, self.own = kept

    def _watch(self) -> None:
        kind = type(os.environ)  # type: Any
        get, go_through = kind.__getitem__, kind.__iter__

        def getting(environ: Any, key: Any) -> Any:
            if isinstance(key, (str, bytes)):
                self._ask(os.fsdecode(key), sys._getframe(1))  # noqa: SLF001
            return get(environ, key)

        def going_through(environ: Any) -> Iterator[Any]:
            self._walk(sys._getframe(1))  # noqa: SLF001
            return go_through(environ)  # type: ignore[no-any-return]

        kind.__getitem__, kind.__iter__ = getting, going_through

    def _ask(self, name: str, frame: Any) -> None:
        """Note a name, unless it is one of all that somebody goes through."""
        if _instruction(frame) in self._walks:
            return
        self.names.add(name)
        if name not in self.own and self._callers.asks(frame, name):
            self.own.add(name)

    def _walk(self, frame: Any) -> None:
        where = _instruction(frame)
        if where is not None:
            self._walks[where] = outside(frame, VIEWS).f_code  # which keeps its id for itself
        walker = outside(frame, MAPPINGS)
        if walker is None or not self._is_understood(walker):
            self.names |= {_EVERY, *_CHOOSING}
            self.own |= _CHOOSING

    def _is_understood(self, walker: Any) -> bool:
        """Tell whether what a walk takes is known, and note that."""
        take = self._taker(walker.f_code.co_filename)
        try:
            return take is not None and take(walker)
        except Exception:  # noqa: BLE001  (another version, which does it otherwise)
            return False

    def _taker(self, path: str) -> Callable[[Any], bool] | None:
        """Return what notes that for the code of a file; None where nobody knows."""
        if path in _COPIES:
            return lambda _walker: True
        if path == _PROXIES:
            return self._take_proxies
        if not self._callers.is_installed(path):
            return None
        if _SETTINGS in path:
            return self._take_settings
        if path.endswith(_OLD_SETTINGS):
            return self._take_old_settings
        return self._take_interpolated if path.endswith(_DOTENV) else None

    def _take_proxies(self, walker: Any) -> bool:
        self._add("_proxy")
        return str(walker.f_code.co_name) == "getproxies_environment"

    def _take_settings(self, walker: Any) -> bool:
        """Note the fields of every settings class; tell whether these are all that is taken."""
        package = sys.modules["pydantic_settings"]
        if not _is_building(walker) or any(
            _is_peoples(each) for each in _below(package.PydanticBaseSettingsSource)
        ):
            return False
        for kind in _below(package.BaseSettings):
            if not _takes_fields_only(kind):
                return False
            for name, about in kind.model_fields.items():
                self._add(name, *_aliases(about.alias), *_aliases(about.validation_alias))
            self._put_in_front(kind.model_config.get("env_prefix"))
        for each in _package_frames(walker):
            self._put_in_front(each.f_locals.get("_env_prefix"))
        return True

    def _take_old_settings(self, _walker: Any) -> bool:
        """Note the variables of every settings class of pydantic 1: it has their whole names."""
        for module in filter(None, map(sys.modules.get, _OLD_MODULES)):
            for kind in _below(module.BaseSettings):
                for field in kind.__fields__.values():
                    self._add(*field.field_info.extra["env_names"])
        return True

    def _take_interpolated(self, walker: Any) -> bool:
        """Note the names in the value of a .env file that is looked at, such as `${HOME}`."""
        self.names.update(_INTERPOLATED.findall(walker.f_locals["value"]))
        return True

    def _add(self, *names: str) -> None:
        self.fields.update(each.lower() for each in names)

    def _put_in_front(self, prefix: Any) -> None:
        if isinstance(prefix, str):
            self.prefixes.add(prefix.lower())


def _instruction(frame: Any) -> tuple[int, int] | None:
    """Return which instruction asks: one that walks gets names by the same one."""
    asker = outside(frame, VIEWS)
    return None if asker is None else (id(asker.f_code), asker.f_lasti)


def _below(kind: Any) -> Iterator[Any]:
    for each in type.__subclasses__(kind):
        yield each
        yield from _below(each)


def _package_frames(walker: Any) -> Iterator[Any]:
    while walker is not None and _SETTINGS in walker.f_code.co_filename:
        yield walker
        walker = walker.f_back


def _is_building(walker: Any) -> bool:
    """Tell whether a settings class asks; else somebody gets all that its source has read."""
    *_, outermost = _package_frames(walker)
    return bool(outermost.f_code.co_filename.endswith(f"{_SETTINGS}main.py"))


def _is_peoples(kind: Any) -> bool:
    return str(kind.__module__).partition(".")[0] != "pydantic_settings"


def _takes_fields_only(kind: Any) -> bool:
    """Tell whether a settings class leaves it to the package how variables become fields.

    Whoever puts its sources into another order may; whoever does more may read what they have read.
    """
    own = vars(kind)
    if _is_peoples(kind) and any(each.startswith("_settings") for each in own):
        return False
    customise = own.get("settings_customise_sources")
    return customise is None or not _is_peoples(kind) or _is_order(customise.__func__)


def _is_order(function: Any) -> bool:
    """Tell whether a function names nothing but source classes of the package."""
    code = function.__code__
    names = {*code.co_names, *code.co_freevars} - {
        "super",
        "__class__",
        "settings_customise_sources",
    }
    is_flat = not any(hasattr(each, "co_names") for each in code.co_consts)
    found = [function.__globals__.get(each) for each in names]
    return is_flat and all(isinstance(each, type) and not _is_peoples(each) for each in found)


def _aliases(alias: Any) -> Iterator[str]:
    """Yield the variables of an alias: a text, AliasPath, or AliasChoices of these."""
    if isinstance(alias, str):
        yield alias
    elif hasattr(alias, "choices"):
        for each in alias.choices:
            yield from _aliases(each)
    elif alias is not None:
        yield alias.path[0]
