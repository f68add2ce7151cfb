"""One workflow a file: its state, its nodes in the order they run, its builder at the bottom."""
