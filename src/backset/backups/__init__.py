"""The folder of backups: made, described, listed, loaded and proved."""
