"""The statistics of experiments against scipy, published figures, simulation, and whatever numbers there are."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from plait.experiments.statistics.corrections import holm
from plait.experiments.statistics.differences import PairedDifference, newcombe, paired_bools, paired_numbers, paired_t
from plait.experiments.statistics.distributions import t_quantile
from plait.experiments.statistics.effects import cohens_d, detectable_by_error, detectable_difference, odds_ratio
from plait.experiments.statistics.means import (
    as_numbers,
    bootstrap_interval,
    cluster_error,
    cluster_interval,
    deviation,
    is_skewed,
    mean_interval,
    skewness,
    t_interval,
)
from plait.experiments.statistics.permutations import mcnemar, sign_flip
from plait.experiments.statistics.proportions import effective_number, effective_wilson, wilson

SIZES = (30, 50, 100, 200)
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)

Floats = npt.NDArray[np.float64]
finite = st.floats(min_value=-1e150, max_value=1e150, allow_nan=False)


def array(*values: float) -> Floats:
    return np.array(values, dtype=np.float64)


# Proportions


@pytest.mark.parametrize("n", SIZES)
def test_wilson_agrees_with_scipy(n: int) -> None:
    for successes in range(n + 1):
        found = wilson(successes, n)
        expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
        assert found is not None
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_gives_the_bounds_that_newcombe_published() -> None:
    """Two-Sided Confidence Intervals for the Single Proportion (1998), table I, method 3."""
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (successes, n), bounds in published.items():
        found = wilson(successes, n)
        assert found is not None
        assert (found.low, found.high) == pytest.approx(bounds, abs=6e-5)


def test_wilson_covers_what_it_says_over_a_neighbourhood_of_each_share() -> None:
    for n in SIZES:
        successes = np.arange(n + 1)
        bounds = [wilson(int(k), n) for k in successes]
        low = np.array([bound.low for bound in bounds if bound])
        high = np.array([bound.high for bound in bounds if bound])
        for share in SHARES:
            near = np.linspace(share - 0.05, share + 0.05, 41)[:, None]
            covered = (stats.binom.pmf(successes, n, near) * ((low <= near) & (near <= high))).sum(axis=1)
            assert 0.93 <= covered.mean() <= 0.97, (n, share)
            at = (stats.binom.pmf(successes, n, share) * ((low <= share) & (share <= high))).sum()
            # The docstring says 93.0 at worst: single points swing, their neighbourhoods do not.
            assert 0.9295 <= at <= 0.975, (n, share)


def test_the_interval_of_no_proportion_is_none_and_impossible_counts_are_refused() -> None:
    assert wilson(0, 0) is None
    with pytest.raises(ValueError, match="found 3 of 2"):
        wilson(3, 2)


def test_the_interval_of_repeated_bools_covers_what_it_says() -> None:
    """40 examples with shares of their own, 5 runs each: pooled as 200 bools it would cover far less."""
    rng = np.random.default_rng(5)
    kept = pooled = 0
    for _ in range(1500):
        shares = rng.beta(1.2, 0.8, size=40)
        means = rng.binomial(5, shares) / 5
        mean = float(means.mean())
        found = effective_wilson(mean, float(means.std(ddof=1)) / math.sqrt(40), scores=200, units=40)
        naive = wilson(means.sum() * 5, 200)
        assert found is not None
        assert naive is not None
        kept += found.low <= 0.6 <= found.high
        pooled += naive.low <= 0.6 <= naive.high
    assert 0.93 <= kept / 1500 <= 0.97
    assert pooled / 1500 < 0.85


def test_the_effective_number_is_that_of_clusters_when_scores_cannot_tell() -> None:
    assert effective_number(1.0, 0.0, 200, 40) == 40
    assert effective_number(0.5, 0.01, 200, 40) == 200
    assert effective_number(0.5, 0.05, 200, 40) == pytest.approx(100)
    assert effective_wilson(0.5, 0.1, scores=5, units=1) is None


def test_few_clusters_leave_a_share_as_uncertain_as_t_says() -> None:
    found, plain = effective_wilson(0.5, 0.1, scores=25, units=3), wilson(12.5, 25)
    assert found is not None
    assert plain is not None
    quantile = stats.t.ppf(0.975, 2)
    assert found.high - found.low == pytest.approx(quantile / math.sqrt(25 + quantile**2))
    assert found.high - found.low > 1.7 * (plain.high - plain.low)


# Means


@pytest.mark.parametrize("n", [2, 3, 10, 40])
def test_the_t_interval_agrees_with_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(3, 2, size=n)
    found = t_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_quantiles_of_t_agree_with_scipy() -> None:
    assert t_quantile(0.975, 39) == pytest.approx(stats.t.ppf(0.975, 39))


def test_skewness_agrees_with_scipy_and_decides_by_cochrans_rule() -> None:
    values = np.random.default_rng(1).lognormal(0, 1, size=30)
    assert skewness(values) == pytest.approx(float(stats.skew(values)))
    assert is_skewed(values)
    assert not is_skewed(values[:9])
    assert not is_skewed(np.random.default_rng(2).normal(size=30))
    assert not is_skewed(np.random.default_rng(1).exponential(size=5000))


@pytest.mark.parametrize("n", SIZES)
def test_the_t_interval_of_normal_numbers_covers_what_it_says(n: int) -> None:
    values = np.random.default_rng(n).normal(1, 3, size=(4000, n))
    half = t_quantile(0.975, n - 1) * values.std(axis=1, ddof=1) / n**0.5
    one = t_interval(values[0])
    assert one is not None
    assert one.high - one.low == pytest.approx(2 * half[0])
    assert 0.94 <= (np.abs(values.mean(axis=1) - 1) <= half).mean() <= 0.96


def test_the_interval_chosen_for_skewed_numbers_covers_more_than_t() -> None:
    rng = np.random.default_rng(7)
    chosen = plain = 0
    for _ in range(600):
        values = rng.lognormal(0, 1, size=20)
        found, by_t = mean_interval(values), t_interval(values)
        assert found is not None
        assert by_t is not None
        chosen += found.low <= math.exp(0.5) <= found.high
        plain += by_t.low <= math.exp(0.5) <= by_t.high
    assert chosen / 600 >= 0.89
    assert chosen > plain + 10


def test_the_bootstrap_gives_the_same_interval_again() -> None:
    values = np.random.default_rng(3).lognormal(0, 1, size=40)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    chosen = mean_interval(values)
    assert chosen is not None
    assert chosen.method == "bootstrap"


def test_numbers_of_which_half_are_one_value_are_left_to_t() -> None:
    values = array(*[1.0] * 30, *np.random.default_rng(1).uniform(0, 1, size=6))
    assert is_skewed(values)
    found = mean_interval(values)
    assert found is not None
    assert found.method == "t"


def test_the_clustered_error_is_that_of_a_worked_example() -> None:
    """Clusters (1, 2), (3, 5), (4): mean 3, sums of residuals -3, 2, 1; sqrt(3/2 * 14) / 5."""
    error, clusters = cluster_error(array(1, 2, 3, 5, 4), ["a", "a", "b", "b", "c"])
    assert clusters == 3
    assert error == pytest.approx(math.sqrt(1.5 * 14) / 5)


def test_the_clustered_error_of_single_values_is_the_usual_one() -> None:
    values = np.random.default_rng(2).normal(size=25)
    error, clusters = cluster_error(values, list(range(25)))
    assert clusters == 25
    assert error == pytest.approx(float(stats.sem(values)))


def test_the_cluster_interval_covers_where_the_plain_one_does_not() -> None:
    rng = np.random.default_rng(11)
    groups = [cluster for cluster in range(30) for _ in range(5)]
    kept = plain = 0
    for _ in range(1000):
        values = np.repeat(rng.normal(size=30), 5) + rng.normal(size=150)
        found, usual = mean_interval(values, groups), t_interval(values)
        assert found is not None
        assert found.method == "cluster t"
        assert usual is not None
        kept += found.low <= 0 <= found.high
        plain += usual.low <= 0 <= usual.high
    assert 0.93 <= kept / 1000 <= 0.97
    assert plain / 1000 < 0.8


def test_a_cluster_for_each_value_is_demanded() -> None:
    with pytest.raises(ValueError, match="a cluster for each of 2 values, found 1"):
        cluster_error(array(1, 2), ["a"])


# Tests of pairs


def test_mcnemar_agrees_with_the_binomial_test_of_scipy() -> None:
    for gained in range(12):
        for lost in range(12 - gained):
            if gained + lost:
                assert mcnemar(gained, lost) == pytest.approx(stats.binomtest(gained, gained + lost, 0.5).pvalue)
    assert mcnemar(0, 0) == 1


def test_mcnemar_gives_the_published_p() -> None:
    """M. W. Fagerland, S. Lydersen, P. Laake, The McNemar Test for Binary Matched-Pairs Data (2013), two examples."""
    assert mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar(6, 16) == pytest.approx(0.0525, abs=5e-5)


def test_newcombe_gives_the_published_bounds() -> None:
    """M. W. Fagerland, S. Lydersen, P. Laake, Statistical Analysis of Contingency Tables (2017), chapter 8."""
    found = newcombe(59, 6, 16, 80)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((-0.1186, -0.0046), abs=5e-5)


def newcombe_tables(counts: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    found, which = np.unique(counts, axis=0, return_inverse=True)
    bounds = [newcombe(*map(int, table)) for table in found]
    low = np.array([bound.low for bound in bounds if bound])
    high = np.array([bound.high for bound in bounds if bound])
    return low[which.ravel()], high[which.ravel()]


def test_the_paired_interval_of_bools_covers_what_it_says() -> None:
    rng = np.random.default_rng(13)
    for n in SIZES:
        for share in SHARES:
            shown: list[float] = []
            for correlation, step in ((0.0, 0.0), (0.0, 0.1), (0.3, 0.0), (0.3, 0.1)):
                other = share - step if share > 0.5 else share + step
                both = share * other + correlation * math.sqrt(share * (1 - share) * other * (1 - other))
                cells = [both, other - both, share - both, 1 - share - other + both]
                counts = rng.multinomial(n, cells, size=1500)
                low, high = newcombe_tables(counts)
                truth = other - share
                covered = float(((low <= truth + 1e-12) & (truth - 1e-12 <= high)).mean())
                assert covered >= 0.93, (n, share, correlation, step)
                shown.append(covered)
            # The docstring says that it covers more where hardly any pair differs.
            assert np.mean(shown) <= (0.97 if n * share * (1 - share) > 5 else 0.985), (n, share)


@pytest.mark.parametrize("n", SIZES)
def test_the_paired_interval_of_numbers_covers_what_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    kept = 0
    for _ in range(1000):
        before = rng.normal(0.5, 0.2, size=n)
        found = paired_numbers(list(before), list(before + rng.normal(0.05, 0.1, size=n))).interval
        assert found is not None
        kept += found.low <= 0.05 <= found.high
    assert 0.93 <= kept / 1000 <= 0.97


def test_paired_t_agrees_with_scipy() -> None:
    rng = np.random.default_rng(4)
    before, after = rng.normal(size=20), rng.normal(0.3, 1, size=20)
    found = paired_numbers(list(before), list(after))
    expected = stats.ttest_rel(after, before)
    assert found.test == "paired t"
    assert found.p == pytest.approx(expected.pvalue)
    assert paired_t(after - before) == pytest.approx(expected.pvalue)
    assert found.interval is not None
    interval = expected.confidence_interval()
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("n", [2, 7, 14])
def test_the_exact_sign_flip_agrees_with_scipy(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.4, 1, size=n)
    expected = stats.permutation_test(
        (differences, np.zeros(n)), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=10**6
    )
    assert sign_flip(differences) == pytest.approx(expected.pvalue)


def test_the_drawn_sign_flip_is_near_the_exact_one_and_never_zero() -> None:
    small = np.random.default_rng(9).normal(0.5, 1, size=14)
    drawn = sign_flip(np.concatenate([small, np.full(6, 1e-9)]))
    assert drawn == pytest.approx(sign_flip(small), abs=0.01)
    assert sign_flip(np.ones(1)) == 1
    assert sign_flip(np.ones(100)) == pytest.approx(1 / 10_001)


def test_sums_that_are_equal_but_for_rounding_count_as_equal() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        whole = rng.integers(-5, 6, size=9).astype(np.float64)
        assert sign_flip(whole / 10) == sign_flip(whole)


def test_the_sign_flip_of_darwins_plants_gives_the_p_that_fisher_published() -> None:
    """The Design of Experiments (1935), section 21: 863 of 2^14 positive, 1,726 of 32,768: 5.267 %."""
    eighths = array(49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)
    assert sign_flip(eighths) == pytest.approx(0.05267, abs=0.006)
    signs = 1 - 2 * ((np.arange(1 << 15)[:, None] >> np.arange(15)) & 1)
    assert (np.abs(signs @ np.abs(eighths)) >= eighths.sum()).mean() == pytest.approx(0.05267, abs=1e-5)


def test_skewed_differences_are_tested_by_permutation() -> None:
    before = [0.0] * 20
    after = list(np.random.default_rng(2).lognormal(0, 1.5, size=20) - 1)
    assert paired_numbers(before, after).test == "permutation"


def test_clustered_differences_are_flipped_by_cluster() -> None:
    before, after = [0.0] * 40, [float(number % 4 < 2) + 0.1 for number in range(40)]
    groups = [number // 4 for number in range(40)]
    found = paired_numbers(before, after, clusters=groups)
    assert found.test == "cluster permutation"
    assert found.p == pytest.approx(2 / 2**10)


def test_nulls_are_rejected_as_often_as_said() -> None:
    rng = np.random.default_rng(17)
    groups = [cluster for cluster in range(20) for _ in range(2)]
    rejected = {"paired t": 0, "cluster permutation": 0}
    for _ in range(400):
        noise = rng.normal(size=40)
        shared = np.repeat(rng.normal(size=20), 2) + rng.normal(size=40)
        for found in (
            paired_numbers([0.0] * 40, list(noise)),
            paired_numbers([0.0] * 40, list(shared), clusters=groups),
        ):
            assert found.p is not None
            rejected[found.test] = rejected.get(found.test, 0) + (found.p < 0.05)
    assert all(count <= 0.08 * 400 for count in rejected.values()), rejected


# Effects and corrections


def test_forty_examples_can_show_a_difference_of_0_22() -> None:
    found = detectable_difference(40)
    assert found is not None
    assert f"{found:.2f}" == "0.22"
    assert found == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 0.5 / math.sqrt(40))
    assert detectable_by_error(0.5 / math.sqrt(40)) == pytest.approx(found)
    assert detectable_difference(0) is None


def test_a_detectable_difference_is_found_in_four_of_five() -> None:
    size = detectable_difference(100, deviation=1.0)
    assert size is not None
    values = np.random.default_rng(3).normal(size, 1, size=(4000, 100))
    assert (np.asarray(stats.ttest_1samp(values, 0, axis=1)[1]) < 0.05).mean() == pytest.approx(0.8, abs=0.03)


def test_effect_sizes_are_those_of_their_formulas() -> None:
    assert cohens_d(0.5, 0.25) == 2
    assert cohens_d(0.5, 0.0) is None
    assert odds_ratio(10, 4) == pytest.approx(10.5 / 4.5)
    assert odds_ratio(4, 10) == pytest.approx(1 / odds_ratio(10, 4))
    assert odds_ratio(3, 0) == 7


def test_holm_gives_the_published_example() -> None:
    """p = 0.01, 0.04, 0.03, 0.005: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 not below 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
    assert holm([0.6, 0.9]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="found nan"):
        holm([0.1, math.nan])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_only_raises_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= new <= 1 for p, new in zip(p_values, adjusted, strict=True))
    ranked = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [adjusted[index] for index in ranked] == sorted(adjusted)


# Whatever the numbers are


def no_nan(found: PairedDifference) -> bool:
    numbers = [found.difference, found.p, found.effect, found.detectable]
    numbers += [found.interval.low, found.interval.high] if found.interval else []
    return all(number is None or math.isfinite(number) for number in numbers)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_its_estimate_within_0_and_1(counts: tuple[int, int]) -> None:
    found = wilson(*counts)
    assert found is not None
    assert 0 <= found.low <= counts[0] / counts[1] <= found.high <= 1


@settings(deadline=None)
@given(st.lists(finite, min_size=1, max_size=30), st.integers(1, 4))
def test_intervals_of_any_numbers_contain_their_mean(values: list[float], size: int) -> None:
    numbers = as_numbers(values)
    groups = [index // size for index in range(len(values))]
    for found in (mean_interval(numbers), mean_interval(numbers, groups), bootstrap_interval(numbers)):
        if found is not None:
            assert found.low <= float(numbers.mean()) <= found.high
            assert math.isfinite(found.low)
            assert math.isfinite(found.high)
    assert deviation(numbers) >= 0


@settings(deadline=None)
@given(st.lists(st.tuples(finite, finite), max_size=25), st.integers(1, 4))
def test_swapping_before_and_after_turns_numbers_around(pairs: list[tuple[float, float]], size: int) -> None:
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    for groups in (None, [index // size for index in range(len(pairs))]):
        found = paired_numbers(before, after, clusters=groups)
        back = paired_numbers(after, before, clusters=groups)
        assert no_nan(found)
        assert found.p == back.p
        assert found.test == back.test
        assert (found.difference is None) == (not pairs)
        if found.difference is not None:
            assert back.difference == -found.difference


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_swapping_before_and_after_turns_bools_around(pairs: list[tuple[bool, bool]]) -> None:
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found, back = paired_bools(before, after), paired_bools(after, before)
    assert no_nan(found)
    assert found.p == back.p
    if found.interval is None or back.interval is None or found.difference is None:
        assert not pairs
        return
    assert (-back.interval.high, -back.interval.low) == pytest.approx((found.interval.low, found.interval.high))
    assert -1 <= found.interval.low <= found.difference + 1e-12
    assert found.difference - 1e-12 <= found.interval.high <= 1


@pytest.mark.parametrize("values", [[], [0.5], [0.3, 0.3, 0.3], [0.1 + 0.2, 0.3], [0.0] * 12])
def test_what_cannot_be_said_of_few_or_equal_numbers_is_none(values: list[float]) -> None:
    numbers = as_numbers(values)
    assert t_interval(numbers) is None
    assert bootstrap_interval(numbers) is None
    assert mean_interval(numbers) is None
    assert cluster_interval(numbers, ["a"] * len(values)) is None
    found = paired_numbers(values, values)
    assert (found.p, found.interval, found.effect) == (None, None, None)


def test_the_same_difference_in_every_pair_is_tested_without_an_interval() -> None:
    found = paired_numbers([0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.5])
    assert found.p == 2 / 2**4
    assert (found.interval, found.effect, found.test) == (None, None, "permutation")
    assert "same amount" in found.note
    assert "fewer than 6" in found.note


def test_differences_of_rounding_alone_are_none() -> None:
    found = paired_numbers([0.1 + 0.2] * 5 + [1.0], [0.3] * 5 + [1.0])
    assert (found.difference, found.p) == (0.0, None)


def test_differences_of_shares_stay_within_their_bounds() -> None:
    found = paired_numbers([0.0] * 9 + [0.2], [1.0] * 8 + [0.8, 1.0], within=1.0)
    assert found.interval is not None
    assert found.interval.high == 1.0


def test_one_pair_or_one_cluster_gives_a_difference_and_the_reason_why_no_more() -> None:
    one = paired_numbers([1.0], [3.0])
    assert (one.difference, one.p, one.interval) == (2.0, None, None)
    assert one.note.startswith("one pair")
    together = paired_numbers([1.0, 2.0], [3.0, 7.0], clusters=["a", "a"])
    assert (together.difference, together.p, together.interval) == (3.5, None, None)
    assert "one cluster" in together.note
    assert paired_bools([], []).note == "no pair has this score on both sides"


def test_numbers_that_are_not_finite_or_not_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="found NaN or infinity"):
        paired_numbers([1.0, math.nan], [1.0, 2.0])
    with pytest.raises(ValueError, match="found 1 and 2"):
        paired_numbers([1.0], [1.0, 2.0])


def test_what_an_evaluation_prints_first_and_thresholds_do_not_import_scipy() -> None:
    code = (
        "import sys; from plait.experiments.statistics.effects import detectable_difference; "
        "import plait.experiments.thresholds; assert detectable_difference(40); "
        "sys.exit('scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_without_scipy_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['scipy.special'] = None\n"
        "from plait.errors import SettingsError\n"
        "from plait.experiments.statistics.distributions import t_quantile\n"
        "try: t_quantile(0.975, 3)\n"
        "except SettingsError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert "pip install 'plait[eval]'" in done.stdout
