"""A provider whose answers follow from their prompts, so that a test can say which outputs are right."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from plait.simulator import Body, Simulator
from plait.simulator.prompts import last_user_message
from plait.store.rows import RowRecord
from tests.reliability import fans, own_clients

KEY = "sk-never-in-a-file"
_TOPIC = re.compile(r"topic number \d+")
_ANSWER = re.compile(r"(?:answer|draw \d+ of) [0-9a-f]{12}")
CALLS = {"fan": fans.CALLS, "own": own_clients.CALLS}


class Answers:
    """What the model says; at temperature 1 every answer to a prompt is another one, numbered."""

    def __init__(self) -> None:
        self._draws: Counter[str] = Counter()
        self._topics: dict[str, str] = {}
        """By answer: the topic of the row that it was given to."""
        self.asked: Counter[str] = Counter()
        """Requests by topic."""

    def __call__(self, body: Body) -> str:
        prompt = last_user_message(body)
        if body.get("temperature") == 1:
            answer = f"draw {self._draws[prompt]} of {_digest(prompt)}"
            self._draws[prompt] += 1
        else:
            answer = _answer(prompt)
        self._topics[answer] = self.topic_in(prompt)
        return answer

    def note(self, body: Body, _: int) -> None:
        """Count a request, for Simulator.behave."""
        self.asked[self.topic_in(str(body.get("input") or last_user_message(body)))] += 1

    def topic_in(self, text: str) -> str:
        """The topic that a text names, or that an earlier answer in it belongs to."""
        if found := _TOPIC.search(text):
            return found[0]
        found = _ANSWER.search(text)
        assert found is not None, text
        return self._topics[found[0]]

    def drawn(self, prompt: str) -> set[str]:
        """All answers that were given to a prompt at temperature 1."""
        return {f"draw {number} of {_digest(prompt)}" for number in range(self._draws[prompt])}

    def check(self, workflow: str, row: RowRecord) -> None:
        """Fail unless a row's outputs are what a run without interruptions can give, at the price that has."""
        assert row.status == "success", (row.id, row.error)
        self.check_outputs(workflow, row)
        usage = {name: row.usage[name] for name in ("calls", "replayed_calls", "failed_calls")}
        assert int(str(usage["calls"])) + int(str(usage["replayed_calls"])) == CALLS[workflow], usage
        assert usage["failed_calls"] == 0, usage

    def check_outputs(self, workflow: str, row: RowRecord) -> None:
        """The same of the outputs alone."""
        assert isinstance(row.outputs, dict)
        (self._check_fan if workflow == "fan" else self._check_own)(topic_of(row.position), row.outputs)

    def _check_fan(self, topic: str, outputs: Mapping[str, object]) -> None:
        plan = _answer(fans.plan_prompt(topic))
        draws = outputs["draws"]
        assert isinstance(draws, dict)
        assert sorted(draws) == sorted(fans.LABELS)
        drawn = {str(text) for text in draws.values()}
        assert len(drawn) == len(fans.LABELS), "the siblings have one and the same draw"
        assert drawn <= self.drawn(fans.draw_prompt(plan))
        verdict = _answer(fans.weigh_prompt(draws))
        story = _answer(fans.tell_prompt(verdict))
        assert outputs == {"plan": plan, "draws": draws, "verdict": verdict, "story": story}

    def _check_own(self, topic: str, outputs: Mapping[str, object]) -> None:
        draws = outputs["draws"]
        assert isinstance(draws, list)
        assert len(set(draws)) == 2, "equal prompts have one and the same draw"
        assert set(draws) <= self.drawn(f"Draw {topic}")
        story = _answer(f"Tell {draws}")
        note = _answer(f"Note {story}")
        assert outputs["story"] == story
        assert outputs["note"] == note
        assert outputs["sync"] == _answer(f"Sum up {note}")
        assert isinstance(outputs["vector"], list)


def topic_of(position: int) -> str:
    """Of each row another."""
    return f"topic number {position}"


def write_rows(file: Path, count: int) -> Path:
    """A dataset of so many rows."""
    lines = (json.dumps({"id": f"row-{position}", "topic": topic_of(position)}) for position in range(count))
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def environment(provider: Simulator, home: Path, **settings: object) -> dict[str, str]:
    """What a sitting runs with: the provider, a key, `PLAIT_...` settings."""
    found = {
        "PLAIT_HOME": str(home),
        "PLAIT_MODEL": "openai:m",
        "PLAIT_MAX_CONCURRENCY": "32",
        "OPENAI_BASE_URL": provider.base_url,
        "OPENAI_API_KEY": KEY,
        "ANTHROPIC_API_KEY": KEY,
    }
    return found | {f"PLAIT_{name.upper()}": str(value) for name, value in settings.items()}


def _answer(prompt: str) -> str:
    return f"answer {_digest(prompt)}"


def _digest(text: str) -> str:
    return blake2b(re.sub(r"\s+", " ", text).encode(), digest_size=6).hexdigest()
