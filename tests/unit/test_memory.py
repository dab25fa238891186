"""What a kept build depended on."""

from __future__ import annotations

from pathlib import Path

import backset
from backset.memory import inputs


def test_of_the_programs_only_our_own_files_count() -> None:
    """All of them, and nothing that is installed beside: a clone is for the same backset."""
    package = Path(backset.__file__).parent
    counted = {Path(each) for each in inputs._ourselves()}  # noqa: SLF001  (a hash hides them)
    assert counted == {*package.rglob("*.py")}
