"""One model call a file: typed in, typed out."""
