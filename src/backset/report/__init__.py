"""What is told of a run: to people, to programs, on a terminal."""
