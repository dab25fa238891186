"""Run a campaign: `python -m tests.doctor --trials N --seed S`; exit code 1: a broken promise."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psycopg
from psycopg import sql

from tests import forked
from tests.clusters import running
from tests.doctor.trial import Trial, perform


def main() -> int:
    """Parse the arguments, run the trials, print each and the sums."""
    parser = argparse.ArgumentParser(prog="python -m tests.doctor", description=__doc__)
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="how many (20)")
    parser.add_argument("--seed", type=int, metavar="S", help="the number of the first (any)")
    parser.add_argument("--log", action="store_true", help="print what each command has said")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else time.time_ns() % 10**6
    began = time.monotonic()
    done: list[Trial] = []
    with forked.processes(), running(18) as server, tempfile.TemporaryDirectory() as temporary:
        for number in range(seed, seed + given.trials):
            name, folder = f"trial_{number}", Path(temporary, str(number))
            with psycopg.connect(server.url("postgres"), autocommit=True) as session:
                session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            folder.mkdir()
            done.append(perform(number, folder, server.url(name)))
            print(done[-1], flush=True)
            print(*(f"         {each}\n" for each in done[-1].broken), sep="", end="", flush=True)
            if given.log or done[-1].broken:
                print(*done[-1].log, sep="\n  ", flush=True)
    broken = [each for each in done if each.broken]
    ways = Counter(" + ".join(each.ways) or "nothing" for each in done)
    print("", *(f"{times:5} {way}" for way, times in ways.most_common()), sep="\n")
    print(f"{len(done)} trials from seed {seed} in {time.monotonic() - began:.0f} s")
    print(f"{len(broken)} with a broken promise")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
