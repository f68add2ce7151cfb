"""Turns a target of langgraph.json (`pkg.mod:var` or `./path.py:var`) into the object it names.

An app's own modules are found before installed packages, with or without `__init__.py` in its folders, and
never instead of the standard library. A file is executed once per process, however many workflows name it,
under the dotted name its neighbours would import it by, since such names are persisted in checkpoints.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from plait.errors import AppError, WorkflowBroken
from plait.import_failures import describe_failure, holds_python, top_level


class _AppFinder(MetaPathFinder):
    """Finds top-level modules in the folders of the app in use.

    `sys.path` alone would do for modules and regular packages, but a folder without `__init__.py` loses there
    to any installed package of its name, and a file named like a standard module would hide it.
    """

    def __init__(self) -> None:
        self.folders: tuple[Path, ...] = ()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or fullname in sys.builtin_module_names:
            return None
        folders = [str(folder) for folder in self.folders]
        if fullname in sys.stdlib_module_names:
            return PathFinder.find_spec(fullname, [entry for entry in sys.path if entry not in folders])
        spec = PathFinder.find_spec(fullname, folders)
        if spec is None or spec.origin is not None or spec.submodule_search_locations is None:
            return spec
        places = [place for place in spec.submodule_search_locations if holds_python(Path(place))]
        if not places:  # a folder of data must not hide an installed package of its name
            return None
        namespace = ModuleSpec(fullname, None, is_package=True)
        namespace.submodule_search_locations = places
        return namespace


_finder = _AppFinder()
_used: dict[Path, tuple[Path, ...]] = {}
"""Roots used by this process, with their import folders."""
_lock = threading.RLock()


def use_folders(root: Path, folders: tuple[Path, ...], *, last: bool = False) -> None:
    """Make the modules in `folders` importable, before all others but the standard library's, or after all others.

    Idempotent for the same root. Raises AppError where another root was used before, and modules imported
    from there have the names of modules here: Python keeps one module per name and process.
    """
    with _lock:
        if _finder.folders == folders:
            return
        for other, theirs in _used.items():
            if other != root:
                _refuse_clash(root, folders, other, theirs)
        _used[root] = folders
        if last:
            sys.path += [str(folder) for folder in folders if str(folder) not in sys.path]
            return
        _finder.folders = folders
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
        ours = [str(folder) for folder in folders]
        sys.path[:] = ours + [entry for entry in sys.path if entry not in ours]
        importlib.invalidate_caches()


def in_use(root: Path, folders: tuple[Path, ...], *, last: bool = False) -> bool:
    """Whether `use_folders` has nothing left to do; it reads files otherwise."""
    return root in _used if last else _finder.folders == folders


def _refuse_clash(root: Path, folders: tuple[Path, ...], other: Path, theirs: tuple[Path, ...]) -> None:
    for name, module in list(sys.modules.items()):
        if "." in name or name in sys.stdlib_module_names:
            continue
        places = _places(module)
        if not any(place.parent in theirs for place in places):
            continue
        mine = next((place for folder in folders for place in top_level(folder, name)), None)
        if mine is not None and mine not in places:
            raise AppError(
                f"{root}: this process has already used the app in {other}, and both have {name!r} "
                f"({mine} and {places[0]}): use one app per process"
            )


def _places(module: ModuleType) -> list[Path]:
    """The file of a module, or the folders of a package. Reads `__dict__`: lazy modules load on access."""
    values = getattr(module, "__dict__", {})
    search = values.get("__path__")
    if search is not None:
        try:
            return [Path(str(entry)).resolve() for entry in search]
        except Exception:  # noqa: BLE001  (a foreign module's own __path__ object)
            return []
    file = values.get("__file__")
    return [Path(file).resolve()] if isinstance(file, str) else []


def split_target(target: str) -> tuple[str, str]:
    """`("./path.py" or "pkg.mod", "variable")`. Raises WorkflowBroken saying what is wrong."""
    where, colon, variable = target.strip().rpartition(":")
    if not colon or not where or not variable.isidentifier():
        raise WorkflowBroken(
            f"expected 'package.module:variable' or './path.py:variable', found {target!r}: correct langgraph.json"
        )
    if Path(where).suffix in {".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".tsx", ".jsx"}:
        raise WorkflowBroken(f"expected a graph written in Python, found {target!r}: plait does not run JavaScript")
    if "/" not in where and where.endswith(".py"):
        raise WorkflowBroken(f"expected a module or a path, found {target!r}: write './{where}:{variable}'")
    if "\\" in where:
        raise WorkflowBroken(f"expected a path with '/', found {target!r}: write {where.replace(chr(92), '/')!r}")
    return where, variable


def target_file(where: str, root: Path) -> Path:
    """The file of a target that contains "/". Raises WorkflowBroken unless a Python file in `root`."""
    if Path(where).is_absolute() or where.startswith("~"):
        raise WorkflowBroken(f"expected a path relative to {root}, found {where!r}: write './path.py:variable'")
    file = (root / where).resolve()
    if not file.is_relative_to(root.resolve()):
        raise WorkflowBroken(f"expected a path inside {root}, found {where!r}: move the file or langgraph.json")
    if not file.is_file():
        hint = _nearest_file(file, root)
        raise WorkflowBroken(f"expected a file, found nothing at {file}: {hint}")
    if file.suffix != ".py":
        raise WorkflowBroken(f"expected a Python file (.py), found {where!r}: correct langgraph.json")
    return file


def _nearest_file(file: Path, root: Path) -> str:
    same = (path for pattern in (file.name, f"*/{file.name}", f"*/*/{file.name}") for path in root.glob(pattern))
    found = next((path for path in same if path.is_file()), None)
    return f"did you mean ./{found.relative_to(root)}?" if found else "correct the path in langgraph.json"


_imported: dict[tuple[Path, str], ModuleType] = {}


def imported(where: str, root: Path) -> ModuleType | None:
    """The module of a target that was imported before and was not taken out of `sys.modules` since."""
    module = _imported.get((root, where))
    return module if module is not None and sys.modules.get(module.__name__) is module else None


def import_target(where: str, root: Path, folders: tuple[Path, ...]) -> ModuleType:
    """The module a target names, executed at most once per process; call `use_folders` before.

    Raises WorkflowBroken with one line on what is wrong and the original exception as its cause, also for
    SystemExit.
    """
    if known := imported(where, root):
        return known
    try:
        # A module is in sys.modules before it has run: a second thread must not take it half made.
        with _lock:
            if "/" in where:
                module = _import_file(target_file(where, root), root, folders)
            else:
                module = _import_dotted(where, folders)
            _imported[root, where] = module
        return module
    except WorkflowBroken:
        raise
    except (Exception, SystemExit) as error:
        raise WorkflowBroken(describe_failure(error, root=root, folders=folders)) from error


def _import_dotted(name: str, folders: tuple[Path, ...]) -> ModuleType:
    if name in sys.modules:
        module = sys.modules[name]
    else:
        spec = importlib.util.find_spec(name)
        known = _executed(Path(spec.origin)) if spec and spec.origin else None
        module = known or importlib.import_module(name)
    _refuse_foreign(name, folders)
    return module


def _refuse_foreign(name: str, folders: tuple[Path, ...]) -> None:
    """Where the app has such a module, but the process had imported another one of that name before."""
    head = name.partition(".")[0]
    mine = next((place for folder in folders for place in top_level(folder, head)), None)
    found = _places(sys.modules[head]) if head in sys.modules else []
    if mine is None or not found or head in sys.stdlib_module_names:
        return
    if not any(place.parent in folders for place in found):
        raise WorkflowBroken(
            f"expected {head!r} from {mine}, found that this process has imported {found[0]} as that: "
            "load the app in a process of its own"
        )


def _import_file(file: Path, root: Path, folders: tuple[Path, ...]) -> ModuleType:
    if known := _executed(file):
        return known
    for name in _dotted_names(file, folders):
        head = name.partition(".")[0]
        if head in sys.stdlib_module_names:
            continue
        _refuse_foreign(name, folders)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None and Path(spec.origin).resolve() == file:
            return importlib.import_module(name)
    return _execute_nameless(file, root)


def _dotted_names(file: Path, folders: tuple[Path, ...]) -> list[str]:
    """Names under which `file` can be imported, the best first.

    A folder with `__init__.py` is a package and never an import folder itself. Below that, a name with a
    parent package is better (relative imports work) and the innermost import folder is better
    (`src/agent/graph.py` is `agent.graph`).
    """
    top = file.parent
    while (top / "__init__.py").is_file() and top not in folders[:1]:
        top = top.parent
    names = []
    for folder in sorted(set(folders), key=lambda folder: -len(folder.parts)):
        if not top.is_relative_to(folder):
            continue
        parts = list(file.relative_to(folder).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 1:
            parts.pop()
        if not any("." in part for part in parts):
            names.append(".".join(parts))
    return sorted(names, key=lambda name: "." not in name)


def _execute_nameless(file: Path, root: Path) -> ModuleType:
    """Execute a file whose path spells no importable name, such as `v1.2/graph.py` or `./queue.py`."""
    relative = file.relative_to(root.resolve()).with_suffix("")
    name = "__" + "__".join(relative.parts).replace(".", "_").replace(" ", "_")
    with _lock:
        if known := _executed(file):
            return known
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise WorkflowBroken(f"expected a Python file, found {file}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        return module


def _executed(file: Path) -> ModuleType | None:
    wanted = file.resolve()
    for name, module in list(sys.modules.items()):
        found = getattr(module, "__dict__", {}).get("__file__")
        if name == "__main__" or not isinstance(found, str) or not found.endswith(wanted.name):
            continue
        spec = module.__dict__.get("__spec__")
        if not getattr(spec, "_initializing", False) and Path(found).resolve() == wanted:
            return module
    return None
