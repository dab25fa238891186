"""Writes one order; counts in a file how often it has run."""

import os
from pathlib import Path

import psycopg

with Path("runs.log").open("a") as log:
    log.write("seeded\n")
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    connection.execute("INSERT INTO orders DEFAULT VALUES")
