"""Which backup a restore was asked for: by its name, the newest, or chosen from a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.errors import RefusedError, StepFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.backups.manifest import Backup
    from backset.backups.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What `invoke restore` was told.

    vault: where a name is looked for. name: None for the newest backup of the server.
    database: whose backup it must be; None where --into says that any will do.
    """

    vault: Vault
    name: str | None
    database: str | None

    def backup(self, server_id: str, major: int) -> Backup:
        """Return the backup, if this server can take it. Raises StepFailedError, RefusedError."""
        found = self.vault.find(self.name) if self.name else self.vault.newest(server_id)
        if reasons := _refusals(found, self.database, major):
            raise RefusedError(reasons)
        return found


def _refusals(backup: Backup, database: str | None, major: int) -> list[tuple[str, str]]:
    about, reasons = backup.manifest, []
    if database not in {None, about.database}:
        remedy = f"choose one of {database} from `invoke backups`, or say --into {database}"
        reasons.append((f"{backup.name} is a backup of {about.database}", remedy))
    if about.major > major:
        what = f"{backup.name} was taken from PostgreSQL {about.major}, and this is {major}"
        reasons.append((what, f"restore it on a server of version {about.major} or later"))
    return reasons


def ask(offered: Sequence[Backup]) -> str:
    """Read from the terminal the number of one of `offered`; return its name.

    Raises StepFailedError when nothing is chosen.
    """
    while True:
        try:
            answer = input(f" which one? [1-{len(offered)}] ").strip()
        except EOFError:
            answer = ""
        if not answer:
            raise StepFailedError("no backup was chosen", "type the number of one, or its name")
        for number, each in enumerate(offered, 1):
            if answer in {str(number), each.name}:
                return each.name
