"""What is remembered between two runs, so that the second one need not do it again."""
