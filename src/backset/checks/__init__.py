"""What `verify` looks for, and which findings count."""
