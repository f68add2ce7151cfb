"""Says in one line what an app's own code raised: expected, found, where, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType


def holds_python(folder: Path) -> bool:
    """Whether a folder can be meant as a package: data folders have any name."""
    return any(next(folder.glob(pattern), None) is not None for pattern in ("*.py", "*/*.py"))


def top_level(folder: Path, name: str) -> Iterator[Path]:
    """The module file and the package folder that `import name` could mean in an import folder."""
    if (folder / f"{name}.py").is_file():
        yield folder / f"{name}.py"
    if (folder / name).is_dir() and holds_python(folder / name):
        yield folder / name


def describe_failure(error: BaseException, *, root: Path, folders: tuple[Path, ...]) -> str:
    """One line: what user code raised, where (the innermost frame inside the app), and what to do."""
    where = _user_frame(error.__traceback__, root)
    at = f" at {where}" if where else ""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
        return f"expected valid Python, found {error.msg!r} at {place}: correct that line"
    if isinstance(error, ModuleNotFoundError) and error.name:
        head = error.name.partition(".")[0]
        if any(True for folder in folders for _ in top_level(folder, head)):
            return f"expected the app's module {error.name!r}, found none{at}: create it or correct the import"
        if head in sys.modules:
            return f"expected the module {error.name!r}, found none in the installed {head!r}{at}: upgrade it"
        return (
            f"expected the package {head!r}, found that it is not installed{at}: "
            f"pip install {head.replace('_', '-')} (or the distribution that provides it)"
        )
    if isinstance(error, SystemExit):
        found = f"that it exits (code {error.code})"
        return f"expected a module that can be imported, found {found}{at}: remove the exit"
    text = " ".join(str(error).split())
    found = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"expected a module that can be imported, found {found[:300]}{at}: correct the cause there"


def _user_frame(traceback: TracebackType | None, root: Path) -> str:
    inside = str(root.resolve())
    found = ""
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file.startswith(inside) and "site-packages" not in file.removeprefix(inside):
            found = f"{file}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return found
