"""Other programs, signals, streams, folders and files of our own, and what a run is called."""
