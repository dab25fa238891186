"""A chain on servers that Patroni looks after, which switches over and fails over under it."""
