"""What CI demands of an experiment: thresholds as they are written, and what they make of scores and errors."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from plait.cli.experiments.words import experiment_json, experiment_page
from plait.datasets.examples import Example
from plait.errors import InputError
from plait.experiments.metrics import metrics, totals
from plait.experiments.records import ExampleRun, Experiment, Failure, Score
from plait.experiments.thresholds import Threshold, ThresholdCheck, check_thresholds, parse_threshold, parse_thresholds
from plait.reports.inputs import ReportInput
from plait.reports.pages import render_report
from plait.store.rows import RowError


def experiment(thresholds: dict[str, str], *runs: ExampleRun, lower: frozenset[str] = frozenset()) -> Experiment:
    return Experiment(
        id="x",
        name="x",
        definition="quality",
        workflow="story",
        place="x",
        status="finished",
        created_at=0.0,
        runs=runs,
        thresholds=thresholds,
        lower_is_better=lower,
    )


def run(number: int, *scores: Score) -> ExampleRun:
    return ExampleRun(position=number, example=Example(number, str(number), {}), scores=scores)


def checks(found: Experiment) -> tuple[ThresholdCheck, ...]:
    return check_thresholds(found, metrics(found))


@pytest.mark.parametrize(
    ("text", "operator", "bound"),
    [
        (">= 0.8", ">=", 0.8),
        ("<=3", "<=", 3.0),
        (" > .5 ", ">", 0.5),
        ("< 1e-3", "<", 0.001),
        ("0.9", "", 0.9),
        ("-1", "", -1.0),
    ],
)
def test_bounds_are_read_with_and_without_an_operator(text: str, operator: str, bound: float) -> None:
    assert parse_threshold("ok", text) == Threshold("ok", bound, operator)


def test_numbers_of_toml_are_read_as_they_are() -> None:
    assert parse_threshold("ok", 0.8) == Threshold("ok", 0.8)
    assert parse_threshold("errors", 0) == Threshold("errors", 0.0)


@pytest.mark.parametrize(
    "text", ["", ">=", "high", ">= 0.8 and more", "=> 1", "== 1", "nan", "inf", "1e999", "80 %", "1,5"]
)
def test_nonsense_is_refused_with_what_was_expected_and_found(text: str) -> None:
    with pytest.raises(InputError, match=r"threshold ok: expected a bound such as '>= 0\.8'") as raised:
        parse_threshold("ok", text)
    assert repr(text) in str(raised.value)


def test_true_is_no_bound() -> None:
    with pytest.raises(InputError, match="found True"):
        parse_threshold("ok", True)


@pytest.mark.parametrize("text", [">= 1", "> 0", "-1"])
def test_errors_can_only_be_bounded_from_above(text: str) -> None:
    with pytest.raises(InputError, match="expected the most errors allowed"):
        parse_threshold("errors", text)


def test_every_threshold_that_is_nonsense_has_a_line() -> None:
    with pytest.raises(InputError) as raised:
        parse_thresholds({"a": "high", "b": ">= 1", "c": "low"})
    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == ["threshold a", "threshold c"]


def test_means_are_held_against_bounds_in_the_order_of_the_thresholds() -> None:
    runs = [run(number, Score("ok", number < 8), Score("latency_s", 2.0 + number % 2)) for number in range(10)]
    found = checks(
        experiment({"latency_s": "2.4", "ok": ">= 0.8", "errors": "0"}, *runs, lower=frozenset({"latency_s"}))
    )
    assert [(check.threshold.key, check.met, check.observed) for check in found] == [
        ("latency_s", False, 2.5),
        ("ok", True, 0.8),
        ("errors", True, 0.0),
    ]
    assert found[0].sentence == "latency_s: 2.5, <= 2.4 is not met"
    assert found[1].sentence == "ok: 0.8, >= 0.8 is met"


def test_a_plain_number_is_the_least_where_more_is_better() -> None:
    assert [check.met for check in checks(experiment({"ok": "0.6"}, run(0, Score("ok", 0.5))))] == [False]
    assert [check.met for check in checks(experiment({"ok": "0.4"}, run(0, Score("ok", 0.5))))] == [True]


def test_rounding_does_not_decide() -> None:
    runs = [run(number, Score("grade", value)) for number, value in enumerate([0.1, 0.2, 0.3])]
    mean = (0.1 + 0.2 + 0.3) / 3
    assert mean != 0.2
    for sign, met in ((">=", True), ("<=", True), (">", False), ("<", False)):
        assert checks(experiment({"grade": f"{sign} 0.2"}, *runs))[0].met is met


def test_errors_count_failed_runs_and_failed_evaluators_of_runs_and_of_the_whole() -> None:
    failure = Failure("ok", "ValueError", "no")
    broken = ExampleRun(position=1, example=Example(1, "1", {}), status="timeout", error=RowError("RunTimeout", "late"))
    judged = replace(run(2), failures=(failure,))
    found = replace(experiment({"errors": "<= 2"}, run(0), broken, judged), summary_failures=(failure,))
    assert [(check.met, check.observed) for check in checks(found)] == [(False, 3.0)]
    assert checks(replace(found, thresholds={"errors": "3"}))[0].met


def test_a_threshold_on_a_metric_without_a_score_is_not_met_and_says_so() -> None:
    for scores in ((), (Score("ok", value="warm"),), (Score("ok", float("nan")),)):
        (check,) = checks(experiment({"ok": "<= 1"}, run(0, *scores)))
        assert (check.met, check.observed) == (False, None)
        assert check.sentence == "ok: <= 1 is not met, there is no score"


def test_a_threshold_on_a_name_that_no_score_has_names_the_scores_there_are() -> None:
    runs = [run(0, Score("exact", True), Score("quality", 0.5, node="write"))]
    near, far = checks(replace(experiment({"exat": ">= 0.8", "speed": "1"}, *runs), summary_scores=(Score("f1", 0.7),)))
    assert (near.met, near.observed) == (False, None)
    assert near.sentence == (
        "exat: >= 0.8 is not met, there is no score of this name: did you mean 'exact'? "
        "scores: exact, quality, write/quality, f1"
    )
    assert far.sentence.endswith("there is no score of this name: scores: exact, quality, write/quality, f1")
    (errors,) = checks(experiment({"error": "0"}, *runs))
    assert "did you mean 'errors'?" in errors.sentence


def test_a_threshold_on_a_score_whose_evaluator_failed_says_that() -> None:
    failed = replace(run(0, Score("exact", True)), failures=(Failure("quality", "ValueError", "no"),))
    (check,) = checks(experiment({"quality": "0.5"}, failed))
    assert check.sentence == "quality: >= 0.5 is not met, there is no score: its evaluator failed 1 time"


def test_a_summary_score_can_be_demanded_too() -> None:
    found = replace(experiment({"f1": ">= 0.7"}, run(0)), summary_scores=(Score("f1", 0.75),))
    assert [(check.met, check.observed) for check in checks(found)] == [(True, 0.75)]


def test_a_key_scored_on_several_nodes_is_demanded_of_each_or_of_one() -> None:
    runs = [run(0, Score("fit", 0.9, node="plan"), Score("fit", 0.2, node="write"))]
    assert [check.met for check in checks(experiment({"fit": "0.5"}, *runs))] == [True, False]
    (one,) = checks(experiment({"plan/fit": "0.5"}, *runs))
    assert (one.met, one.sentence) == (True, "plan/fit: 0.9, >= 0.5 is met")


def test_thresholds_are_not_shown_before_all_runs_have_ended() -> None:
    finished = experiment({"ok": ">= 0.8"}, run(0, Score("ok", False)))
    for status, shown in (("finished", True), ("paused", False), ("running", False)):
        found = replace(finished, status=status)
        terminal = io.StringIO()
        Console(file=terminal, width=200).print(experiment_page(found, metrics(found), totals(found), checks(found)))
        html = render_report(
            ReportInput(
                experiment=found,
                metrics=metrics(found),
                totals=totals(found),
                thresholds=[(check.sentence, check.met) for check in checks(found)],
                generated_at=0.0,
            )
        )
        as_json = experiment_json(found, metrics(found), totals(found), checks(found))
        for text in (terminal.getvalue(), html):
            assert ("is not met" in text) is shown
            assert ("plait show x" in text) is not shown
            assert ("thresholds are held against all runs, and not known yet" in text) is not shown
        assert bool(as_json["thresholds"]) is shown
