"""One agent a file: a model with tools in a loop."""
