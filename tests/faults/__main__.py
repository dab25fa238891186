"""Run a campaign: `python -m tests.faults --trials N --seed S`; exit code 1: a broken promise."""

from __future__ import annotations

import argparse
import signal
import sys
import time

from tests.faults import campaign, failover, making, summary
from tests.faults.faults import FAULTS


def main() -> int:
    """Parse the arguments, run the trials, print each and the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--kind",
        choices=("any", "failover"),
        default="any",
        help="any fault of one server, or a failover from a server to another",
    )
    kinds = f"{len(FAULTS)}; {len(failover.FAULTS)} of failover"
    parser.add_argument(
        "--trials", type=int, metavar="N", help=f"how many (one of each kind: {kinds})"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="the number of the first (any)")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else time.time_ns() % 10**6
    _as_on_a_terminal()
    fails_over = given.kind == "failover"
    trials = given.trials or len(failover.FAULTS if fails_over else FAULTS)
    return run(seed, trials, fails_over=fails_over)


def run(seed: int, trials: int, *, fails_over: bool = False) -> int:
    """Run the trials seed, seed + 1, …; return 1 if one of them breaks a promise."""
    began, done = time.monotonic(), []
    opened = failover.opened if fails_over else making.opened
    fault_of = failover.fault_of if fails_over else campaign.fault_of
    words = "--kind failover " if fails_over else ""
    with opened() as made:
        print(f"seeds {seed} to {seed + trials - 1}", flush=True)
        for number in range(seed, seed + trials):
            try:
                done.append(campaign.perform(made, number, fault_of(number)))
            except Exception as error:
                error.add_note(f"in the trial of seed {number}")
                raise
            print(done[-1], flush=True)
            if done[-1].broken:
                print(*done[-1].log, sep="\n  ")
                print(f"  again: nox -s faults -- {words}--trials 1 --seed {number}", flush=True)
    broken = [trial for trial in done if trial.broken]
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
