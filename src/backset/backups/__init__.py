"""Where backups are, a folder or a bucket: made, described, listed, loaded and proved."""
