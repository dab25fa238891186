"""Run a campaign: `python -m tests.squash --trials N --seed S`; exit code 1: a broken promise."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests import forked
from tests.clusters import running
from tests.squash.ground import Ground
from tests.squash.trial import Trial, perform


def main() -> int:
    """Parse the arguments, run the trials, print each and the sums."""
    parser = argparse.ArgumentParser(prog="python -m tests.squash", description=__doc__)
    parser.add_argument("--trials", type=int, default=100, metavar="N", help="how many (100)")
    parser.add_argument("--seed", type=int, metavar="S", help="the number of the first (any)")
    parser.add_argument("--log", action="store_true", help="print what each command has said")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the projects there")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else time.time_ns() % 10**6
    began = time.monotonic()
    done: list[Trial] = []
    with forked.processes(), running(18) as server, tempfile.TemporaryDirectory() as temporary:
        for number in range(seed, seed + given.trials):
            ground = Ground(server, (given.keep or Path(temporary)) / str(number))
            ground.folder.mkdir(parents=True)
            done.append(perform(number, ground))
            ground.clear()
            if not given.keep:
                shutil.rmtree(ground.folder)
            print(done[-1], flush=True)
            print(*(f"         {each}\n" for each in done[-1].broken), sep="", end="", flush=True)
            if given.log or done[-1].broken:
                print(*done[-1].log, sep="\n  ", flush=True)
    broken = [each for each in done if each.broken]
    revisions = sum(each.revisions for each in done)
    took = f"{time.monotonic() - began:.0f} s"
    refused = sum(each.is_refused for each in done)
    print(
        f"{len(done)} trials from seed {seed} in {took}: {revisions} revisions, {refused} refused"
    )
    print(f"{len(broken)} with a broken promise")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
