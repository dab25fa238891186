"""Run a campaign: `python -m tests.faults --trials N --seed S`; exit code 1: a broken promise."""

from __future__ import annotations

import argparse
import signal
import sys
import time

from tests.faults import campaign, making, summary
from tests.faults.faults import FAULTS


def main() -> int:
    """Parse the arguments, run the trials, print each and the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    kinds = len(FAULTS)
    parser.add_argument(
        "--trials",
        type=int,
        default=kinds,
        metavar="N",
        help=f"how many ({kinds}: one of each kind)",
    )
    parser.add_argument("--seed", type=int, metavar="S", help="the number of the first (any)")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else time.time_ns() % 10**6
    _as_on_a_terminal()
    return run(seed, given.trials)


def run(seed: int, trials: int) -> int:
    """Run the trials seed, seed + 1, …; return 1 if one of them breaks a promise."""
    began, done = time.monotonic(), []
    with making.opened() as made:
        print(f"seeds {seed} to {seed + trials - 1}", flush=True)
        for number in range(seed, seed + trials):
            try:
                done.append(campaign.perform(made, number))
            except Exception as error:
                error.add_note(f"in the trial of seed {number}")
                raise
            print(done[-1], flush=True)
    broken = [trial for trial in done if trial.broken]
    for trial in broken:
        print(f"\n{trial}", *trial.log, sep="\n  ")
        print(f"  again: nox -s faults -- --trials 1 --seed {trial.seed}")
    print("", *summary.table(done), sep="\n")
    print(f"{len(done)} trials from seed {seed} in {time.monotonic() - began:.0f} s")
    for name in (late := summary.never_in_time(done)):
        print(f"never in time, so nothing was tried: {name}")
    return 1 if broken or late else 0


def _as_on_a_terminal() -> None:
    """Undo what nohup does, which a run would inherit; let TERM clean up as INT does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda signum, _frame: sys.exit(128 + signum))


if __name__ == "__main__":
    sys.exit(main())
