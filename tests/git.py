"""Git, without the settings of whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WHO = {
    f"GIT_{role}_{word}": text
    for role in ("AUTHOR", "COMMITTER")
    for word, text in (("NAME", "Ann"), ("EMAIL", "ann@example.org"))
}


def git(folder: Path, *arguments: str) -> str:
    """Run git without the settings of whoever runs the tests; return what it has said."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **WHO}
    argv = ["git", *arguments]
    done = subprocess.run(argv, cwd=folder, env=env, check=True, capture_output=True, text=True)
    return done.stdout


def commit(folder: Path, subject: str) -> None:
    """Commit everything but what is made."""
    (folder / ".gitignore").write_text("__pycache__/\nbackups/\n.backset/\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", subject)
