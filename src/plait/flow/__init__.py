"""Flow control: the one seam that every model call passes on its way out of the process."""
