"""What is a loop, and what only looks like one."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from crew_guard.core.loops import Circle, LoopRules, Trail

RULES = LoopRules()


def walk(calls: Iterable[tuple[str, str]], rules: LoopRules = RULES) -> list[tuple[str, str]]:
    """What the rules say to these (call, result) in order: a refused call has no result."""
    trail, found = Trail(), []
    for call, result in calls:
        refused = trail.asks(hash(call), rules)
        circle = refused or trail.called(hash(call), hash(result), rules)
        if circle is not None:
            found.append((circle.rung, circle.rule))
    return found


HONEST = {
    "polling a result that changes at last": [("status", "pending")] * 4 + [("status", "done"), ("report", "ok")],
    "polling a counter": [("status", f"{n} of 50") for n in range(50)],
    "paging": [(f"list page={n}", "ten rows") for n in range(50)],
    "writing files, each with the same answer": [(f"write {n}", "ok") for n in range(50)],
    "a retry after an error": [("fetch", "error"), ("fetch", "error"), ("fetch", "error"), ("fetch", "page")],
    "tests after each edit": [pair for n in range(20) for pair in ((f"edit {n}", "ok"), ("test", "1 failed"))],
    "two jobs that move in turn": [pair for n in range(20) for pair in (("a?", str(n)), ("b?", str(n)))],
    "a look at the list now and then": [pair for n in range(20) for pair in (("list", "a b"), (f"read {n}", str(n)))],
    "ten calls in a second": [(f"search {n}", f"found {n}") for n in range(1_000)],
}


@pytest.mark.parametrize("calls", HONEST.values(), ids=HONEST.keys())
def test_honest_work_is_no_loop(calls: list[tuple[str, str]]) -> None:
    """The defaults say nothing to what only looks like one."""
    assert walk(calls) == []


def test_the_same_call_is_told_then_refused_then_stops_its_agent() -> None:
    """At 5, above 10, above 15; a refusal counts as a round."""
    found = walk([("look", "nothing")] * 16)
    assert found[0] == ("tell", "same_call")
    assert [rung for rung, _ in found].count("refuse") == 5
    assert found[-1] == ("stop", "same_call")


def test_a_circle_of_several_calls_is_one_too() -> None:
    """None is made five times in a row; all of them tell what is known."""
    found = walk([(f"step {n % 3}", f"result {n % 3}") for n in range(40)], LoopRules(same_call=1_000_000))
    assert found[0] == ("tell", "no_new_information")
    assert found[-1] == ("stop", "no_new_information")


def test_something_new_begins_the_count_anew() -> None:
    """Four repetitions, a new call, four again: nobody is told."""
    assert walk([*[("look", "x")] * 4, ("dig", "y"), *[("look", "x")] * 3]) == []


def test_a_large_number_is_as_good_as_none() -> None:
    """A million repetitions are allowed, so a hundred are."""
    rules = LoopRules(same_call=10**6, no_new_information=10**6)
    assert walk([("look", "x")] * 100, rules) == []


def test_a_trail_stays_small() -> None:
    """10,000 different calls are not all remembered."""
    trail = Trail()
    for number in range(10_000):
        trail.called(number, 1, RULES)
    assert len(trail.results) + len(trail.older) <= 256
    assert not trail.repeats


LONG = "I would say that we are done with this, what do you think of it?"


def speak(*said: tuple[str, int]) -> list[str]:
    """What the rules say to messages with the prompts that they answer."""
    trail = Trail()
    found = [trail.says(text, prompt, RULES) for text, prompt in said]
    return [circle.rung for circle in found if circle]


def test_the_same_message_in_a_growing_conversation_is_told_and_then_stopped() -> None:
    """At 4 and at 8."""
    assert speak(*((LONG, 100 * n) for n in range(1, 9))) == ["tell", "stop"]


@pytest.mark.parametrize(
    "said",
    [
        [("positive", 100 * n) for n in range(1, 100)],
        [(LONG, 100) for _ in range(100)],
        [(LONG, 200 - n % 3) for n in range(100)],
        [(f"{LONG} {n % 2}", n) for n in range(100)],
    ],
    ids=["labels", "the same question asked anew", "questions of about one length", "two messages in turn"],
)
def test_what_is_said_again_for_a_reason_is_no_loop(said: list[tuple[str, int]]) -> None:
    """Labels, verdicts, and calls that each begin anew."""
    assert speak(*said) == []


def test_each_conversation_is_counted_by_itself() -> None:
    """Also where they go on side by side; of very many the oldest are forgotten."""
    trail = Trail()
    for prompt in range(1, 8):
        for talk in (1, 2):
            circle = trail.says(LONG, prompt, RULES, talk)
            assert (circle.rung if circle else "") == ("tell" if prompt == 4 else "")
    assert trail.says(LONG, 8, RULES, 1) == Circle("same_message", 8, 8, "stop")
    for talk in range(1_000):
        assert trail.says(LONG, 100 + talk, RULES, 10 + talk) is None
    assert len(trail.talks) == 128
