"""Tells whether a dataset is still the one that a batch began with, and says in words how it differs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from plait.datasets.folders import documents

__all__ = ["Fingerprint", "difference"]

_STEP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Of a file's bytes, or of the names and bytes of a folder's files."""

    size_bytes: int
    modified_ns: int
    """Of the file, or of the latest of the folder's files."""
    digest: str
    """BLAKE2b, 16 bytes, as hex digits."""
    files: int | None = None
    """How many, of a folder."""

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> Fingerprint:
        return cls(**stored)  # type: ignore[arg-type]


def difference(old: Fingerprint, new: Fingerprint) -> str | None:
    """How the dataset changed, None where its content is the same; a new date alone is no change."""
    if old.digest == new.digest:
        return None
    if (old.files is None) != (new.files is None):
        return "it was a file and is a folder now" if old.files is None else "it was a folder and is a file now"
    if old.files != new.files:
        return f"it had {old.files:,} files and has {new.files:,} now"
    if old.size_bytes != new.size_bytes:
        change = new.size_bytes - old.size_bytes
        direction = "grew" if change > 0 else "shrank"
        return f"it {direction} by {abs(change):,} bytes, from {old.size_bytes:,} to {new.size_bytes:,}"
    if old.files is not None:
        return "its files have other names or other content, of the same size in all"
    return f"its content differs, at the same size of {new.size_bytes:,} bytes"


def of_file(path: Path, known: Fingerprint | None = None) -> Fingerprint:
    """Blocks: it reads the whole file, unless size and time are those of `known`. Raises OSError."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if known is not None and (status.st_size, status.st_mtime_ns) == (known.size_bytes, known.modified_ns):
            return known
        digest = blake2b(digest_size=16)
        size = 0
        while data := file.read(_STEP_BYTES):
            digest.update(data)
            size += len(data)
    return Fingerprint(size, status.st_mtime_ns, digest.hexdigest())


def of_folder(folder: Path) -> Fingerprint:
    """Blocks: it reads every file. What cannot be read counts by its name. Raises OSError."""
    whole = blake2b(digest_size=16)
    size = files = modified_ns = 0
    for name, path in documents(folder):
        files += 1
        try:
            one = of_file(path)
        except OSError:
            whole.update(f"{name}\0unreadable\0".encode(errors="surrogateescape"))
            continue
        size += one.size_bytes
        modified_ns = max(modified_ns, one.modified_ns)
        whole.update(f"{name}\0{one.size_bytes}\0{one.digest}\0".encode(errors="surrogateescape"))
    return Fingerprint(size, modified_ns, whole.hexdigest(), files)
