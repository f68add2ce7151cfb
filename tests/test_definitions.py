"""Experiments that an app declares: what eval/experiments.toml may say, and what is said of its mistakes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from plait.app import App, find_app
from plait.datasets import Example
from plait.errors import InputError
from plait.experiments.definitions import (
    EXAMPLE,
    Definition,
    definitions_file,
    find_definition,
    in_split,
    load_definitions,
)
from plait.settings import from_env

MINIMAL = """\
workflow = "story"
dataset = "datasets/topics.jsonl"
evaluators = ["exact"]
"""


def app_with(folder: Path, toml: str | bytes | None, *, section: dict[str, object] | None = None) -> App:
    graphs = {"story": "graphs.story:graph", "stories": "graphs.stories:graph"}
    (folder / "langgraph.json").write_text(json.dumps({"graphs": graphs, "plait": section or {}}))
    if toml is not None:
        file = folder / str((section or {}).get("experiments", "eval/experiments.toml"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(toml if isinstance(toml, bytes) else toml.encode())
    return find_app(folder)


def test_an_experiment_with_everything_is_read_as_it_is_written(tmp_path: Path) -> None:
    app = app_with(
        tmp_path,
        """
        [quality]
        workflow = "story"
        dataset = "datasets/topics.jsonl"
        evaluators = [
          "exact",
          "eval.evaluators:mentions_topic",
          {use = "contains", text = "once", key = "opening", node = "write", lower_is_better = true},
          {use = "./own.py:judge", values = [1, 2]},
        ]
        summary_evaluators = ["eval.evaluators:spread"]
        repetitions = 3
        model = "openai:m"
        context = {prompt = "Be brief.", nested = {deep = [1, 2.5, true]}}
        thresholds = {errors = 0, mentions_topic = ">= 0.8", latency_s = "<2"}
        node = "research/search"
        split = "short"
        cluster = "author"
        limit = 10
        timeout_s = 30
        evaluator_timeout_s = 60
        row_attempts = 2
        max_concurrency = 8
        """,
    )
    assert load_definitions(app) == {
        "quality": Definition(
            name="quality",
            workflow="story",
            dataset=str(tmp_path.resolve() / "eval/datasets/topics.jsonl"),
            folder=tmp_path.resolve() / "eval",
            evaluators=(
                "exact",
                "eval.evaluators:mentions_topic",
                {"use": "contains", "text": "once", "key": "opening", "node": "write", "lower_is_better": True},
                {"use": "./own.py:judge", "values": [1, 2]},
            ),
            summary_evaluators=("eval.evaluators:spread",),
            repetitions=3,
            model="openai:m",
            context={"prompt": "Be brief.", "nested": {"deep": [1, 2.5, True]}},
            thresholds={"errors": "0", "mentions_topic": ">= 0.8", "latency_s": "<2"},
            node="research/search",
            split="short",
            cluster="author",
            limit=10,
            timeout_s=30.0,
            evaluator_timeout_s=60.0,
            row_attempts=2,
            max_concurrency=8,
        )
    }


def test_what_is_left_out_has_defaults_that_name_no_model(tmp_path: Path) -> None:
    found = find_definition(app_with(tmp_path, f"[a]\n{MINIMAL}\n[b]\n{MINIMAL}"), "b")
    assert (found.name, found.repetitions, found.model, found.row_attempts) == ("b", 1, None, 1)
    assert (found.thresholds, found.context, found.node, found.split, found.timeout_s) == ({}, {}, None, None, None)
    assert found.dataset_name == "datasets/topics.jsonl"
    assert pickle.loads(pickle.dumps(found)) == found


def test_experiments_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    assert list(load_definitions(app_with(tmp_path, f"[b]\n{MINIMAL}\n[a]\n{MINIMAL}"))) == ["b", "a"]


def test_the_example_in_the_message_is_one_that_loads(tmp_path: Path) -> None:
    assert list(load_definitions(app_with(tmp_path, EXAMPLE))) == ["my-experiment"]


def test_a_langsmith_dataset_is_no_path(tmp_path: Path) -> None:
    toml = f"[a]\n{MINIMAL}".replace("datasets/topics.jsonl", "langsmith:topics")
    found = find_definition(app_with(tmp_path, toml), "a")
    assert (found.dataset, found.dataset_name) == ("langsmith:topics", "langsmith:topics")


def test_an_absolute_path_of_a_dataset_stays(tmp_path: Path) -> None:
    path = tmp_path / "far" / "topics.jsonl"
    found = find_definition(app_with(tmp_path, f"[a]\n{MINIMAL}".replace("datasets/topics.jsonl", str(path))), "a")
    assert (found.dataset, found.dataset_name) == (str(path), str(path))


def test_objects_of_python_are_called_rows() -> None:
    found = Definition(name="a", workflow="story", dataset=[{"topic": "rain"}], evaluators=())
    assert found.dataset_name == "rows"


def test_langgraph_json_may_name_another_file(tmp_path: Path) -> None:
    section: dict[str, object] = {"experiments": "quality/all.toml"}
    app = app_with(tmp_path, f"[a]\n{MINIMAL}", section=section)
    assert find_definition(app, "a").dataset == str(app.root / "quality/datasets/topics.jsonl")
    assert from_env({}, section=app.section)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('[a]\nworkflow = "story"', r"experiments.toml: \[a\] dataset: expected a file .*, found nothing"),
        (MINIMAL, r"\[workflow\]: expected a table with workflow, dataset, evaluators, found 'story'"),
        (f"[a]\n{MINIMAL}repetitons = 2", r"\[a\] repetitons: no such key; did you mean 'repetitions'\?"),
        (f"[a]\n{MINIMAL}zzz = 2", r"\[a\] zzz: no such key; known: workflow, dataset, evaluators"),
        (f"[a.xyz]\n{MINIMAL}", r'\[a\] xyz: no such key; a name with dots is written in quotes, as in \["a.xyz"\]'),
        (f"[a]\n{MINIMAL}repetitions = 0", r"\[a\] repetitions: expected a whole number of 1 or more, found 0"),
        (f"[a]\n{MINIMAL}repetitions = true", r"repetitions: expected a whole number of 1 or more, found True"),
        (f'[a]\n{MINIMAL}repetitions = "2"', r"repetitions: expected a whole number of 1 or more, found '2'"),
        (f"[a]\n{MINIMAL}limit = 0", r"limit: expected a whole number"),
        (f"[a]\n{MINIMAL}timeout_s = 0", r"timeout_s: expected seconds above 0, found 0"),
        (f"[a]\n{MINIMAL}timeout_s = inf", r"timeout_s: expected seconds above 0, found inf"),
        (f"[a]\n{MINIMAL}evaluator_timeout_s = 0", r"evaluator_timeout_s: expected seconds above 0, found 0"),
        (f"[a]\n{MINIMAL}max_concurrency = 1.5", r"max_concurrency: expected a whole number"),
        (f'[a]\n{MINIMAL}model = ""', r"model: expected a model, as in .*, found ''"),
        (f"[a]\n{MINIMAL}node = 3", r"node: expected a node's name"),
        (f'[a]\n{MINIMAL}context = "x"', r"context: expected a table of .*, found 'x'"),
        (f"[a]\n{MINIMAL}context = {{day = 2026-01-01}}", r"context.day: expected a table of .*, found .*date"),
        (f"[a]\n{MINIMAL}thresholds = 1", r"thresholds: expected a table of comparisons, .*, found 1"),
        (f'[a]\n{MINIMAL}thresholds = {{exact = ">> 1"}}', r"\[a\] thresholds: exact: expected a bound .*found '>> 1'"),
        (f"[a]\n{MINIMAL}thresholds = {{errors = true}}", r"thresholds: errors: expected a bound .*found True"),
        (f"[a]\n{MINIMAL}thresholds = {{exact = nan}}", r"thresholds: exact: expected a bound"),
        (
            f"[a]\n{MINIMAL}".replace('"story"', '"storys"'),
            r"\[a\] workflow: expected a workflow of .*langgraph.json, found 'storys'; did you mean 'story'\?",
        ),
        (f"[a]\n{MINIMAL}".replace('"story"', '"xyz"'), r"found 'xyz'; workflows: story, stories"),
        (
            f"[a]\n{MINIMAL}".replace('["exact"]', '"exact"'),
            r"evaluators: expected a list of evaluators.*found 'exact'",
        ),
        (f"[a]\n{MINIMAL}".replace('["exact"]', "[]"), r"evaluators: expected a list of evaluators.*found \[\]"),
        (f"[a]\n{MINIMAL}".replace('"exact"', '"exact", 3'), r"evaluators\[1\]: expected an evaluator's name or"),
        (
            f"[a]\n{MINIMAL}".replace('"exact"', '"a.b c"'),
            r"evaluators\[0\]: expected a built-in evaluator such as exact",
        ),
        (f"[a]\n{MINIMAL}".replace('"exact"', '"a.b:"'), r"evaluators\[0\]: .* found 'a.b:'"),
        (f"[a]\n{MINIMAL}".replace('"exact"', '{us = "exact"}'), r"did you mean use where it says us\?"),
        (
            f"[a]\n{MINIMAL}".replace('"exact"', '{use = "exact", key = 3}'),
            r"evaluators\[0\]: key: expected text, found 3",
        ),
        (
            f"[a]\n{MINIMAL}".replace('"exact"', '{use = "exact", lower_is_better = "no"}'),
            r"lower_is_better: expected true or false, found 'no'",
        ),
        (f"[a]\n{MINIMAL}\n[a]\n{MINIMAL}", r"experiments.toml: expected TOML, found a mistake: .*at line 6, column 3"),
        ("[a\n", r"at line 1, column 3"),
        (b"\xff\xfe", r"expected a UTF-8 file that can be read"),
    ],
)
def test_a_mistake_is_named_with_file_experiment_and_key(tmp_path: Path, toml: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        load_definitions(app_with(tmp_path, toml))
    assert all(line.startswith(str(tmp_path.resolve())) for line in str(raised.value).splitlines())


def test_every_mistake_has_its_line(tmp_path: Path) -> None:
    toml = f'[a]\n{MINIMAL}repetitions = 0\nlimit = 0\n[b]\nworkflow = "story"\n[c]\n{MINIMAL}'
    with pytest.raises(InputError) as raised:
        load_definitions(app_with(tmp_path, toml))
    lines = str(raised.value).splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [
        "[a] repetitions",
        "[a] limit",
        "[b] dataset",
        "[b] evaluators",
    ]


def test_an_unknown_experiment_is_answered_with_the_nearest_and_all(tmp_path: Path) -> None:
    app = app_with(tmp_path, f"[story-quality]\n{MINIMAL}\n[answers]\n{MINIMAL}")
    with pytest.raises(InputError, match=r"found 'story-qualty': did you mean 'story-quality'\? .*: .*answers"):
        find_definition(app, "story-qualty")


@pytest.mark.parametrize(("toml", "found"), [(None, "found no such file"), ("# nothing yet\n", "found none in it")])
def test_without_experiments_the_message_says_where_and_how(tmp_path: Path, toml: str | None, found: str) -> None:
    app = app_with(tmp_path, toml)
    assert load_definitions(app) == {}
    with pytest.raises(InputError, match=found) as raised:
        find_definition(app, "quality")
    assert str(definitions_file(app)) in str(raised.value)
    assert EXAMPLE in str(raised.value)


@pytest.mark.parametrize(
    ("metadata", "split", "there"),
    [
        ({"split": "short"}, "short", True),
        ({"split": ["short", "test"]}, "test", True),
        ({"splits": ["short"]}, "short", True),
        ({"dataset_split": ["test"]}, "test", True),
        ({"split": "shorter"}, "short", False),
        ({"split": "long", "splits": ["short"]}, "short", True),
        ({"split": None}, "short", False),
        ({"kind": "short"}, "short", False),
        (None, "short", False),
    ],
)
def test_an_example_is_in_the_splits_that_its_metadata_name(
    metadata: dict[str, object] | None, split: str, there: bool
) -> None:
    assert in_split(Example(0, "a", {}, None, metadata), split) is there
