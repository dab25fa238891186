"""Measurements of the tool beside its peers; `nox -s bench` runs them, and no time is a failure."""
