"""Record `invoke reset-db` and `invoke undo` on a real pseudo-terminal, as docs/terminal.svg.

Run it with the project's interpreter: `.venv/bin/python scripts/record_terminal.py`. It works on a
temporary copy of the project, with an embedded server of its own, and removes both.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import termios
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "terminal.svg"
PROJECT = ("alembic", "app", "scripts", "pyproject.toml", "tasks.py")
COLUMNS, ROWS = 70, 50  # as wide as a phone shows legibly
ENV = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
ENV |= {"TERM": "xterm-256color"}
# A colour, any other control sequence, or the text between them.
PIECES = re.compile(r"\x1b\[[\d;]*m|\x1b(?:\[[?\d;]*[A-Za-z])?|[\r\n]|[^\x1b\r\n]+")
TEMPLATE = """\
<svg role="img" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<title>invoke reset-db rebuilds the database, invoke undo swaps the old one back</title>
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px;
}}
{styles}
</style>
<defs>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""  # rich's own template loads a font from the web


def on_terminal(task: str, project: Path) -> str:
    """Run a task on a pseudo-terminal of our size; return everything that it wrote there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (ROWS, COLUMNS))
    argv, written = [sys.executable, "-m", "invoke", task], b""
    with subprocess.Popen(
        argv, cwd=project, env=ENV, stdin=theirs, stdout=theirs, stderr=theirs
    ) as child:
        os.close(theirs)
        with suppress(OSError):  # Linux ends it with EIO, macOS with nothing to read
            while chunk := os.read(ours, 65536):
                written += chunk
    os.close(ours)
    if child.returncode != 0:
        sys.exit(f"invoke {task} ended with {child.returncode}: {written.decode()}")
    return written.decode()


def screen(written: str) -> str:
    """Return what stands on the screen at the end, colours kept.

    It knows what rich writes for its live line, and stops at anything else: a picture must not
    show what the terminal did not.
    """
    lines, row, moved = [""], 0, True
    for piece in PIECES.findall(written):
        match piece:
            case "\r":
                moved = True
            case "\n":
                row += 1
                lines += [""] * (row - len(lines) + 1)
            case "\x1b[1A":
                row -= 1
            case "\x1b[2K":
                lines[row] = ""
            case "\x1b[?25l" | "\x1b[?25h":
                pass  # the cursor is hidden, and shown again
            case _ if piece.startswith("\x1b") and not piece.endswith("m"):
                sys.exit(f"the terminal was sent {piece!r}, which this script does not know")
            case _ if moved and lines[row]:
                sys.exit(f"{piece!r} was written over {lines[row]!r}")
            case _:
                lines[row] += piece
                moved = False
    return "\n".join(lines).rstrip()


def record(project: Path) -> str:
    """Return the picture of a second rebuild, as the first one has nothing to back up."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    try:
        on_terminal("reset-db", project)
        for task in ("reset-db", "undo"):
            console.print(Text.from_markup(f"[cyan]$[/] [bold]invoke {task}[/]"))
            console.print(Text.from_ansi(screen(on_terminal(task, project))))
    finally:
        on_terminal("stop", project)
    return console.export_svg(title="", code_format=TEMPLATE, unique_id="backset")


def main() -> None:
    """Copy the project, record, and write the picture."""
    with tempfile.TemporaryDirectory(prefix="backset-", dir="/tmp") as folder:
        project = Path(folder)
        project.chmod(0o755)  # as root, the server runs as somebody else
        for name in PROJECT:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, project / name)
        picture = record(project)
    if folder in picture or "url(http" in picture or str(Path.home()) in picture:
        sys.exit("the picture has a path of this machine, or a link")
    PICTURE.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
