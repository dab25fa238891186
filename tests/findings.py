"""Run what `findings/` says of outside software: `python -m tests.findings NAME …`, or all of it.

Two scripts run at a time. Each gives a line; one that fails, what it has said as well. Exit code 1:
one has failed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from backset.process.process import Child

FOLDER = Path(__file__).parents[1] / "findings"
AT_ONCE = 2
_LOOK_EVERY_S = 0.1


class Script(Child):
    """A script at work: with its `with` block ends all that it has started."""

    def __init__(self, path: Path) -> None:
        self.name, self._began = path.stem, time.monotonic()
        super().__init__(["bash", str(path)], env=os.environ, cwd=path.parent, tethered=True)

    def verdict(self) -> tuple[bool, str]:
        """Wait for its end; return whether what it says still holds, and the lines to print."""
        holds = self.wait() == 0
        line = (
            f"{'ok' if holds else 'FAILED':6} {time.monotonic() - self._began:4.0f} s  {self.name}"
        )
        return holds, line if holds else "\n".join([line, *self.tail])


def main() -> int:
    """Run the scripts that are named; return 1 if one of them has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.findings", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a script, without .sh")
    paths = [FOLDER / f"{each.removesuffix('.sh')}.sh" for each in parser.parse_args().names]
    for each in paths:
        if not each.is_file():
            parser.error(f"there is no findings/{each.name}")
    signal.signal(signal.SIGTERM, lambda signum, _frame: sys.exit(128 + signum))
    return 0 if all(run(paths or sorted(FOLDER.glob("*.sh")))) else 1


def run(paths: list[Path]) -> list[bool]:
    """Run scripts, two at a time, and print how each ends; return which of them hold."""
    waiting, working, held = list(reversed(paths)), list[Script](), list[bool]()
    with ExitStack() as all_ended:
        while waiting or working:
            while waiting and len(working) < AT_ONCE:
                working.append(all_ended.enter_context(Script(waiting.pop())))
            for each in [script for script in working if script.has_ended(_LOOK_EVERY_S)]:
                working.remove(each)
                holds, lines = each.verdict()
                held.append(holds)
                print(lines, flush=True)
    return held


if __name__ == "__main__":
    sys.exit(main())
