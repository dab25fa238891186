"""What a run holds open, who may start one, and its two strategies."""
