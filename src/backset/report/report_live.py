"""The report on a terminal: the same lines in colour, and one live line under them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner

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

    def notice(self, text: str, clients: Sequence[Backend] = ()) -> None:  # noqa: ARG002  (JSON)
        """Print a line above the live one, which goes on."""
        step = f"{self._styled(self.step, '')}" if self.step else ""
        self._console.print(f" [yellow]![/] {step}{_escaped(spoken(text))}")

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
