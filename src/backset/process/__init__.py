"""Other programs, signals, streams and the account that we run as."""
