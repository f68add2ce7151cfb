"""Who goes next: interactive calls first, workflows in equal turns, the oldest row of each first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.flow.queues import BACKGROUND, BATCH, INTERACTIVE, FairQueue, Place


@dataclass(slots=True)
class Call:
    place: Place
    gone: bool = False


def call(order: int = 0, priority: int = BATCH, group: str = "") -> Call:
    return Call(Place(order, priority, group))


def taken(queue: FairQueue[Call]) -> list[Call]:
    found = []
    while (each := queue.pop()) is not None:
        found.append(each)
    return found


def test_interactive_calls_go_first_and_background_last() -> None:
    queue: FairQueue[Call] = FairQueue()
    for order, priority in enumerate((BACKGROUND, BATCH, INTERACTIVE) * 3):
        queue.push(call(order, priority, f"group {order}"))
    assert [each.place.priority for each in taken(queue)] == [INTERACTIVE] * 3 + [BATCH] * 3 + [BACKGROUND] * 3


def test_the_oldest_row_of_a_workflow_goes_first_and_its_calls_in_order_of_arrival() -> None:
    queue: FairQueue[Call] = FairQueue()
    calls = [call(order) for order in (5, 1, 3, 1, 5, 2)]
    for each in calls:
        queue.push(each)
    found = taken(queue)
    assert [each.place.order for each in found] == [1, 1, 2, 3, 5, 5]
    assert [id(each) for each in found if each.place.order == 1] == [id(calls[1]), id(calls[3])]


def test_rows_begun_go_before_rows_not_begun() -> None:
    queue: FairQueue[Call] = FairQueue()
    for order in range(10):
        queue.push(call(order))
    found = []
    for _ in range(6):
        first = queue.pop()
        assert first
        found.append(first.place.order)
        if len(found) % 2:  # every row makes two calls
            queue.push(call(first.place.order))
    assert found == [0, 0, 1, 1, 2, 2]


def test_three_workflows_get_equal_turns_in_any_prefix() -> None:
    queue: FairQueue[Call] = FairQueue()
    for group in ("a", "b", "c"):  # the last one comes after thousands of others
        for order in range(1000):
            queue.push(call(order, group=group))
    turns: Counter[str] = Counter()
    for number, each in enumerate(taken(queue), 1):
        turns[each.place.group] += 1
        assert min(turns[group] for group in "abc") >= number // 3
    assert turns == {"a": 1000, "b": 1000, "c": 1000}


def test_a_workflow_that_comes_late_neither_catches_up_nor_waits() -> None:
    queue: FairQueue[Call] = FairQueue()
    for order in range(1000):
        queue.push(call(order, group="early"))
    for _ in range(500):
        queue.pop()
    for order in range(100):
        queue.push(call(order, group="late"))
    turns = Counter(each.place.group for each in taken(queue)[:100])
    assert turns["early"] in {49, 50, 51}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.text("xy", max_size=3), st.booleans()), min_size=60, max_size=60))
def test_each_group_that_always_waits_gets_its_share_whatever_the_others_do(
    steps: list[tuple[str, bool]],
) -> None:
    queue: FairQueue[Call] = FairQueue()
    for order in range(60):
        queue.push(call(order, group="steady"))
    steady = others = 0
    waiting: list[Call] = []
    for comers, leaves in steps:
        for group in comers:
            waiting.append(call(group=group))
            queue.push(waiting[-1])
        if waiting and leaves:
            leaver = waiting.pop()
            if not leaver.gone:
                queue.leave(leaver)
        found = queue.pop()
        assert found is not None
        if found.place.group == "steady":
            steady += 1
        else:
            others += 1
            waiting = [each for each in waiting if each is not found]
    assert steady >= (steady + others) // 3 - 1


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(0, 5), st.sampled_from([0, 1, 2]), st.sampled_from("abc")),
            st.tuples(st.sampled_from(["pop", "leave", "drain"]), st.integers(0, 100), st.just(0), st.just("")),
        ),
        max_size=80,
    )
)
def test_nobody_is_lost_or_served_twice(steps: list[tuple[str, int, int, str]]) -> None:
    queue: FairQueue[Call] = FairQueue()
    waiting: list[Call] = []
    for what, number, priority, group in steps:
        if what == "push":
            waiting.append(call(number, priority, group))
            queue.push(waiting[-1])
        elif what == "pop":
            found = queue.pop()
            assert (found is None) == (not waiting)
            if found is not None:
                best = min(each.place.priority for each in waiting)
                assert found.place.priority == best
                rivals = [
                    each for each in waiting if (each.place.priority, each.place.group) == (best, found.place.group)
                ]
                assert found.place.order == min(each.place.order for each in rivals)
                waiting = [each for each in waiting if each is not found]
        elif what == "leave" and waiting:
            leaver = waiting.pop(number % len(waiting))
            queue.leave(leaver)
            queue.leave(leaver)
        elif what == "drain":
            assert {id(each) for each in queue.drain()} == {id(each) for each in waiting}
            waiting = []
        assert len(queue) == len(waiting)
    assert {id(each) for each in taken(queue)} == {id(each) for each in waiting}


class Counted(int):
    """An order that counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other: object) -> bool:
        Counted.comparisons += 1
        return int(self) < int(other)  # type: ignore[call-overload,no-any-return]

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return int(self) == int(other)  # type: ignore[call-overload,no-any-return]

    __hash__ = int.__hash__


@pytest.mark.parametrize("count", [100, 10_000])
def test_admission_takes_a_logarithmic_number_of_comparisons(count: int) -> None:
    queue: FairQueue[Call] = FairQueue()
    Counted.comparisons = 0
    for number in range(count):
        queue.push(call(Counted(number * 7919 % count)))
    each_push = Counted.comparisons / count
    Counted.comparisons = 0
    taken(queue)
    each_pop = Counted.comparisons / count
    # A heap's depth, two comparisons a level: 13.3 levels for ten thousand.
    assert each_push <= 8
    assert each_pop <= 2.2 * count.bit_length()


@pytest.mark.parametrize("groups", [1, 100])
def test_those_who_left_do_not_pile_up_behind_one_who_waits(groups: int) -> None:
    queue: FairQueue[Call] = FairQueue()
    queue.push(call(0, group="0"))
    for number in range(10_000):
        leaver = call(1, group=str(number % groups))
        queue.push(leaver)
        queue.leave(leaver)
    held = sum(len(waiting) for kind in queue._classes.values() for waiting in kind.groups.values())
    assert held <= 200
