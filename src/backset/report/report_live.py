"""The report on a terminal: the same lines in colour, and one live line under them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table

from backset.process.identity import spoken
from backset.process.streams import shown
from backset.report.report import WIDTH, Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.chain import Done
    from backset.connections.activity import Backend


class LiveReport(Report):
    """The same lines in colour, with one live line under them, on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(highlight=False, soft_wrap=True)
        self._errors = Console(highlight=False, soft_wrap=True, stderr=True)
        self._spinner = Spinner("dots", style="status.spinner")
        self._live: Live | None = None
        self._members: dict[str, tuple[float, str]] = {}
        self._ended = 0

    def begin(self, step: str) -> None:
        """Show a spinner until the step ends."""
        super().begin(step)
        self._spin(step)

    def end(self, step: str, done: Done) -> None:
        """Print the line of a step; the live one is of a step that goes on, if there is one."""
        self._stop()
        super().end(step, done)
        if self.step:
            self._spin(self.step)

    def _spin(self, step: str) -> None:
        self._stop()
        self._spinner.update(text=self._styled(step, "…"))
        self._live = Live(
            self._spinner, console=self._console, refresh_per_second=12.5, transient=True
        )
        self._live.start()

    def progress(self, text: str, *, lasting: bool = False) -> None:
        """Show what the step is doing; each thing that lasts is drawn, however fast it passes."""
        live = self._live  # lines of a child come from another thread
        if live is not None:
            self._spinner.update(text=self._styled(self.step, text))
            if lasting:
                live.refresh()

    def notice(self, text: str, clients: Sequence[Backend] = ()) -> None:
        """Print a line above the live one, which goes on."""
        self._keep_notice(text, clients)
        step = f"{self._styled(self.step, '')}" if self.step else ""
        self._console.print(f" [yellow]![/] {step}{_escaped(spoken(text))}")

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

    def _print(self, text: str) -> None:
        self._stop()
        style = "dim" if text.startswith("done") else ""
        self._console.print(f" {shown(text)}", style=style, markup=False)

    def _print_line(self, sign: str, step: str, text: str) -> None:
        self._stop()
        colour = "green" if sign == "✔" else "yellow"
        self._console.print(f" [{colour}]{sign}[/] {self._styled(step, text)}")

    def _print_error(self, text: str) -> None:
        self._stop()
        self._errors.print(f" [red]✘[/] {_escaped(text)}")

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @staticmethod
    def _styled(step: str, text: str) -> str:
        return f"[bold]{step:<{WIDTH}}[/] {_escaped(text)}"


def _escaped(text: str) -> str:
    """Return a text that does nothing on a terminal, and is no markup of rich's."""
    return escape(shown(text))
