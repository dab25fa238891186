"""Where a carry takes its rows from, as `--from` says it: another database, or a dump. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from backset.connections.target import Target
from backset.errors import SettingsError

if TYPE_CHECKING:
    from backset.configuration.settings import Settings

_FLAG = "--from"
_VARIABLE = "env:"
EXPOSED = (
    f"others on this machine can read the password in {_FLAG} in their list of processes → say "
    f"{_FLAG} {_VARIABLE}NAME, and set that variable; or leave the password to ~/.pgpass"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What `--from` says.

    database: the one that it names; None where it names a dump, which is then `dump`.
    is_exposed: whether everybody on this machine can read the password of the database.
    """

    database: Target | None = None
    dump: str = ""
    is_exposed: bool = False

    @property
    def backup(self) -> str:
        """The name of the backup that it may be."""
        return PurePath(self.dump).name.removesuffix(".zst").removesuffix(".dump")

    @property
    def shown(self) -> str:
        """It without passwords."""
        return self.database.shown if self.database else self.dump


def parse(settings: Settings, text: str) -> Origin:
    """Read what `--from` says: a URL, `env:` with a variable that has one, a backup, a file.

    Raises SettingsError.
    """
    if not text:
        remedy = f"add {_FLAG} with a backup, a dump or a URL; the rows of the database itself are "
        remedy += "carried by `invoke reset-db --carry`"
        raise SettingsError([("carry was not told where the rows come from", remedy)])
    if text.startswith(_VARIABLE):
        name = text.removeprefix(_VARIABLE)
        if not (url := settings.environ.get(name)):
            what = f"{_FLAG} names the variable {name or '…'}, which is not set"
            raise SettingsError([(what, "set it to a URL, in the environment or in .env")])
        return Origin(database=Target.parse(url, name))
    if "://" in text:
        database = Target.parse(text, _FLAG)
        return Origin(database=database, is_exposed=bool(database.secret_env))
    return Origin(dump=text)
