"""No Python."""

def graph(:
