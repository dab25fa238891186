"""The databases of git's branches."""
