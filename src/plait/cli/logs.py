"""Logging of the `plait` command: to stderr, below whatever is drawn there."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from plait.errors import InputError
from plait.masking import masked

LEVELS = ("debug", "info", "warning", "error", "critical")


class _Stderr(logging.StreamHandler[TextIO]):
    """Looks stderr up for every record: it is replaced while panes are drawn, so that lines appear above them."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def log_to_stderr(level: str) -> None:
    """Send log records from `level` on to stderr. Raises InputError where there is no such level."""
    if level.lower() not in LEVELS:
        raise InputError(f"--log-level: expected one of {', '.join(LEVELS)}, found {level!r}")
    handler = _Stderr(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
