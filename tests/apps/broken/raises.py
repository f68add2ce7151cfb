"""Raises at import, in a neighbour."""

import deep

graph = deep.build()
