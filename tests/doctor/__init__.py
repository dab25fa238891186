"""Random chains, random damage: what `status` says of it, and what `repair` does to it."""
