"""Which runs share a gate."""

from __future__ import annotations

import gc
import weakref

from plait.flow.registry import gate_for
from plait.models import chat_model
from plait.settings import from_env


def test_equal_settings_share_a_gate() -> None:
    first, again = from_env({"PLAIT_MAX_CONCURRENCY": "7"}), from_env({"PLAIT_MAX_CONCURRENCY": "7"})
    assert gate_for(first) is gate_for(again)
    assert gate_for(first) is not gate_for(first.override(max_concurrency=8))


def test_a_bound_is_one_bound_though_runs_differ_in_other_settings() -> None:
    settings = from_env({"PLAIT_MAX_CONCURRENCY": "7"})
    one, other = gate_for(settings.override(model="openai:a")), gate_for(settings.override(model="openai:b"))
    assert one is not other
    assert one.process is other.process is not None


def test_settings_made_for_each_request_do_not_pile_up() -> None:
    settings = from_env({"OPENAI_API_KEY": "k"})
    gates = []
    for n in range(200):
        changed = settings.override(read_timeout_s=1000.0 + n)
        gates.append(weakref.ref(gate_for(changed)))
        chat_model("openai:m", settings=changed)
    gc.collect()
    assert sum(gate() is not None for gate in gates) <= 64
    assert gates[-1]() is gate_for(settings.override(read_timeout_s=1199.0))
