"""Run a chain on a cluster of Patroni: `python -m tests.patroni --trials N`; 1: a broken promise.

Patroni and etcd are Debian's, unpacked into a folder; the servers are of a PostgreSQL that is here.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.patroni import cluster, trials
from tests.patroni.application import Application
from tests.patroni.debian import NotHereError


def main() -> int:
    """Bring the cluster up, run everything, and bring it down."""
    parser = argparse.ArgumentParser(prog="python -m tests.patroni", description=__doc__)
    kinds = len(trials.KINDS)
    parser.add_argument(
        "--trials", type=int, default=kinds, metavar="N", help=f"how many ({kinds}: of each kind)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the number of the first")
    parser.add_argument("--major", type=int, default=15, help="of PostgreSQL (%(default)s)")
    given = parser.parse_args()
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda signum, _frame: sys.exit(128 + signum))
    try:
        return run(given.seed, given.trials, given.major)
    except NotHereError as error:
        print(f"not tried: {error}")
        return 2


def run(seed: int, number: int, major: int) -> int:
    """Run the trials seed, seed + 1, …, after the chain and before slots and lag."""
    began, done = time.monotonic(), []
    with (
        cluster.running(major) as patroni,
        tempfile.TemporaryDirectory(prefix="patroni-project-") as folder,
    ):
        tell(f"three servers of PostgreSQL {major} in {time.monotonic() - began:.0f} s")
        project = trials.Project(patroni, Path(folder))
        for words in trials.chain(project):
            tell(words)
        with Application(project.url) as application:
            for each in range(seed, seed + number):
                done.append(trials.perform(project, application, each))
                tell(f"trial {each}: {done[-1]}")
            rows = len(application.acknowledged)
        for words in (*trials.slots(project), *trials.lag(project)):
            tell(words)
    broken = [trial for trial in done if trial.broken]
    for trial in broken:
        print(f"\n{trial}", *trial.said, sep="\n  ")
    lost = sum(trial.lost for trial in done)
    tell(f"{len(done)} trials, {rows} rows, {lost} lost, {len(broken)} broken promises")
    return 1 if broken else 0


def tell(words: str) -> None:
    """Print a line, now."""
    print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
