"""The rows of the old database in the new one: what fits, the copy, and the proof."""
