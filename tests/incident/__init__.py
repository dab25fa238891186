"""The broken database of the runbook, built the way it broke."""
