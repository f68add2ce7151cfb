"""`python -m plait.cli`: the same as the `plait` command."""

from __future__ import annotations

from plait.cli import main

main()
