"""What a run holds open, who may start one, and its rungs."""
