"""The program of a hand: `python -m backset.fleet DESCRIPTOR`, that of an inherited socket."""

from __future__ import annotations

import sys

from backset.fleet import hand, work
from backset.migrate import nursery

if __name__ == "__main__":
    with nursery.kept():
        hand.serve(int(sys.argv[1]), work.do)
