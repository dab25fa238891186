"""`python -m backset`: the same as the command `backset`."""

from backset.program import main

main()
