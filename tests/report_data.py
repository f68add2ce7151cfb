"""Makes experiments for reports from a seed: with traces, errors, and a second one to compare."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from plait.datasets.examples import Example
from plait.experiments.comparisons import compare
from plait.experiments.metrics import metrics, totals
from plait.experiments.records import (
    CallTrace,
    ExampleRun,
    Experiment,
    Failure,
    NodeTrace,
    Origin,
    Score,
    ToolTrace,
)
from plait.reports import ReportInput
from plait.store.rows import RowError

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Of a Chromium that opens reports and nothing else."""
BEGAN_AT = 1_790_000_000.0
NODES = ("plan", "research/search", "research/read", "write")
_OPENINGS = (
    "A magical forest where the trees remember every name",
    "The last lighthouse keeper and the fog that learned to speak",
    "Two clockmakers who share one hour a day",
    "A map that redraws itself whenever somebody lies",
    "The orchestra that only plays for empty halls",
    "A fox who collects the shadows of travellers",
)
_SENTENCES = (
    "The {a} {b} kept its promise and carried the boat past the sleeping village.",
    "Nobody asked where it was going, for everybody already knew the {b}.",
    "In the {a} light of the morning the {b} looked smaller than it had been.",
    "She wrote the name of the {b} on a leaf, and the wind read it aloud.",
    "Years later they would still speak of the {a} night and of the {b}.",
    "He counted to seven, opened the door, and found only a {a} {b}.",
    "It was not the {b} that frightened them but how {a} it had become.",
    "What the {b} wanted was {a} and simple: to be asked.",
)
_SLOTS = {
    "a": ("quiet", "silver", "old", "patient", "crooked", "bright", "forgotten", "gentle", "restless"),
    "b": ("river", "lantern", "clock", "bridge", "garden", "letter", "harbour", "fox", "melody", "winter"),
}


def experiment(
    examples: int, *, name: str = "after", seed: int = 1, failing: float = 0.05, reused: str | None = None
) -> Experiment:
    """An experiment of `examples` runs; the same arguments give the same. `failing` is the share of runs that fail."""
    drawn = random.Random(f"{seed} {name}")
    runs = tuple(_run(position, drawn, failing, better=name == "after", reused=reused) for position in range(examples))
    return Experiment(
        id=f"20260921-1015-{name}",
        name=name,
        definition="story-quality",
        workflow="story",
        place=f"batches/{name}",
        status="finished",
        created_at=BEGAN_AT,
        duration_s=sum(run.duration_s for run in runs) / 20,
        runs=runs,
        origin=Origin(
            commit="4f1d0a7c93b2e8d56a11" if name == "before" else "b81c6e02f7d94a3350cc",
            dirty=name == "after",
            dataset="eval/datasets/stories.jsonl",
            dataset_hash="sha256:91c5d0e2",
            model="openai:gpt-4.1-mini",
            context={"prompt": "a.txt" if name == "before" else "b.txt", "temperature": 0.7},
            versions={"langchain": "1.4.2", "langgraph": "1.2.20", "openai": "3.50.1", "plait": "0.1.0"},
            workflow_digest="5b7c" if name == "before" else "e0a1",
        ),
        reused=reused,
        lower_is_better=frozenset({"errors"}),
    )


def _run(position: int, drawn: random.Random, failing: float, *, better: bool, reused: str | None) -> ExampleRun:
    stable = random.Random(position)
    topic = stable.choice(_OPENINGS)
    example = Example(
        position=position,
        id=f"story-{position + 1:04}",
        inputs={"topic": topic, "words": stable.choice([80, 120, 200])},
        reference_outputs={"story": _prose(stable, stable, 3)},
        metadata={"split": stable.choice(["train", "test"])},
    )
    nodes = _nodes(drawn, replayed=reused is not None)
    duration_s = nodes[-1].began_s + nodes[-1].duration_s
    usage = _usage(nodes)
    if drawn.random() < failing:
        error = drawn.choice(
            [
                RowError("RunTimeout", "expected an end within 30 s, found none; raise --timeout", "write@3"),
                RowError("CallRefused", "the endpoint refused the call: 400, context length exceeded", "write@3"),
            ]
        )
        status = "timeout" if error.type == "RunTimeout" else "error"
        return ExampleRun(
            position=position,
            example=example,
            status=status,
            error=error,
            duration_s=duration_s,
            usage=usage,
            nodes=nodes,
        )
    scores, failures = _scores(drawn, stable, better=better)
    story = _prose(stable, drawn if better else stable, 6)
    return ExampleRun(
        position=position,
        example=example,
        outputs={"story": f"{topic}. {story}", "title": " ".join(topic.split()[:4])},
        scores=scores,
        failures=failures,
        duration_s=duration_s,
        usage=usage,
        judge_usage={"calls": 1, "cost_usd": 0.0002},
        nodes=nodes,
        tools=(ToolTrace(name="search_web", args={"query": topic}, began_s=0.9, duration_s=0.4),),
    )


def _scores(
    drawn: random.Random, stable: random.Random, *, better: bool
) -> tuple[tuple[Score, ...], tuple[Failure, ...]]:
    quality = stable.uniform(0.35, 0.8) + drawn.gauss(0.1 if better else 0.0, 0.08)
    passed = quality + drawn.gauss(0, 0.05) > 0.52
    style = Score("style", round(min(max(quality, 0.0), 1.0), 3), comment="Vivid, but the ending comes too fast.")
    tone = Score("tone", value=drawn.choice(["warm", "warm", "neutral", "dark"]))
    faithful = Score("faithful", passed, comment=None if passed else "The name is not the one that was asked for.")
    if drawn.random() < 0.04:
        return (faithful, tone), (Failure("style", "ValueError", "expected a number from 0 to 1, found 'high'"),)
    return (faithful, style, tone), ()


def _usage(nodes: Sequence[NodeTrace]) -> dict[str, object]:
    calls = [call for node in nodes for call in node.calls]
    paid = [call for call in calls if not call.replayed]
    return {
        "calls": len(paid),
        "replayed_calls": len(calls) - len(paid),
        "reused_calls": len(calls) - len(paid),
        "input_tokens": sum(call.input_tokens for call in paid),
        "cached_tokens": sum(call.cached_tokens for call in paid),
        "output_tokens": sum(call.output_tokens for call in paid),
        "cost_usd": sum(call.cost_usd or 0.0 for call in paid),
    }


def _prose(order: random.Random, words: random.Random, sentences: int) -> str:
    """So many sentences in the order of the one, of which every third has words of the other."""
    text = []
    for index, sentence in enumerate(order.sample(_SENTENCES, k=sentences)):
        own = {slot: order.choice(choices) for slot, choices in _SLOTS.items()}
        other = {slot: words.choice(choices) for slot, choices in _SLOTS.items()}
        text.append(sentence.format(**(other if index % 3 == 1 else own)))
    return " ".join(text)


def _nodes(drawn: random.Random, *, replayed: bool) -> tuple[NodeTrace, ...]:
    nodes, clock_s = [], 0.0
    for index, name in enumerate(NODES):
        spared = replayed and index < 2
        wait_s, first_s, rest_s = drawn.uniform(0, 0.4), drawn.uniform(0.1, 0.5), drawn.uniform(0.3, 1.6)
        call = CallTrace(
            model="gpt-4.1-mini",
            began_s=clock_s + 0.01,
            duration_s=0.002 if spared else wait_s + first_s + rest_s,
            waits={} if spared else {"concurrency": wait_s * 0.6, "rpm": wait_s * 0.4},
            first_token_s=0.0 if spared else first_s,
            generation_s=0.0 if spared else rest_s,
            input_tokens=drawn.randrange(200, 900),
            cached_tokens=drawn.choice([0, 128]),
            output_tokens=drawn.randrange(60, 400),
            replayed=spared,
            reused=spared,
            cost_usd=drawn.uniform(0.0002, 0.001),
        )
        duration_s = call.duration_s + 0.03
        branch = "/".join(f"{part}@{index + 1}" for part in name.split("/"))
        nodes.append(NodeTrace(name=name, branch=branch, began_s=clock_s, duration_s=duration_s, calls=(call,)))
        clock_s += duration_s
    return tuple(nodes)


def alone(it: Experiment) -> ReportInput:
    """The report of one experiment."""
    found = metrics(it)
    checks = [
        (f"{metric.key} is 0.75 or more: it is {metric.mean:.2f}", metric.mean >= 0.75)
        for metric in found
        if metric.mean
    ]
    return ReportInput(experiment=it, metrics=found, totals=totals(it), thresholds=checks, generated_at=BEGAN_AT + 600)


def compared(before: Experiment, after: Experiment) -> ReportInput:
    """The report of one experiment against another."""
    return replace(alone(after), comparison=compare(before, after), before=before)


def demo(examples: int = 40) -> tuple[Experiment, Experiment]:
    """A small pair for pictures: before, and after with the answers of the nodes that did not change."""
    return experiment(examples, name="before"), experiment(examples, name="after", reused="before")


def of_runs(runs: Sequence[ExampleRun]) -> Experiment:
    """An experiment with these runs."""
    return replace(experiment(0), runs=tuple(runs))
