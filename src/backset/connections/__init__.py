"""URLs, targets and sessions: which database it is, where it is, and who else is there."""
