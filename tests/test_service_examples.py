"""The files of examples/ do what they say, each as its reader would run it, against a service that runs."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import nbformat
import prometheus_client
import pytest
from langgraph.types import Command
from langgraph_sdk import get_sync_client
from nbclient import NotebookClient

from plait.service import create_app
from plait.simulator import Simulator, running
from tests.command import endpoint_env
from tests.serving import listening, settings_in
from tests.test_docs import blocks
from tests.test_guest import HOST
from tests.test_notebook import KERNEL, kernel  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ADA = {"Authorization": "Bearer token-of-ada"}
BOB = {"Authorization": "Bearer token-of-bob"}
NPM_S = 90
"""For a package that has to be fetched."""


@dataclass(frozen=True, slots=True)
class Stand:
    """A service of examples/app, and the provider behind it."""

    url: str
    provider: Simulator


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with running() as provider:
        settings = settings_in(tmp_path_factory.mktemp("home"), base_url=provider.base_url)
        with listening(create_app(EXAMPLES / "app", settings=settings)) as found:
            yield Stand(found.url, provider)


def loaded(name: str) -> ModuleType:
    """A file of examples/, imported anew."""
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ran(*words: str, cwd: Path, stdin: str = "", env: dict[str, str] | None = None, timeout_s: float = 100) -> str:
    """What a program printed on stdout; it must succeed."""
    environ = {**os.environ, **(env or {})}
    done = subprocess.run(
        words, check=False, cwd=cwd, env=environ, input=stdin, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


# --- mounted.py --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """The mounted example under a server, as `uvicorn mounted:app` in the folder of the app."""
    home = tmp_path_factory.mktemp("home")
    with running() as provider, pytest.MonkeyPatch.context() as patch:
        patch.chdir(EXAMPLES / "app")
        for name, value in {**endpoint_env(provider), "PLAIT_HOME": str(home), "PLAIT_MAX_CONCURRENCY": "1"}.items():
            patch.setenv(name, value)
        mounted = loaded("mounted")
        try:
            with listening(mounted.app) as found:
                yield Stand(found.url, provider)
        finally:
            provider.open_gate()
            prometheus_client.REGISTRY.unregister(mounted.QUESTIONS)


def test_a_mounted_service_and_its_host_both_answer(shop: Stand) -> None:
    with httpx.Client(base_url=shop.url, headers=ADA, timeout=60) as client:
        own = client.get("/question", params={"text": "how are you"})
        assert own.json() == {"user": "ada", "answer": "Answer to: how are you"}
        made = client.post("/ai/generate", json={"workflow": "story", "inputs": {"topic": "a cat"}})
        assert made.json()["outputs"]["story"].endswith("about a cat.")
        assert client.post("/ai/generate", json={}, headers={"Authorization": "no"}).status_code == 401
        hosts, ours = client.get("/metrics").text, client.get("/ai/metrics").text
        assert "<title>" in client.get("/ai/").text
    assert "shop_questions_total 1.0" in hosts
    assert "plait_" not in hosts
    assert 'plait_runs_total{status="success",workflow="story"} 1.0' in ours
    assert "shop_" not in ours


def test_users_of_a_host_see_their_own_threads_alone(shop: Stand) -> None:
    ada, bob = (get_sync_client(url=f"{shop.url}/ai", headers=headers) for headers in (ADA, BOB))
    thread = ada.threads.create()
    asked: Any = ada.runs.wait(thread["thread_id"], "letter", input={"to": "Eve", "about": "cats"})
    assert asked["__interrupt__"][0]["value"]["question"] == "Send it?"
    assert [found["thread_id"] for found in ada.threads.search()] == [thread["thread_id"]]
    assert bob.threads.search() == []
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        bob.runs.wait(thread["thread_id"], "letter", command={"resume": "yes"})
    values: Any = ada.runs.wait(thread["thread_id"], "letter", command={"resume": "yes"})
    assert values["sent"] is True


def test_the_hosts_own_client_does_not_wait_at_the_gate_of_the_service(shop: Stand) -> None:
    shop.provider.reset()
    shop.provider.close_gate()
    answers: list[int] = []

    def ask(text: str) -> None:
        found = httpx.get(f"{shop.url}/question", params={"text": text}, headers=ADA, timeout=60)
        answers.append(found.status_code)

    client = get_sync_client(url=f"{shop.url}/ai", headers=ADA)
    threads = [client.threads.create()["thread_id"] for _ in range(3)]
    runs = [client.runs.create(thread, "story", input={"topic": "a cat"}) for thread in threads]
    shop.provider.wait_arrived(1)
    asking = [threading.Thread(target=ask, args=(text,)) for text in "abc"]
    for one in asking:
        one.start()
    shop.provider.wait_arrived(4)
    paths = [request.path for request in shop.provider.requests]
    assert (paths.count("/v1/chat/completions"), paths.count("/v1/responses")) == (1, 3)  # PLAIT_MAX_CONCURRENCY is 1
    shop.provider.open_gate()
    for one in asking:
        one.join()
    assert answers == [200] * 3
    for run in runs:
        assert client.runs.join(run["thread_id"], run["run_id"])


USE_MOUNTED = """
import importlib.util

import fastapi.routing, prometheus_client, starlette.applications, uvicorn

CLASSES += [fastapi.FastAPI, fastapi.APIRouter, fastapi.routing.APIRoute, starlette.applications.Starlette,
            prometheus_client.CollectorRegistry, uvicorn.Server]
LOGGERS += ["uvicorn", "uvicorn.error", "uvicorn.access", "fastapi", "plait", "plait.service", "plait.service.access"]
before = snapshot()
ADA = {"Authorization": "Bearer token-of-ada"}
COLLECTORS = prometheus_client.REGISTRY._collector_to_names


async def use(mounted):
    inside = snapshot()  # asyncio.run has a signal handler of its own
    async with mounted.app.router.lifespan_context(mounted.app):
        client = mounted.app.state.openai
        transport = client._client._transport
        over = httpx.ASGITransport(app=mounted.app)
        async with httpx.AsyncClient(transport=over, base_url="http://shop", headers=ADA, timeout=60) as http:
            body = {"workflow": "story", "inputs": {"topic": "a cat"}}
            answers = [await http.post("/ai/generate", json=body), await http.get("/question", params={"text": "hm"})]
        report["during use"] = changed(inside, snapshot())
        report["same transport"] = client._client._transport is transport
        report["transport"] = type(transport).__module__.split(".")[0]
    return [answer.status_code for answer in answers]


spec = importlib.util.spec_from_file_location("mounted", MOUNTED)
mounted = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mounted)
report["by import"] = changed(before, snapshot())
report["answers"] = asyncio.run(use(mounted))
report["by use"] = changed(before, snapshot())
report["figures"] = [name for names in COLLECTORS.values() for name in names if "plait" in name]
report["middleware"] = len(mounted.app.user_middleware)
report["host handlers"] = len(mounted.app.exception_handlers) - len(fastapi.FastAPI().exception_handlers)
print(json.dumps(report))
"""


def test_a_mounted_service_changes_nothing_of_its_host(stand: Stand, tmp_path: Path) -> None:
    script = f"MOUNTED = {str(EXAMPLES / 'mounted.py')!r}\n{HOST}\n{USE_MOUNTED}"
    report = json.loads(ran(sys.executable, "-c", script, cwd=tmp_path, env=endpoint_env(stand.provider)))
    assert report == {
        "by import": [],
        "threads": 0,
        "paths by import": [],
        "answers": [200, 200],
        "during use": [],
        "by use": [],
        "same transport": True,
        "transport": "httpx2",
        "figures": [],
        "middleware": 0,
        "host handlers": 0,
    }


# --- worker.py ---------------------------------------------------------------------------------------------


def test_a_worker_runs_each_item_in_a_loop_of_its_own(stand: Stand, tmp_path: Path) -> None:
    worker = str(EXAMPLES / "worker.py")
    env = endpoint_env(stand.provider)
    printed = ran(sys.executable, worker, cwd=tmp_path, stdin="a cat\na dog\na hen\n", env=env)
    assert [line.rpartition(" about ")[2] for line in printed.splitlines()] == ["a cat.", "a dog.", "a hen."]


def test_a_worker_lets_the_service_run_its_items(stand: Stand, tmp_path: Path) -> None:
    printed = ran(sys.executable, str(EXAMPLES / "worker.py"), stand.url, cwd=tmp_path, stdin="a cat\na dog\n")
    assert [line.rpartition(" about ")[2] for line in printed.splitlines()] == ["a cat.", "a dog."]
    assert not list(tmp_path.rglob("*.db"))


# --- remote_nodes.py ---------------------------------------------------------------------------------------


async def test_a_remote_node_streams_through_its_parent(stand: Stand) -> None:
    graph = loaded("remote_nodes").page_graph(stand.url)
    topic = {"topic": "a cat"}
    said = [
        message["content"] async for _, (message, _) in graph.astream(topic, stream_mode="messages", subgraphs=True)
    ]
    assert "".join(said).endswith("about a cat.")
    assert len([text for text in said if text]) > 3
    page = await graph.ainvoke(topic)
    assert page["page"].startswith("<h1>a cat</h1><p>Answer to: ")


@pytest.mark.parametrize(("answer", "sent"), [("yes", True), ("no", False)])
async def test_a_parent_passes_an_answer_on_to_a_remote_workflow(stand: Stand, answer: str, sent: bool) -> None:
    graph = loaded("remote_nodes").mail_graph(stand.url)
    config = {"configurable": {"thread_id": f"mail-{answer}"}}
    before = stand.provider.counters.accepted
    asked = await graph.ainvoke({"to": "Ada", "about": "engines"}, config)
    assert asked["__interrupt__"][0].value["question"] == "Send it?"
    values = await graph.ainvoke(Command(resume=answer), config)
    assert (values["to"], values["sent"]) == ("Ada", sent)
    assert stand.provider.counters.accepted == before + 1


def test_the_remote_example_prints_its_story_and_its_letter(stand: Stand, tmp_path: Path) -> None:
    printed = ran(sys.executable, str(EXAMPLES / "remote_nodes.py"), stand.url, cwd=tmp_path)
    story, question, sent = printed.splitlines()
    assert story.endswith("about a cat.")
    assert (question, sent) == ("Send it?", "True")


# --- js ----------------------------------------------------------------------------------------------------


def test_the_javascript_client_streams_and_resumes(stand: Stand, tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs node and npm (Debian: apt-get install nodejs npm)")
    shutil.copytree(EXAMPLES / "js", tmp_path / "js")
    install = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock"]
    try:
        fetched = subprocess.run(
            install, check=False, cwd=tmp_path / "js", capture_output=True, text=True, timeout=NPM_S
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm fetched nothing within {NPM_S} s")
    if fetched.returncode != 0:
        pytest.skip(f"npm could not fetch the package: {fetched.stderr[-300:]}")
    story, question, sent = ran(node, "main.mjs", stand.url, cwd=tmp_path / "js").splitlines()
    assert story.endswith("about a lighthouse.")
    assert (question, sent) == ("Send it?", "true")


# --- service.ipynb -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("kernel")
def test_the_notebook_streams_from_a_service(stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_URL", stand.url)
    notebook = nbformat.read(EXAMPLES / "service.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert not any(cell.get("outputs") for cell in notebook.cells)
    client = NotebookClient(notebook, timeout=60, kernel_name=KERNEL, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    printed = ["".join(output.get("text", "") for output in cell.get("outputs", ())) for cell in notebook.cells]
    text = "\n".join(printed)
    assert "letter, story" in text
    assert "about a lighthouse." in text
    assert "Send it?" in text
    assert "sent: True" in text


# --- what the guide says about restarts --------------------------------------------------------------------


def test_a_client_reads_a_stream_on_after_the_server_was_restarted(tmp_path: Path) -> None:
    with running() as provider:
        settings = settings_in(tmp_path, base_url=provider.base_url)
        with listening(create_app(EXAMPLES / "app", settings=settings)) as found:
            client = get_sync_client(url=found.url)
            thread = client.threads.create()["thread_id"]
            run = client.runs.create(
                thread, "story", input={"topic": "a dog"}, stream_mode="messages-tuple", stream_resumable=True
            )["run_id"]
            whole = list(client.runs.join_stream(thread, run, stream_mode="messages-tuple", last_event_id="-1"))
        with listening(create_app(EXAMPLES / "app", settings=settings)) as found:
            client = get_sync_client(url=found.url)
            seen = whole[3].id
            rest = list(client.runs.join_stream(thread, run, stream_mode="messages-tuple", last_event_id=seen))
    assert len(whole) > 8
    assert rest == whole[4:]


# --- the pages ---------------------------------------------------------------------------------------------


def test_the_guide_shows_the_examples_as_they_are() -> None:
    shown = {block.title: block.text for block in blocks(ROOT / "docs" / "service.md") if block.title}
    for name in ("app/langgraph.json", "app/stories.py", "app/letters.py", "js/main.mjs"):
        path = EXAMPLES / name
        assert shown[path.name] == path.read_text(encoding="utf-8"), name


def test_the_guide_installs_the_versions_that_the_example_uses() -> None:
    wanted = json.loads((EXAMPLES / "js" / "package.json").read_text(encoding="utf-8"))["dependencies"]
    guide = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    for package, version in wanted.items():
        assert version[0].isdigit()
        assert f"{package}@{version}" in guide
