"""The steps of chains: what each does, and what it says that it would do."""

from backset.steps.content import carry, seed, upgrade, verify
from backset.steps.databases import clear, promote, reset, undo
from backset.steps.dumps import backup, load

__all__ = [
    "backup",
    "carry",
    "clear",
    "load",
    "promote",
    "reset",
    "seed",
    "undo",
    "upgrade",
    "verify",
]
