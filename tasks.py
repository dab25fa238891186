"""The front door: `invoke --list` is its table of contents."""

from backset.tasks import namespace

__all__ = ["namespace"]
