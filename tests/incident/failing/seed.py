"""A seed command that commits a row and then fails, as scripts without a transaction do."""

import os
import sys

import psycopg
from psycopg.conninfo import make_conninfo

from backset.connections.target import Target

params = Target.parse(os.environ["DATABASE_URL"]).params
with psycopg.connect(make_conninfo(**params)) as connection:
    connection.execute("INSERT INTO users (id, email) VALUES ('half', 'half@example.com')")
sys.exit("the second half of the mock data could not be written")
