"""The report on a terminal: the same lines in colour, and one live line under them."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from backset.process.identity import spoken
from backset.process.streams import shown
from backset.report.report import WIDTH, Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.chain import Done
    from backset.connections.activity import Backend


_LONG_S = 2.0  # a step with a clock
_WORTH_S = 0.05  # to be said
_NARROW = 20  # columns, in which nothing can hang
_BARS = re.compile(r"[*x?|/\\_ ]+")
_MARKS = {  # of a drawing
    r"← database.*": "bold cyan",
    r"\([^)]*(orphaned|missing|gone)[^)]*\)": "red",
    r"\(head[^)]*\)": "yellow",
}


class LiveReport(Report):
    """The same lines in colour, with one live line under them, on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(highlight=False, soft_wrap=True)
        self._errors = Console(highlight=False, soft_wrap=True, stderr=True)
        self._spinner = Spinner("dots", style="status.spinner")
        self._doing = "…"
        self._live: Live | None = None
        self._took_s: float | None = None  # of the step whose line is printed
        self._members: dict[str, tuple[float, str]] = {}
        self._ended = 0

    def begin(self, step: str) -> None:
        """Show a spinner until the step ends."""
        super().begin(step)
        self._spin()

    def end(self, step: str, done: Done) -> None:
        """Print the line of a step; the live one is of a step that goes on, if there is one."""
        self._stop()
        self._took_s = self.seconds - self._began[step]
        super().end(step, done)
        self._took_s = None
        if self.step:
            self._spin()

    def _spin(self) -> None:
        self._stop()
        self._doing = "…"
        self._live = Live(
            get_renderable=self._working,
            console=self._console,
            refresh_per_second=12.5,
            transient=True,
        )
        self._live.start()

    def _working(self) -> Text:
        """Return the live line: of a long step with a clock."""
        took = self.seconds - self._began.get(self.step, self.seconds)
        clock = f"{took:.0f} s  " if took >= _LONG_S else ""
        line = Text(" ", no_wrap=True, overflow="ellipsis")
        frame = self._spinner.render(self._console.get_time())
        line.append_text(frame if isinstance(frame, Text) else Text("…")).append(" ")
        line.append(f"{shown(self.step):<{WIDTH}} ", "bold").append(clock, "dim")
        return line.append(shown(self._doing))

    def progress(self, text: str, *, lasting: bool = False) -> None:
        """Show what the step is doing; each thing that lasts is drawn, however fast it passes."""
        self._doing = text
        live = self._live  # lines of a child come from another thread
        if live is not None and lasting:
            live.refresh()

    def notice(self, text: str, clients: Sequence[Backend] = ()) -> None:
        """Print a line above the live one, which goes on."""
        self._keep_notice(text, clients)
        self._hang(self._console, ("!", "yellow"), self.step, spoken(text))

    def member(self, event: str, database: str, text: str, **more: Any) -> None:  # noqa: ANN401  (JSON)
        """Show the databases that are worked on as a table, below the lines of the others."""
        if event == "doing":  # from a thread, where nothing may be drawn anew
            since, _ = self._members.get(database, (time.monotonic(), ""))
            self._members[database] = (since, text)
            return
        if event == "begun":
            self._members[database] = (time.monotonic(), text)
        else:
            self._ended += event not in {"again", "planned"}
            self._members.pop(database, None)
            super().member(event, database, text, **more)
        if self._members:
            self._show_members()

    def _show_members(self) -> None:
        if self._live is None:
            self._live = Live(
                get_renderable=self._table,
                console=self._console,
                refresh_per_second=4,
                transient=True,
            )
            self._live.start()

    def _table(self) -> Table:
        """Return a row for each database that is worked on."""
        table = Table(box=None, show_header=False, pad_edge=True)
        for name, (since, text) in list(self._members.items()):
            seconds = f"{time.monotonic() - since:.0f} s"
            table.add_row("…", f"[bold]{_escaped(name)}[/]", seconds, _escaped(text))
        table.add_row("", f"[dim]{self._ended} ended[/]", "", "")
        return table

    def close(self, exit_code: int) -> None:
        """Remove the live line."""
        self._stop()
        super().close(exit_code)

    def drawing(self, line: str, *, is_last: bool) -> None:
        """Print a line of the drawing; what is too long goes on beside the drawing."""
        self._stop()
        bars = _BARS.match(line)
        indent = bars.end() if bars else 0
        text = Text(shown(spoken(line[indent:])))
        for pattern, style in _MARKS.items():
            text.highlight_regex(pattern, style)
        graph = shown(line[:indent])
        rest = re.sub("[*x?]", " " if is_last else "|", graph)
        self._lines(self._console, Text(f" {graph}"), text, f" {rest}")

    def _print(self, text: str) -> None:
        self._stop()
        body = Text(shown(text), "dim" if text.startswith("done") else "")
        self._lines(self._console, Text(" "), body)

    def _fact(self, word: str, text: str, style: str = "") -> None:
        self._stop()
        head = Text.assemble(" ", (f"{word:<{WIDTH}} ", "dim"))
        self._lines(self._console, head, Text(shown(spoken(text)), style))

    def _print_line(self, sign: str, step: str, text: str) -> None:
        self._stop()
        took = self._took_s if sign == "✔" else None
        colour = {"✔": "green", "✘": "red"}.get(sign, "yellow")
        self._hang(self._console, (sign, colour), step, text, took)

    def _print_error(self, step: str, text: str) -> None:
        self._stop()
        self._hang(self._errors, ("✘", "red"), step, text)

    def _hang(
        self,
        console: Console,
        sign: tuple[str, str],
        step: str,
        text: str,
        took_s: float | None = None,
    ) -> None:
        """Print a line of a step, with its sign; and how long the step took."""
        head = Text.assemble(" ", sign, " ", (f"{shown(step):<{WIDTH}} " if step else "", "bold"))
        body = Text(shown(text))
        if took_s is not None and took_s >= _WORTH_S:
            body.append(f"  {took_s:.1f}\N{NO-BREAK SPACE}s", "dim")
        self._lines(console, head, body)

    @staticmethod
    def _lines(console: Console, head: Text, body: Text, rest: str = "") -> None:
        """Print a text that goes on below where it began; no word is cut, however long."""
        room = console.width - head.cell_len
        for each in body.divide(_ends(body.plain, room) if room >= _NARROW else []):
            each.rstrip()
            console.print(head + each, soft_wrap=True)
            head = Text(rest or " " * head.cell_len)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _ends(text: str, room: int) -> list[int]:
    """Return where the lines of a text end: between words, of which rich would cut a long one."""
    ends, begin = [], 0
    for word in re.finditer("[^ ]+", text):
        if word.start() > begin and cell_len(text[begin : word.end()]) > room:
            begin = word.start()
            ends.append(begin)
    return ends


def _escaped(text: str) -> str:
    """Return a text that does nothing on a terminal, and is no markup of rich's."""
    return escape(shown(text))
