"""Chains that are squashed, and databases of theirs that follow: what may not be lost, is not."""
