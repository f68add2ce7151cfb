"""An OpenAI-compatible provider on loopback: limits, latencies and faults of real ones, no key, no bill."""

from __future__ import annotations

from plait.simulator.answers import Answering, scripted
from plait.simulator.behaviours import Behaviour, Body, Request, ToolCall
from plait.simulator.clocks import Clock
from plait.simulator.counters import Counters
from plait.simulator.presets import PRESETS, preset
from plait.simulator.profiles import Profile
from plait.simulator.provider import Simulator, running

__all__ = [
    "PRESETS",
    "Answering",
    "Behaviour",
    "Body",
    "Clock",
    "Counters",
    "Profile",
    "Request",
    "Simulator",
    "ToolCall",
    "preset",
    "running",
    "scripted",
]
