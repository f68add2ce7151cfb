"""Peers one at a time against one provider: a process of its own each, warmed up, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, replace

from benchmarks.limits_subjects import Subject
from benchmarks.peers.contest import Course, Tally
from benchmarks.peers.environments import NotInstalled, python_with
from benchmarks.peers.warm_up import WARM
from benchmarks.records import ROOT

_PATIENCE_S = 400.0
_LANGCHAIN = ("langgraph>=1.2,<2", "langchain-openai>=1.7,<2", "openai>=3.50,<4")
SDK = Subject("AsyncOpenAI, default client", "benchmarks.peers.async_openai", _LANGCHAIN)
CHAT = Subject("ChatOpenAI", "benchmarks.peers.chat_openai", _LANGCHAIN)
GRAPH = Subject("ChatOpenAI in a graph", "benchmarks.peers.chat_openai", _LANGCHAIN, "graph")
ABATCH = Subject("LangGraph abatch", "benchmarks.peers.langgraph_abatch", _LANGCHAIN)
AEVALUATE = Subject("langsmith aevaluate", "benchmarks.peers.langsmith_aevaluate", _LANGCHAIN)
INSPECT = Subject(
    "inspect_ai", "benchmarks.peers.inspect_eval", ("inspect-ai>=0.3.280,<0.4", "openai>=3.50,<4"), "static"
)
PYDANTIC = Subject(
    "pydantic-evals",
    "benchmarks.peers.pydantic_evaluate",
    ("pydantic-evals>=2.62,<3", "pydantic-ai-slim[retries]>=2.62,<3", "openai>=3.50,<4"),
)
PROMPTS = Subject(
    "async-batch-llm", "benchmarks.peers.prompts_batch", ("async-batch-llm>=0.28,<0.29", "openai>=3.50,<4")
)


def spend(subject: Subject, course: Course) -> Tally:
    """All rows of the course by one subject, after a quarter of them unmeasured.

    Raises NotInstalled, and RuntimeError where rows failed: a comparison of unequal work says nothing.
    """
    python = str(python_with(list(subject.requirements))) if subject.requirements else sys.executable
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    with tempfile.TemporaryDirectory() as home:
        course = replace(course, setting=f"{subject.setting} {WARM}".strip())
        process = subprocess.Popen(
            [python, "-m", subject.module, json.dumps(asdict(course))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**kept, "PLAIT_HOME": home, "XDG_DATA_HOME": home, "LANGSMITH_TRACING": "false"},
        )
        timer = threading.Timer(_PATIENCE_S, process.kill)
        timer.start()
        try:
            lines = process.communicate("go\n")[0].splitlines()
        finally:
            timer.cancel()
            process.kill()
    if len(lines) != 2:
        raise RuntimeError(f"{subject.name} gave no tally; it said {lines}")
    tally = Tally(**json.loads(lines[1]))
    if tally.done != course.rows:
        raise RuntimeError(f"{subject.name}: {tally.done} of {course.rows} rows; failed: {tally.failed}")
    return tally


def installed(subjects: tuple[Subject, ...], course: Course) -> tuple[list[Subject], str]:
    """Those that are there and do eight rows; each of the others is named with why; besides, the versions."""
    found, versions = [], set[str]()
    for subject in subjects:
        try:
            tally = spend(subject, replace(course, rows=8, in_flight=8))
        except (NotInstalled, RuntimeError) as error:
            print(f"{subject.name}: left out: {error}", flush=True)
        else:
            found.append(subject)
            versions |= set(tally.versions.split(", "))
    return found, ", ".join(sorted(versions - {""}))
