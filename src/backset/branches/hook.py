"""Git's hook `post-checkout`: our lines put into it and taken away; the user's stay as they are.

They stand behind the first line, since a hook may end with `exit` or `exec`, and run in a shell of
their own that changes nothing for what comes after them.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from typing import TYPE_CHECKING

from backset.errors import RefusedError
from backset.process import files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.revisions.git import Git

NAME = "post-checkout"
_SHEBANG = "#!/bin/sh\n"
_SHELL = re.compile(r"#!.*\b(?:sh|bash|dash|zsh|ksh)\b")
_BEGIN = "# >>> backset {} (`backset branch --remove-hook` removes these lines)\n"
_END = "# <<< backset {}\n"


class Hook:
    """The hook of a repository, and our lines in it for the project in one folder.

    path: of its file, where a link leads. is_there: whether our lines are.
    """

    def __init__(self, git: Git) -> None:
        self.path = (git.hooks() / NAME).resolve()
        self._folder = git.prefix.rstrip("/") or "."
        self._begin, self._end = (each.format(self._folder) for each in (_BEGIN, _END))
        self._text = self._read()
        own = rf"^{re.escape(self._begin)}.*?^{re.escape(self._end)}"
        self._own = re.compile(own, re.MULTILINE | re.DOTALL)

    @property
    def is_there(self) -> bool:
        """Whether our lines are in it."""
        return bool(self._own.search(self._text))

    def install(self, command: Sequence[str]) -> None:
        """Put our lines into it, in the place of older ones. Raises RefusedError.

        command: the words that run backset here, such as an interpreter and `-m backset`.
        """
        text = self._own.sub("", self._text) or _SHEBANG
        first, rest = text.partition("\n")[::2]
        if not _SHELL.match(first):
            what = f"{self.path} is no shell script, so that no lines of a shell go into it"
            raise RefusedError([(what, "let it run `backset branch switch`")])
        if self._text and not os.access(self.path, os.X_OK):
            what = f"{self.path} may not be executed, so that git passes over it"
            raise RefusedError([(what, f"chmod +x {shlex.quote(str(self.path))}, or remove it")])
        run = f"cd -- {shlex.quote(self._folder)} && {shlex.join(command)} branch switch </dev/null"
        own = f'{self._begin}if [ "$3" = 1 ]; then\n  ({run}) || :\nfi\n{self._end}'
        files.make(self.path.parent)
        self._write(f"{first}\n{own}{rest}")

    def remove(self) -> None:
        """Take our lines out; without any others the file goes, which is then one of ours."""
        text = self._own.sub("", self._text)
        if text == _SHEBANG:
            self.path.unlink()
        elif text != self._text:
            self._write(text)

    def _read(self) -> str:
        try:
            return self.path.read_bytes().decode(errors="surrogateescape")
        except FileNotFoundError:
            return ""

    def _write(self, text: str) -> None:
        mode = stat.S_IMODE(self.path.stat().st_mode) if self.path.exists() else 0o755
        with files.replacing(self.path, mode=mode) as file:
            file.write(text.encode(errors="surrogateescape"))
        self._text = text
