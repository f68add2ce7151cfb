"""Metrics of experiments and comparisons of two: what is found, what is not, what is refused, what is said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.datasets.examples import Example
from plait.errors import InputError
from plait.experiments.comparisons import compare
from plait.experiments.findings import Comparison, Metric, MetricComparison
from plait.experiments.metrics import metrics, node_totals, totals
from plait.experiments.records import (
    CallTrace,
    ExampleRun,
    Experiment,
    Failure,
    NodeTrace,
    Origin,
    Score,
)
from plait.store.rows import RowError

Value = bool | float | str | None


def example(number: int) -> Example:
    return Example(number, f"e{number}", {"question": number}, {"answer": number}, {"topic": number % 4})


def scored_run(number: int, scores: Sequence[Score], repetition: int = 0) -> ExampleRun:
    return ExampleRun(position=number, example=example(number), repetition=repetition, scores=tuple(scores))


def failed_run(number: int) -> ExampleRun:
    return ExampleRun(position=number, example=example(number), status="error", error=RowError("RunFailed", "no"))


def experiment(name: str, runs: Sequence[ExampleRun]) -> Experiment:
    return Experiment(
        id=f"{name}-id",
        name=name,
        definition="quality",
        workflow="story",
        place=str(Path(name)),
        status="finished",
        created_at=0.0,
        runs=tuple(runs),
    )


def of_values(name: str, **columns: Sequence[Value]) -> Experiment:
    """An experiment with an example a row; a text is a category, None no score."""
    rows = list(zip(*columns.values(), strict=True))
    return experiment(
        name,
        [
            scored_run(
                number,
                [
                    Score(key, value=value) if isinstance(value, str) else Score(key, value)
                    for key, value in zip(columns, row, strict=True)
                    if value is not None
                ],
            )
            for number, row in enumerate(rows)
        ],
    )


def only(found: Sequence[Metric] | Sequence[MetricComparison]) -> Metric | MetricComparison:
    assert len(found) == 1
    return found[0]


def the_metric(of: Experiment) -> Metric:
    found = only(metrics(of))
    assert isinstance(found, Metric)
    return found


def the_comparison(before: Experiment, after: Experiment) -> MetricComparison:
    found = only(compare(before, after).metrics)
    assert isinstance(found, MetricComparison)
    return found


# Metrics


def test_bools_are_a_share_with_wilsons_interval() -> None:
    found = the_metric(of_values("a", ok=[True] * 30 + [False] * 10))
    assert (found.kind, found.mean, found.examples, found.scores, found.unscored) == ("share", 0.75, 40, 40, 0)
    assert found.interval is not None
    assert found.interval.method == "Wilson"
    assert found.deviation == pytest.approx(math.sqrt(0.75 * 0.25 * 40 / 39))


def test_metrics_come_in_the_order_in_which_their_keys_first_occur_and_one_a_node() -> None:
    runs = [scored_run(0, [Score("b", 1.0), Score("a", True)]), scored_run(1, [Score("a", True, node="search")])]
    assert [(found.key, found.node) for found in metrics(experiment("x", runs))] == [
        ("b", None),
        ("a", None),
        ("a", "search"),
    ]


def test_runs_and_evaluators_that_failed_are_unscored_and_never_zero() -> None:
    judged = ExampleRun(position=1, example=example(1), failures=(Failure("ok", "ValueError", "no"),))
    found = the_metric(experiment("x", [scored_run(0, [Score("ok", 1.0)]), judged, failed_run(2)]))
    assert (found.mean, found.scores, found.unscored, found.examples) == (1.0, 1, 2, 1)
    assert found.interval is None
    assert found.note.startswith("one example")


def test_repetitions_of_an_example_are_averaged_first() -> None:
    rows = ((0, True), (0, True), (0, False), (1, False))
    runs = [scored_run(number, [Score("ok", passed)], turn) for turn, (number, passed) in enumerate(rows)]
    found = the_metric(experiment("x", runs))
    assert found.mean == pytest.approx((2 / 3 + 0) / 2)
    assert (found.examples, found.scores, found.kind) == (2, 4, "share")


def test_repeating_a_run_narrows_its_interval_no_more_than_examples_allow() -> None:
    """Repetitions that always agree tell nothing new: the interval stays that of the examples."""
    passed = [number % 4 > 0 for number in range(40)]
    once = the_metric(of_values("a", ok=passed)).interval
    runs = [scored_run(number, [Score("ok", ok)], turn) for number, ok in enumerate(passed) for turn in range(5)]
    often = the_metric(experiment("b", runs)).interval
    assert once is not None
    assert often is not None
    assert often.method == "cluster Wilson"
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.06)


def test_all_passing_repeated_runs_keep_an_interval() -> None:
    runs = [scored_run(number, [Score("ok", True)], turn) for number in range(10) for turn in range(3)]
    found = the_metric(experiment("x", runs)).interval
    assert found is not None
    assert 0.6 < found.low < 0.75
    assert found.high == 1


def test_clusters_of_examples_widen_the_interval_where_they_agree() -> None:
    alike = of_values("x", ok=[number % 4 > 0 for number in range(40)])
    plain, clustered = the_metric(alike).interval, the_metric(replace(alike, cluster="topic")).interval
    assert plain is not None
    assert clustered is not None
    assert clustered.method == "cluster Wilson"
    assert clustered.high - clustered.low > 2 * (plain.high - plain.low)


def test_a_cluster_that_no_example_has_changes_nothing() -> None:
    plain = of_values("x", ok=[number % 3 > 0 for number in range(40)])
    assert metrics(replace(plain, cluster="author")) == metrics(plain)


def test_categories_have_shares_and_no_mean() -> None:
    found = the_metric(of_values("x", tone=["warm", "cold", "warm", None]))
    assert (found.kind, found.mean, found.interval) == ("category", None, None)
    assert list(found.shares) == ["warm", "cold"]
    assert list(found.shares.values()) == pytest.approx([2 / 3, 1 / 3])
    assert found.unscored == 1


def test_a_key_of_bools_and_numbers_is_treated_as_numbers_and_says_so() -> None:
    found = the_metric(of_values("x", grade=[True, 0.5, False, 0.25]))
    assert (found.kind, found.mean) == ("mean", 0.4375)
    assert "some scores are bools and some numbers" in found.note


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
def test_a_score_that_is_no_usable_number_is_unscored_and_named(bad: float) -> None:
    found = the_metric(of_values("x", grade=[bad, 0.5, 0.25]))
    assert (found.scores, found.unscored, found.mean) == (2, 1, 0.375)
    assert found.note.startswith("1 not counted")
    nothing = the_metric(of_values("x", grade=[bad]))
    assert (nothing.mean, nothing.interval, nothing.examples) == (None, None, 0)


def test_equal_numbers_and_no_runs_at_all_say_what_cannot_be_said() -> None:
    found = the_metric(of_values("x", grade=[0.5] * 20))
    assert (found.mean, found.interval, found.deviation) == (0.5, None, 0.0)
    assert found.note.startswith("all scores are equal")
    assert metrics(experiment("x", [])) == ()
    assert totals(experiment("x", [])).mean_latency_s is None


# Totals


REPLAYED = {"replayed_calls": 1, "reused_calls": 1}


def call(cost_usd: float | None = 0.01, *, replayed: bool = False, failed: bool = False) -> CallTrace:
    told = CallTrace(model="m", began_s=0, duration_s=1, failed=failed, cost_usd=cost_usd)
    return replace(told, replayed=replayed, reused=replayed)


def traced_run(number: int, nodes: Sequence[NodeTrace], **usage: object) -> ExampleRun:
    return ExampleRun(
        position=number,
        example=example(number),
        duration_s=number + 1.0,
        usage={"calls": 1, "replayed_calls": 0, "input_tokens": 10, "cost_usd": 0.01, **usage},
        judge_usage={"calls": 2, "input_tokens": 5, "cost_usd": 0.001},
        nodes=tuple(nodes),
    )


def node(name: str, branch: str, *calls: CallTrace, duration_s: float = 1.0, error: str | None = None) -> NodeTrace:
    return NodeTrace(name=name, branch=branch, began_s=0, duration_s=duration_s, calls=calls, error=error)


def test_totals_tell_what_was_paid_from_what_it_would_cost_unreplayed() -> None:
    paid = traced_run(0, [node("plan", "plan@1", call())])
    replayed = traced_run(1, [node("plan", "plan@1", call(replayed=True))], calls=0, **REPLAYED, cost_usd=0.0)
    found = totals(experiment("x", [paid, replayed, failed_run(2)]))
    assert (found.runs, found.paid_calls, found.replayed_calls, found.judge_calls) == (3, 1, 1, 4)
    assert (found.input_tokens, found.errors) == (30, {"RunFailed": 1})
    assert found.cost_usd == pytest.approx(0.012)
    assert found.judge_cost_usd == pytest.approx(0.002)
    assert found.whole_cost_usd == pytest.approx(0.02)
    assert found.mean_latency_s == 1.0


def test_a_model_without_a_price_leaves_costs_unknown_and_a_failed_call_does_not() -> None:
    unknown = totals(experiment("x", [traced_run(0, [node("plan", "plan@1", call(None))], cost_usd=None)]))
    assert (unknown.cost_usd, unknown.whole_cost_usd, unknown.judge_cost_usd) == (None, None, 0.001)
    failed = totals(experiment("x", [traced_run(0, [node("plan", "plan@1", call(None, failed=True), call())])]))
    assert failed.whole_cost_usd == 0.01


def test_the_latency_of_a_node_leaves_out_executions_with_replayed_calls_inside() -> None:
    nested = [
        node("research", "research@1", duration_s=0.1),
        node("research/search", "research@1/search@1", call(replayed=True), duration_s=0.1),
        node("write", "write@2", call(), duration_s=5.0),
        node("write", "write@3", call(), duration_s=9.0, error="ValueError"),
    ]
    found = node_totals(experiment("x", [traced_run(0, nested)]))
    assert list(found) == ["research", "research/search", "write"]
    assert found["research"].mean_latency_s is None
    assert (found["research/search"].replayed_calls, found["research/search"].cost_usd) == (1, 0.01)
    assert (found["write"].executions, found["write"].errors, found["write"].mean_latency_s) == (2, 1, 5.0)


# What a comparison finds


def test_a_planted_improvement_is_found_and_said_with_figures() -> None:
    before = of_values("before", ok=[True] * 25 + [False] * 15)
    after = of_values("after", ok=[True] * 23 + [False] * 2 + [True] * 13 + [False] * 2)
    found = the_comparison(before, after)
    assert found.verdict == "better"
    assert (found.wins, found.losses, found.ties, found.test) == (13, 2, 25, "exact McNemar")
    assert found.sentence.startswith("ok is better: 0.62 -> 0.90 (+0.28, 95 % interval +0.")
    assert found.sentence.endswith("p = 0.007); 13 of 40 examples gained, 2 lost")
    assert compare(before, after).verdict.startswith("after is better in ok (+0.28) than before.")


def test_where_less_is_better_a_fall_is_a_win() -> None:
    numbers = list(np.random.default_rng(1).normal(3, 0.5, size=40))
    before = replace(of_values("before", latency_s=numbers), lower_is_better=frozenset({"latency_s"}))
    after = of_values("after", latency_s=[number - 0.5 + 0.01 * (turn % 7) for turn, number in enumerate(numbers)])
    found = the_comparison(before, replace(after, lower_is_better=before.lower_is_better))
    assert (found.verdict, found.wins, found.losses) == ("better", 40, 0)
    assert found.after.lower_is_better
    assert found.difference is not None
    assert found.difference < 0
    assert found.sentence.startswith("latency_s is better (less is better): ")
    assert the_comparison(replace(after, lower_is_better=before.lower_is_better), before).verdict == "worse"


def test_what_cannot_be_told_says_what_would_have_shown() -> None:
    before = of_values("before", ok=[number % 2 == 0 for number in range(40)])
    after = of_values("after", ok=[number % 2 == 0 or number == 1 for number in range(40)])
    found = the_comparison(before, after)
    assert found.verdict == "cannot tell"
    assert found.sentence.startswith("ok: cannot tell, 0.50 -> 0.53 (+0.03, 95 % interval ")
    assert found.sentence.endswith("with 40 examples a difference of 0.07 or more would show")
    assert compare(before, after).verdict.startswith("Cannot tell whether after is better than before")


def test_a_large_difference_over_too_few_pairs_is_not_called_too_small_to_show() -> None:
    found = compare(of_values("before", ok=[False] * 5), of_values("after", ok=[True] * 5))
    assert found.metrics[0].verdict == "cannot tell"
    assert found.metrics[0].sentence.endswith("p = 0.062); 5 of 5 examples gained, 0 lost")
    assert "ok: 5 examples differ: with fewer than 6 no such test can give p < 0.05" in found.notes


def test_differences_of_repeated_bools_stay_within_their_bounds() -> None:
    passed = {"before": [0, 0, 0, 0, 1], "after": [3, 3, 3, 2, 3]}
    before, after = (
        experiment(
            name,
            [
                scored_run(number, [Score("ok", turn < count)], turn)
                for number, count in enumerate(counts)
                for turn in range(3)
            ],
        )
        for name, counts in passed.items()
    )
    found = the_comparison(before, after)
    assert found.interval is not None
    assert (found.test, found.interval.high, found.pairs) == ("paired t", 1.0, 5)


def test_equal_pairs_are_no_difference_and_do_not_count_in_the_correction() -> None:
    numbers = list(np.random.default_rng(5).normal(size=40))
    before = of_values("before", same=[0.5] * 40, moved=numbers)
    after = of_values("after", same=[0.5] * 40, moved=[number + 1 + 0.1 * (number > 0) for number in numbers])
    same, moved = compare(before, after).metrics
    assert (same.verdict, same.p, same.ties) == ("no difference", None, 40)
    assert same.sentence == "same: no difference, all 40 pairs are equal (mean 0.50)"
    assert moved.p_adjusted == moved.p
    assert moved.verdict == "better"


def test_several_metrics_are_corrected_by_holm() -> None:
    rng = np.random.default_rng(3)
    before = of_values("before", a=list(rng.normal(size=40)), b=list(rng.normal(size=40)))
    after = of_values("after", a=list(rng.normal(0.5, 1, size=40)), b=list(rng.normal(size=40)))
    found = compare(before, after).metrics
    assert all(metric.p is not None for metric in found)
    low, high = sorted(found, key=lambda metric: metric.p or 0.0)
    assert low.p is not None
    assert high.p is not None
    assert low.p_adjusted == pytest.approx(min(1.0, 2 * low.p))
    assert high.p_adjusted == pytest.approx(max(2 * low.p, high.p))
    assert "corrected for 2 metrics" in low.sentence


def test_changes_stand_with_the_largest_first() -> None:
    found = the_comparison(of_values("a", grade=[0.0, 0.0, 0.0]), of_values("b", grade=[0.1, 0.0, -0.9]))
    assert [(change.example_id, change.after) for change in found.changes] == [("e2", -0.9), ("e0", 0.1)]


def test_a_pair_without_a_score_on_one_side_is_left_out_and_counted() -> None:
    before = of_values("before", ok=[True] * 10)
    after = experiment("after", [*of_values("x", ok=[True] * 9).runs, failed_run(9)])
    found = compare(before, after)
    assert found.metrics[0].pairs == 9
    lacking = "ok: 1 of 10 examples lack this score on one side or both and are left out"
    assert f"{lacking}; before and after are of the other 9" in found.notes
    assert "after: 1 RunFailed of 10 runs failed; they count in no score" in found.notes


def test_categories_are_counted_and_not_tested() -> None:
    found = compare(
        of_values("a", tone=["warm", "cold", "warm"], ok=[1.0, 2.0, 4.0]),
        of_values("b", tone=["warm", "warm", "warm"], ok=[2.0, 2.5, 4.1]),
    )
    tone, ok = found.metrics
    assert (tone.p, tone.difference, tone.ties, tone.verdict) == (None, None, 2, "cannot tell")
    assert "1 of 3 examples changed their category" in tone.sentence
    assert ok.p_adjusted == ok.p


def test_clusters_are_kept_together_in_the_test() -> None:
    rng = np.random.default_rng(2)
    before = replace(of_values("a", grade=list(rng.normal(size=40))), cluster="topic")
    after = replace(of_values("b", grade=list(rng.normal(3, 1, size=40))), cluster="topic")
    found = compare(before, after)
    assert compare(before, replace(after, cluster=None)).metrics[0].test == "cluster permutation"
    assert found.metrics[0].test == "cluster permutation"
    assert found.metrics[0].p == 2 / 2**4
    assert any("4 clusters differ: with fewer than 6 no such test can give p < 0.05" in note for note in found.notes)


def test_nodes_stand_side_by_side_with_what_is_scored_on_them() -> None:
    run = replace(traced_run(0, [node("plan", "plan@1", call())]), scores=(Score("fit", True, node="plan"),))
    other = replace(traced_run(0, [node("plan", "plan@1", call(0.03)), node("write", "write@2")]), scores=run.scores)
    found = compare(experiment("a", [run]), experiment("b", [other]))
    assert [(one.name, one.metrics, one.before.cost_usd, one.after.cost_usd) for one in found.nodes] == [
        ("plan", ("fit",), 0.01, 0.03),
        ("write", (), None, 0.0),
    ]
    assert found.nodes[1].before.executions == 0
    assert "A run of the workflow costs $0.030 instead of $0.010 (+200.0 %)." in found.verdict


# What could not be compared


def failing(name: str, runs: Sequence[ExampleRun], numbers: Sequence[int]) -> Experiment:
    """With these runs failed."""
    return experiment(
        name,
        [
            replace(run, status="error", outputs=None, scores=(), error=RowError("RunFailed", "no"))
            if run.position in numbers
            else run
            for run in runs
        ],
    )


def unjudged(name: str, runs: Sequence[ExampleRun], key: str, numbers: Sequence[int]) -> Experiment:
    """With this evaluator failed on these runs."""
    return experiment(
        name,
        [
            replace(
                run,
                scores=tuple(score for score in run.scores if score.key != key),
                failures=(Failure(key, "ValueError", "no"),),
            )
            if run.position in numbers
            else run
            for run in runs
        ],
    )


def priced(cost_usd: float) -> list[ExampleRun]:
    return [
        replace(traced_run(number, [node("plan", "plan@1", call(cost_usd))]), scores=(Score("ok", number % 2 == 0),))
        for number in range(12)
    ]


def test_a_comparison_of_which_most_runs_failed_says_so_first_and_claims_nothing_else() -> None:
    before, after = experiment("before", priced(0.02)), failing("after", priced(0.01), range(1, 12))
    found = compare(before, after)
    assert found.verdict.startswith(
        "11 of 12 examples could not be compared: after failed on 11. Cannot tell whether after is better than before: "
        "ok has too few pairs to say."
    )
    assert "no difference" not in found.verdict.lower()
    assert "A run of the workflow" not in found.verdict
    assert found.lost == ("11 of 12 examples could not be compared: after failed on 11",)
    (metric,) = found.metrics
    assert (metric.pairs, metric.before.mean, metric.after.mean, metric.difference) == (1, 1.0, 1.0, 0.0)
    assert (metric.before.examples, metric.before.scores, metric.after.unscored) == (1, 1, 11)
    assert metric.sentence == "ok: cannot tell, its one pair is equal, too few to say (mean 1.00)"
    left_out = "ok: 11 of 12 examples lack this score on one side or both and are left out"
    assert f"{left_out}; before and after are of the other 1" in found.notes


def test_what_a_run_costs_is_of_the_examples_that_succeeded_in_both() -> None:
    cheap_failures = [
        replace(run, nodes=(node("plan", "plan@1", call(0.0001)),)) if run.position > 7 else run for run in priced(0.02)
    ]
    found = compare(experiment("before", priced(0.02)), failing("after", cheap_failures, range(8, 12)))
    assert "costs the same, $0.020, over the 8 examples that succeeded in both." in found.verdict
    nothing = compare(experiment("before", priced(0.02)), failing("after", cheap_failures, range(12)))
    assert "A run of the workflow" not in nothing.verdict


def test_pairs_lost_on_the_other_side_are_told_and_nothing_is_lost_after() -> None:
    found = compare(failing("before", priced(0.02), (0, 1)), failing("after", priced(0.02), (1,)))
    assert found.verdict.startswith(
        "2 of 12 examples could not be compared: after failed on 1 and before failed on 2. "
        "What could be compared is equal in every pair."
    )
    assert found.lost == ()


def test_a_clear_verdict_over_what_is_left_is_said_to_be_of_the_rest() -> None:
    before = of_values("before", ok=[True] * 25 + [False] * 15)
    after = failing("after", of_values("x", ok=[True] * 38 + [False] * 2).runs, (39,))
    verdict = compare(before, after).verdict
    assert verdict.startswith("1 of 40 examples could not be compared: after failed on 1. Of the rest: after is better")


def test_an_evaluator_that_failed_on_some_runs_lost_their_pairs() -> None:
    columns: dict[str, Sequence[Value]] = {"ok": [True, False] * 6, "fit": [0.5] * 12}
    found = compare(of_values("before", **columns), unjudged("after", of_values("x", **columns).runs, "fit", range(5)))
    assert found.lost == ("fit: its evaluator failed in after on 5 of 12 examples that before has",)
    assert found.verdict.startswith(f"{found.lost[0]}. What could be compared is equal in every pair.")
    back = compare(unjudged("after", of_values("x", **columns).runs, "fit", range(5)), of_values("before", **columns))
    assert back.lost == ()
    assert back.verdict.startswith("fit: its evaluator failed in after on 5 of 12 examples that before has.")


def test_a_metric_that_is_gone_altogether_is_lost_with_why() -> None:
    before = of_values("before", ok=[True] * 12, fit=[0.5] * 12)
    broken = compare(before, unjudged("after", of_values("x", ok=[True] * 12, fit=[0.5] * 12).runs, "fit", range(12)))
    why = "its evaluator failed in after on 12 of 12 examples that before has"
    assert broken.lost == (f"fit is in before only: {why}",)
    removed = compare(before, of_values("after", ok=[True] * 12))
    assert removed.lost == ("fit is in before only: no evaluator of after gave this score",)
    assert removed.verdict.startswith("fit is in before only: no evaluator of after gave this score. What could be")
    assert compare(of_values("after", ok=[True] * 12), before).lost == ()


def test_scores_that_an_evaluator_does_not_give_are_not_lost() -> None:
    before = of_values("before", ok=[True] * 12, latency_s=[1.5] * 12)
    before = replace(before, lower_is_better=frozenset({"latency_s"}))
    partly = of_values("after", ok=[True] * 12, latency_s=[1.5] * 8 + [None] * 4)
    assert compare(before, partly).lost == ()
    runs = [replace(run, usage=REPLAYED) for run in of_values("x", ok=[True] * 12).runs]
    assert compare(before, experiment("after", runs)).lost == ()


def test_failed_repetitions_are_told_where_their_examples_are_still_compared() -> None:
    runs = [scored_run(number, [Score("ok", True)], turn) for number in range(8) for turn in range(2)]
    after = experiment("after", [failed_run(0), *runs[1:]])
    found = compare(experiment("before", runs), after)
    assert found.verdict.startswith("1 of 16 runs of after failed and count in no score. What could be compared is")
    assert found.lost == ()


def test_scores_of_no_example_in_both_stand_with_no_figure() -> None:
    found = compare(of_values("a", ok=[True, None]), of_values("b", ok=[None, False]))
    assert [(side.mean, side.examples) for side in (found.metrics[0].before, found.metrics[0].after)] == [(None, 0)] * 2
    assert "ok has too few pairs to say" in found.verdict


@pytest.mark.parametrize(("pairs", "verdict"), [(1, "cannot tell"), (5, "cannot tell"), (6, "no difference")])
def test_few_equal_pairs_do_not_say_that_nothing_differs(pairs: int, verdict: str) -> None:
    for values in ([0.5] * pairs, [True] * pairs, ["warm"] * pairs):
        found = compare(of_values("a", key=values), of_values("b", key=values))
        assert found.metrics[0].verdict == verdict
        assert found.verdict.startswith("No difference") is (verdict == "no difference")
    said = the_comparison(of_values("a", ok=[True] * 3), of_values("b", ok=[True] * 3)).sentence
    assert said == "ok: cannot tell, all 3 pairs are equal, too few to say (mean 1.00)"


# What it refuses, and what else it says


def test_other_datasets_are_refused_with_the_difference() -> None:
    before, after = of_values("before", ok=[True] * 8), of_values("after", ok=[True] * 15)
    changed = replace(after.runs[2], example=replace(after.runs[2].example, inputs={"question": "other"}))
    after = replace(after, runs=(*after.runs[1:2], changed, *after.runs[3:]), status="paused")
    with pytest.raises(InputError) as raised:
        compare(before, after)
    message = str(raised.value)
    assert "1 only in before (e0); 7 only in after (e8, e9, e10, e11, e12, ...)" in message
    assert "1 with other inputs or reference outputs (e2)" in message
    assert "after is paused" in message
    assert "compare the 6 that are equal in both with --intersect" in message
    found = compare(before, after, intersect=True)
    assert (found.examples, found.metrics[0].pairs) == (6, 6)
    assert found.only_before == ("e0", "e2")
    assert found.only_after[:2] == ("e2", "e8")


def test_inputs_that_hold_nan_are_the_same_inputs() -> None:
    before, after = (
        experiment(
            name, [replace(scored_run(0, [Score("ok", True)]), example=Example(0, "e0", {"weight": float("nan")}))]
        )
        for name in ("before", "after")
    )
    assert compare(before, after).examples == 1


def test_nothing_in_common_is_refused_even_with_intersect() -> None:
    before, after = of_values("before", ok=[True]), experiment("after", [scored_run(5, [Score("ok", True)])])
    with pytest.raises(InputError, match="none is in both"):
        compare(before, after, intersect=True)


def test_notes_name_all_else_that_differs() -> None:
    before = replace(
        of_values("before", ok=[True, False], tone=[1.0, 2.0]),
        origin=Origin(commit="a" * 40, model="one", context={"prompt": "x", "style": 1}, workflow_digest="1"),
        summary_scores=(Score("f1", 0.5),),
    )
    after = replace(
        of_values("after", ok=[True, True], length=[1.0, 2.0]),
        repetitions=2,
        origin=Origin(
            commit="b" * 40,
            dirty=True,
            model="two",
            context={"prompt": "y", "style": 1},
            workflow_digest="2",
            versions={"langchain": "1.5"},
        ),
        summary_scores=(Score("f1", 0.75),),
    )
    notes = compare(before, after).notes
    for expected in (
        "other model: one before, two after",
        "other context: prompt",
        "other code or graph of the workflow (commit aaaaaaaa before, bbbbbbbb after)",
        "after was run with changes that are in no commit",
        "other repetitions: 1 before, 2 after",
        "other versions: langchain none -> 1.5",
        "only before was scored by tone",
        "only after was scored by length",
        "f1 over all examples: 0.5 before, 0.75 after (one figure an experiment, so there is no test)",
    ):
        assert expected in notes


def test_replayed_draws_are_said_to_be_shared() -> None:
    before = experiment("before", [traced_run(0, [])])
    after = replace(
        experiment("after", [traced_run(0, [], calls=1, replayed_calls=2, reused_calls=2)]), reused="before"
    )
    found = compare(before, after)
    assert found.shared_draws
    assert found.notes[0].startswith("2 of 5 calls of after were replayed from before: upstream draws are the same")
    assert "3 calls paid, 2 replayed" in found.verdict
    assert not compare(after, experiment("x", [traced_run(0, [])])).shared_draws


def test_experiments_without_a_score_in_common_have_nothing_to_compare() -> None:
    found = compare(of_values("a", ok=[True]), of_values("b", tone=[True]))
    assert found.metrics == ()
    assert "Nothing to compare: a and b have no score in common." in found.verdict


def test_one_example_gives_a_difference_and_no_verdict() -> None:
    found = the_comparison(of_values("a", grade=[0.25]), of_values("b", grade=[0.75]))
    assert (found.difference, found.p, found.interval, found.verdict) == (0.5, None, None, "cannot tell")
    assert found.sentence == "grade: cannot tell, 0.25 -> 0.75 (+0.50); 1 of 1 example better, 0 worse"


cell = st.one_of(st.none(), st.booleans(), st.floats(), st.sampled_from(["warm", "cold"]))


def numbers_of(found: Comparison) -> list[float | None]:
    numbers: list[float | None] = []
    for metric in found.metrics:
        numbers += [metric.difference, metric.p, metric.p_adjusted, metric.effect, metric.detectable]
        for interval in (metric.interval, metric.before.interval, metric.after.interval):
            numbers += [interval.low, interval.high] if interval else []
        numbers += [metric.before.mean, metric.after.mean, metric.before.deviation]
    return numbers


@settings(deadline=None)
@given(st.lists(st.tuples(cell, cell), min_size=1, max_size=15), st.booleans())
def test_any_scores_compare_without_nan_and_turn_around(rows: list[tuple[Value, Value]], clustered: bool) -> None:
    cluster = "topic" if clustered else None
    before = replace(of_values("a", key=[row[0] for row in rows]), cluster=cluster)
    after = replace(of_values("b", key=[row[1] for row in rows]), cluster=cluster)
    found, back = compare(before, after), compare(after, before)
    assert all(number is None or math.isfinite(number) for number in numbers_of(found))
    for one, other in zip(found.metrics, back.metrics, strict=True):
        assert (one.p, one.wins, one.ties) == (other.p, other.losses, other.ties)
        assert one.wins + one.losses + one.ties <= one.pairs
        opposite = {"better": "worse", "worse": "better"}
        assert other.verdict == opposite.get(one.verdict, one.verdict)
        assert "nan" not in one.sentence


# Over many experiments


def drawn(name: str, rng: np.random.Generator, skill: np.ndarray, step: float = 0.0) -> Experiment:
    """40 examples that differ in difficulty, scored by two bools and two numbers, one of them skewed."""
    runs = []
    passed = rng.random((40, 2)) < np.clip(skill + step, 0, 1)[:, None]
    grades = np.clip(skill + step + rng.normal(0, 0.15, size=40), 0, 1)
    latencies = rng.lognormal(0, 0.8, size=40)
    for number in range(40):
        scores = (
            Score("ok", bool(passed[number, 0])),
            Score("fits", bool(passed[number, 1])),
            Score("grade", float(grades[number])),
            Score("latency_s", float(latencies[number])),
        )
        runs.append(scored_run(number, scores))
    return experiment(name, runs)


def test_planted_nulls_are_taken_for_a_difference_in_at_most_six_of_a_hundred() -> None:
    rng = np.random.default_rng(2026)
    wrong = 0
    for _ in range(1000):
        skill = rng.beta(2, 1.5, size=40)
        found = compare(drawn("before", rng, skill), drawn("after", rng, skill))
        assert len(found.metrics) == 4
        wrong += any(metric.verdict in ("better", "worse") for metric in found.metrics)
    assert wrong <= 60
    assert wrong >= 5  # a test that never rejects would pass the line above


def test_planted_improvements_are_found() -> None:
    rng = np.random.default_rng(6)
    found = 0
    for _ in range(40):
        skill = rng.beta(2, 2, size=40) * 0.6
        comparison = compare(drawn("before", rng, skill), drawn("after", rng, skill, step=0.35))
        verdicts = {metric.key: metric.verdict for metric in comparison.metrics}
        assert "worse" not in (verdicts["ok"], verdicts["fits"], verdicts["grade"])
        assert verdicts["grade"] == "better"
        found += verdicts["ok"] == "better"
    assert found >= 28
