"""Named by a wrong path."""
