"""The whole chain tried on a server that may lose everything: in CI, and by `nox -s migrate`."""
