"""Migration scripts as files: their texts, their order, where one went, what is stale."""
