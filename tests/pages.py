"""Pages of Markdown: the blocks of code in them, and what a block says its commands print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from tests.project import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = tuple(
    each.relative_to(REPOSITORY).as_posix()
    for each in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
)
# What differs from run to run: times, sizes, moments, digests, process numbers.
_FIGURES = (
    (re.compile(r"\d{8}T\d{6}\.\d{3}Z"), "MOMENT"),
    (re.compile(r"\b[\d.]+ (s|ms|min)\b"), "TIME"),  # on a busy machine a minute
    (re.compile(r"\b[\d.]+ (bytes|kB|MB|GB)\b"), r"N \1"),
    (re.compile(r"PostgreSQL \d+\.(\d+|…)"), "PostgreSQL N"),
    (re.compile(r"\bpid \d+"), "pid N"),
    (re.compile(r"[ \t]+"), " "),
)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: its page, its heading and first line there, its language and its text."""

    page: str
    heading: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[tuple[str, list[str] | None]]:
        """Return each command with the lines that the page shows of it; None where it shows none.

        A block `sh` is a script. In a block `console` each command follows a `$`.
        """
        if self.language == "sh":
            yield self.text, None
            return
        for piece in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, *shown = piece.splitlines()
            yield command, shown


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, those within lists too."""
    tokens = MarkdownIt().parse((REPOSITORY / page).read_text(encoding="utf-8"))
    found, heading = [], ""
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and after:
            heading = after.content
        if token.type in {"fence", "code_block"}:
            line = (token.map or [0])[0] + 1
            found.append(Block(page, heading, line, token.info, token.content))
    return found


def links(page: str) -> Iterator[str]:
    """Return the addresses that a page links to, pictures included."""
    for token in MarkdownIt().parse((REPOSITORY / page).read_text(encoding="utf-8")):
        for each in token.children or ():
            if address := each.attrGet("href") or each.attrGet("src"):
                yield str(address)


def agree(shown: list[str], printed: str) -> bool:
    """Tell whether a command printed what the page shows.

    `…` stands for any text within a line, and on a line of its own for any lines.
    """
    patterns = ["(?:.*\n)*" if each.strip() == "…" else _pattern(each) for each in shown]
    lines = [_plain(each) for each in printed.splitlines()]
    text = "".join(f"{each}\n" for each in lines if each)
    return re.fullmatch("".join(patterns), text) is not None


def _pattern(line: str) -> str:
    plain = _plain(line)
    return ".*".join(map(re.escape, plain.split("…"))) + "\n" if plain else ""


def _plain(line: str) -> str:
    for figure, word in _FIGURES:
        line = figure.sub(word, line)
    return line.strip()
