"""Settings in parts, read once."""

import os
from functools import lru_cache

from sqlalchemy.engine import URL


@lru_cache
def url():
    names = {"username": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    parts = {word: os.environ[f"APP__DATABASE__{name}"] for word, name in names.items()}
    parts["port"] = int(parts["port"])
    return URL.create("postgresql+psycopg", **parts, database=os.environ["APP__DATABASE__NAME"])
