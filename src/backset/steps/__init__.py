"""The steps of chains: what each does, and what it says that it would do.

STANDARD: the chains of a project that makes none of its own; this repository's tasks.py shows the
same.
"""

from backset.chain import Chain, parallel
from backset.steps.content import carry, seed, upgrade, verify
from backset.steps.databases import backup, clear, load, promote, reset, undo
from backset.steps.squashes import follow

__all__ = [
    "backup",
    "carry",
    "clear",
    "follow",
    "load",
    "promote",
    "reset",
    "seed",
    "undo",
    "upgrade",
    "verify",
]

STANDARD = (
    Chain(
        "reset-db",
        *(parallel(backup, reset), upgrade, verify, carry, seed, promote),
        in_place=(backup, clear, upgrade, verify, carry, seed),
    ),
    Chain("carry", parallel(backup, reset), upgrade, verify, carry, seed, promote),
    Chain("reset", parallel(backup, reset), promote, in_place=(backup, clear)),
    Chain("restore", load, promote, in_place=(backup, clear, load)),
    Chain("undo", undo),
    Chain("backup", backup),
    Chain("upgrade", follow, upgrade),
    Chain("verify", verify),
    Chain("seed", seed),
)
