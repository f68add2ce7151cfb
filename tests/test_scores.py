"""What evaluators of any make return becomes scores, or a fault that says why not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from langsmith.evaluation import EvaluationResult, EvaluationResults

from plait.experiments.evaluators.scores import BadScore, read_scores
from plait.experiments.records import Score


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (True, Score("e", True)),
        (3, Score("e", 3.0)),
        (0.25, Score("e", 0.25)),
        ("polite", Score("e", value="polite")),
        (np.float64(0.5), Score("e", 0.5)),
        (np.int64(2), Score("e", 2.0)),
        (np.bool_(True), Score("e", True)),
        (Score(score=1), Score("e", 1.0)),
        (Score("own", True, comment="because", node="write"), Score("own", True, comment="because", node="write")),
        (EvaluationResult(key="k", score=0.5, comment="c"), Score("k", 0.5, comment="c")),
        (EvaluationResult(key="k", value="good"), Score("k", value="good")),
        ({"score": 1, "reasoning": "it is"}, Score("e", 1.0, comment="it is")),
        ({"key": "k", "value": 0.5}, Score("k", 0.5)),
        ({"key": None, "score": False, "comment": None, "metadata": None}, Score("e", False)),
        ({"results": [{"key": "a", "score": 1}]}, Score("a", 1.0)),
        ({"score": 1, "metadata": {"n": 1, "path": Path("x")}}, Score("e", 1.0, metadata={"n": 1, "path": "x"})),
    ],
)
def test_what_an_evaluator_may_return_becomes_a_score(returned: object, expected: Score) -> None:
    [score] = read_scores(returned, name="e")
    assert score == expected
    assert type(score.score) in (bool, float, type(None))
    json.dumps(score.metadata)


def test_a_list_of_scores_keeps_its_order_and_a_single_score_can_be_renamed() -> None:
    several = [Score("a", 1), {"key": "b", "score": True}, EvaluationResult(key="c", score=0)]
    assert [score.key for score in read_scores(several, name="e", key="mine")] == ["a", "b", "c"]
    assert [score.key for score in read_scores([several[0]], name="e", key="mine")] == ["mine"]
    assert [s.key for s in read_scores(EvaluationResults(results=[EvaluationResult(key="z", score=1)]), name="e")] == [
        "z"
    ]


@pytest.mark.parametrize(
    ("returned", "fault"),
    [
        (None, "found None: did it forget to return?"),
        ([], "found an empty list"),
        (float("nan"), "expected a finite number as score, found nan"),
        (float("-inf"), "found -inf"),
        (10**400, "expected a finite number"),
        (np.float32("nan"), "expected a finite number"),
        (object(), "found object"),
        (b"1", "found bytes"),
        ({}, "found neither, only nothing"),
        ({"key": "k", "comment": "hm"}, "found neither, only 'key', 'comment'"),
        ({"score": "0.8"}, "found str ('0.8'): a category goes under 'value'"),
        ({"score": float("nan")}, "expected a finite number"),
        ({"key": 3, "score": 1}, "expected a text as a score's key, found int"),
        ({"value": {"a": 1}}, "expected a text as value, found dict"),
        (Score("k"), "found neither"),
        ([True, False], "found two with the key 'e'"),
        ([[True]], "found list"),
        ("", "an empty text"),
        ("word " * 100, "at most 200 characters, found 500"),
    ],
)
def test_nonsense_is_no_score_and_the_message_says_why(returned: object, fault: str) -> None:
    with pytest.raises(BadScore) as raised:
        read_scores(returned, name="e")
    assert str(raised.value).startswith("e: expected")
    assert fault in str(raised.value)
