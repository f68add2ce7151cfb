"""Datasets: rows of any file, folder, pipe or iterable as examples, streamed, for batches and experiments."""

from __future__ import annotations

from plait.datasets.examples import BadRow, BadRows, Example, InputName, Selection
from plait.datasets.fingerprints import Fingerprint, difference
from plait.datasets.openings import Dataset, open_dataset, spool

__all__ = [
    "BadRow",
    "BadRows",
    "Dataset",
    "Example",
    "Fingerprint",
    "InputName",
    "Selection",
    "difference",
    "open_dataset",
    "spool",
]
