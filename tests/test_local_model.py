"""The embedded model's server: started once, silent, and no burden to the process it lives in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from plait.errors import ModelUnavailable
from plait.local_model import SLOTS, LocalServer, start
from plait.settings import Settings, from_env
from plait.weights import find

MODEL = "smollm2-135m"

needs_weights = pytest.mark.skipif(find(MODEL, from_env()) is None, reason=f"weights absent: plait models pull {MODEL}")


@pytest.fixture(scope="module")
def server() -> LocalServer:
    return start(MODEL, from_env())


def ask(server: LocalServer, prompt: str, **options: object) -> Iterator[str]:
    """The pieces of a streamed answer."""
    body = {
        "model": server.alias,
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
    } | options
    headers = {"Authorization": f"Bearer {server.api_key}", "Connection": "close"}
    url = f"{server.base_url}/chat/completions"
    with httpx2.stream("POST", url, json=body, headers=headers, timeout=60) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line.removeprefix("data: "))["choices"]:
                    yield choice["delta"].get("content") or ""


def run_python(code: str, *, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *(path for path in sys.path if path)])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths} | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.model
@needs_weights
def test_it_streams_an_answer(server: LocalServer) -> None:
    pieces = list(ask(server, "Write one sentence about a forest.", max_tokens=24))
    assert len([piece for piece in pieces if piece]) > 4
    assert "".join(pieces).strip()


@pytest.mark.model
@needs_weights
def test_every_caller_gets_the_same_server(server: LocalServer) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: start(MODEL, from_env()), range(4)))
    assert all(each is server for each in found)
    assert server.slots == SLOTS == 4
    assert server.alias == MODEL
    assert server.base_url.startswith("http://127.0.0.1:")
    assert server.base_url.endswith("/v1")


@pytest.mark.model
@needs_weights
def test_all_slots_answer_at_once(server: LocalServer) -> None:
    def answer(topic: str) -> str:
        return "".join(ask(server, f"Write one sentence about {topic}.", max_tokens=16))

    with ThreadPoolExecutor(SLOTS) as pool:
        assert all(pool.map(answer, ["a city", "a forest", "the sea", "the moon"]))


@pytest.mark.model
@needs_weights
def test_temperature_zero_repeats_itself(server: LocalServer) -> None:
    answers = {"".join(ask(server, "Name a tree.", max_tokens=12, temperature=0, seed=1)) for _ in range(2)}
    assert len(answers) == 1


@pytest.mark.model
@needs_weights
def test_without_the_key_nobody_is_answered(server: LocalServer) -> None:
    assert server.api_key not in repr(server)
    stranger = LocalServer(server.base_url, "guessed", server.slots, server.alias)
    with pytest.raises(httpx2.HTTPStatusError, match="401"):
        list(ask(stranger, "Hello"))


CALL_ONCE = """
import signal
from plait.local_model import start
from plait.settings import from_env
from tests.test_local_model import MODEL, ask

def handlers():
    return {number: signal.getsignal(number) for number in signal.valid_signals()}

before = handlers()
server = start(MODEL, from_env())
print("".join(ask(server, "Say hello.", max_tokens=8)))
assert handlers() == before
"""


@pytest.mark.model
@needs_weights
def test_a_process_that_used_it_exits_cleanly_and_silently() -> None:
    child = run_python(CALL_ONCE)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert len(out.strip().splitlines()) >= 1


STREAM_FOR_LONG = """
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background inherits that it is ignored
from plait.local_model import start
from plait.settings import from_env
from tests.test_local_model import MODEL, ask

server = start(MODEL, from_env())
try:
    for piece in ask(server, "Write a very long story."):
        print(end=".", flush=True)
except KeyboardInterrupt:
    print("interrupted")
    raise SystemExit(130)
"""


@pytest.mark.model
@needs_weights
def test_ctrl_c_during_a_generation_ends_the_process() -> None:
    child = run_python(STREAM_FOR_LONG)
    assert child.stdout is not None
    assert child.stdout.read(1) == "."
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130, "")
    assert out.endswith("interrupted\n")


def test_missing_weights_name_the_command_that_fetches_them(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"fetch them: plait models pull smollm2-135m"):
        start(MODEL, Settings(cache=tmp_path))


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"expected .*local:smollm2-135m.*, found 'local:llama'"):
        start("llama", Settings(cache=tmp_path))


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    file = tmp_path / "notes.gguf"
    file.write_text("not a model")
    with pytest.raises(ModelUnavailable, match=r"expected a GGUF file, found b'not ' at the start of .*notes\.gguf"):
        start(MODEL, Settings(cache=tmp_path, local_model_file=file))


def test_a_damaged_model_is_named_and_the_next_start_tries_again(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    file = tmp_path / "damaged.gguf"
    settings = Settings(cache=tmp_path, local_model_file=file)
    for attempt in ("first", "second"):
        file.write_bytes(b"GGUF" + attempt.encode())
        with pytest.raises(ModelUnavailable, match="cannot be loaded: expected a whole GGUF file"):
            start(MODEL, settings)


START_ANYTHING = """
import sys
from pathlib import Path
from plait.errors import ModelUnavailable
from plait.local_model import start
from plait.settings import Settings
try:
    start("smollm2-135m", Settings(local_model_file=Path(sys.executable)))
except ModelUnavailable as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux wheels need libgomp")
def test_a_missing_libgomp_gets_the_line_that_cures_it(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    (tmp_path / "libgomp.so.1").touch()
    out, _ = run_python(START_ANYTHING, env={"LD_LIBRARY_PATH": str(tmp_path)}).communicate(timeout=60)
    assert out.strip().endswith("install it with: apt-get install libgomp1")


def test_a_missing_package_gets_the_line_that_cures_it() -> None:
    without = "import sys; sys.modules['xllamacpp'] = None\n"
    out, _ = run_python(without + START_ANYTHING).communicate(timeout=60)
    assert out.strip().endswith("install it with: pip install xllamacpp")
