"""The arithmetic of reserve and clamp."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crew_guard.core import run
from crew_guard.core.actions import Grant, ModelCall, Outcome, charge, excess
from crew_guard.core.limits import (
    NO_CAP,
    Caps,
    Ledger,
    Limits,
    Shortfall,
    Terms,
    binding,
    fit_model_call,
    fit_tool_call,
    hold,
    settle,
)
from crew_guard.core.run import RunState
from crew_guard.core.usage import FREE, NANO, Rate, Rates, Usage, cost, nano

DOLLAR_A_TOKEN = Rates(Rate(NANO * 1_000_000), Rate(2 * NANO * 1_000_000))


def call(prompt: int, rates: Rates | None = None) -> ModelCall:
    return ModelCall("a", "m", prompt, rates=rates)


def test_a_completion_is_clamped_to_what_the_tightest_scope_has_left() -> None:
    """1,000 tokens left in one scope and 400 in another: 300 of prompt leave 100."""
    wide, tight = Ledger("run", Caps(tokens=1000)), Ledger("agent:a", Caps(tokens=400))
    assert fit_model_call([wide, tight], call(300), 4096, 50, 0) == Usage(1, 0, 300, 100)


counts = st.integers(0, 3)
usages = st.builds(Usage, counts, counts, counts, counts, counts, counts)


@given(reserved=usages, used=usages, cached=counts)
def test_what_is_settled_is_all_that_was_used_and_nothing_stays_reserved(
    reserved: Usage, used: Usage, cached: int
) -> None:
    """Count by count, also of a call that costs nothing and was read from a cache."""
    ledger, other = Ledger("run"), Ledger("agent:a")
    hold([ledger, other], reserved)
    assert ledger.reserved.usage() == reserved
    used = replace(used, cached_tokens=cached)
    settle([ledger, other], reserved, used)
    assert (
        (ledger.reserved.usage(), ledger.used.usage())
        == (Usage(), used)
        == (other.reserved.usage(), other.used.usage())
    )


def test_a_call_whose_least_completion_does_not_fit_names_the_cap() -> None:
    """The shortfall says what is missing, so that a person can raise the right cap."""
    ledger = Ledger("run", Caps(tokens=400))
    found = fit_model_call([ledger], call(300), 4096, 256, 0)
    assert found == Shortfall("run", "tokens", 400, 0, 0, 556)
    assert isinstance(found, Shortfall)
    assert found.missing == 156


def test_a_completion_is_clamped_by_money_too() -> None:
    """$10 left, $1 a prompt token and $2 a completion token: 4 of prompt leave 3 of completion."""
    ledger = Ledger("run", Caps(nano_usd=10 * NANO))
    found = fit_model_call([ledger], call(4, DOLLAR_A_TOKEN), 100, 1, 0)
    assert found == Usage(1, 0, 4, 3, 10 * NANO)


def test_the_outermost_scope_answers_first() -> None:
    """Both are short of steps; the run is named."""
    ledgers = [Ledger("run", Caps(steps=0)), Ledger("crew", Caps(steps=0))]
    found = fit_model_call(ledgers, call(1), 10, 1, 0)
    assert isinstance(found, Shortfall)
    assert (found.scope, found.limit) == ("run", "steps")


def test_zero_is_a_limit_and_absent_is_none() -> None:
    """A cap of 0 tool calls refuses the first one; no cap refuses none."""
    assert fit_tool_call([Ledger("run", Caps(tool_calls=0))]) is not None
    assert fit_tool_call([Ledger("run", Caps())]) is None
    assert Limits(max_tool_calls=0).caps().tool_calls == 0
    assert Limits().caps().tool_calls == NO_CAP


@pytest.mark.parametrize("counted", Usage.__struct_fields__)
def test_whatever_was_used_is_kept_by_itself(counted: str) -> None:
    """Tokens from a cache too, where the model is free."""
    ledgers, used = [Ledger("run"), Ledger("agent:a")], Usage(**{counted: 3})
    settle(ledgers, Usage(), used)
    assert [ledger.used.usage() for ledger in ledgers] == [used, used]


@pytest.mark.parametrize("counted", [name for name in Usage.__struct_fields__ if name != "cached_tokens"])
def test_what_was_reserved_and_not_used_is_given_back(counted: str) -> None:
    """Of each kind; how much of a prompt comes from a cache is nobody's to reserve."""
    ledger, reserved = Ledger("run"), Usage(**{counted: 3})
    hold([ledger], reserved)
    assert ledger.reserved.usage() == reserved
    settle([ledger], reserved, Usage())
    assert (ledger.reserved.usage(), ledger.used.usage()) == (Usage(), Usage())


def test_money_in_files_is_exact() -> None:
    """0.1 dollars are 100,000,000 nano-dollars, however they are written."""
    assert Limits(max_usd=Decimal("0.1")).caps().nano_usd == nano("0.1") == 100_000_000


@given(
    cap=st.integers(0, 20_000),
    used=st.integers(0, 10_000),
    reserved=st.integers(0, 10_000),
    prompt=st.integers(1, 5_000),
    wanted=st.integers(1, 5_000),
    least=st.integers(1, 5_000),
    usd=st.integers(0, 10**9),
    rate=st.integers(0, 10**11),
)
def test_a_grant_never_passes_a_cap_and_is_never_shorter_than_needed(
    cap: int, used: int, reserved: int, prompt: int, wanted: int, least: int, usd: int, rate: int
) -> None:
    """Whatever the numbers: granted means below every cap, refused means that the least didn't fit."""
    least = min(least, wanted)
    ledger = Ledger("run", Caps(tokens=cap, nano_usd=usd))
    ledger.used.input_tokens, ledger.reserved.output_tokens = used, reserved
    rates = Rates(Rate(rate), Rate(rate * 4))
    found = fit_model_call([ledger], call(prompt, rates), wanted, least, 0)
    if isinstance(found, Usage):
        assert used + reserved + found.tokens <= cap
        assert found.nano_usd <= usd
        assert least <= found.output_tokens <= wanted
    else:
        least_cost = cost(prompt, rate) + cost(least, rate * 4)
        assert used + reserved + prompt + least > cap or least_cost > usd


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome("ok", Usage(input_tokens=7, output_tokens=3)), Usage(1, 0, 7, 3)),
        (Outcome("ok"), Usage(1, 0, 10, 20)),
        (Outcome("rejected"), Usage(1)),
        (Outcome("failed"), Usage(1, 0, 10, 20)),
        (Outcome("cancelled"), Usage(1, 0, 10, 20)),
        (Outcome("withdrawn"), Usage()),
        (Outcome("failed", Usage(input_tokens=7, output_tokens=1)), Usage(1, 0, 7, 1)),
    ],
)
def test_what_an_ending_costs(outcome: Outcome, expected: Usage) -> None:
    """Usage as reported; a rejection is a step; whatever a provider may bill stays charged as reserved."""
    grant = Grant("a1", call(10), 20, Usage(1, 0, 10, 20), 0.0)
    assert charge(grant, outcome) == expected


def test_what_is_billed_beyond_the_reservation_is_an_overshoot() -> None:
    """5 tokens more than reserved are 5 tokens over; fewer are none."""
    assert excess(Usage(1, 0, 10, 25), Usage(1, 0, 10, 20)) == Usage(output_tokens=5)
    assert excess(Usage(1, 0, 10, 15), Usage(1, 0, 10, 20)) == Usage()


def test_a_tiered_price_holds_for_the_whole_request() -> None:
    """Above 200,000 prompt tokens the higher rate holds for every token of the request."""
    rates = Rates(Rate(1_000_000, ((200_000, 2_000_000),)), Rate(0))
    assert rates.price(Usage(input_tokens=200_000)) == 200_000
    assert rates.price(Usage(input_tokens=200_001)) == 400_002


CAPS = st.builds(
    Caps,
    steps=st.integers(0, 4) | st.just(NO_CAP),
    tool_calls=st.integers(0, 4) | st.just(NO_CAP),
    tokens=st.integers(0, 400) | st.just(NO_CAP),
    nano_usd=st.integers(0, 400) | st.just(NO_CAP),
)
SPENT = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 300), st.integers(0, 300))


def filled(caps: list[Caps], spent: list[tuple[int, int, int, int]]) -> list[Ledger]:
    """A chain of scopes, the run's first: each has used what the ones inside of it have, and more."""
    made: list[Ledger] = []
    total = [0, 0, 0, 0]
    for number, (cap, own) in reversed(list(enumerate(zip(caps, spent, strict=False)))):
        total = [before + more for before, more in zip(total, own, strict=True)]
        ledger = Ledger(f"scope {number}", cap)
        ledger.used.steps, ledger.used.tool_calls, ledger.used.input_tokens, ledger.reserved.nano_usd = total
        made.insert(0, ledger)
    return made


@given(caps=st.lists(CAPS, min_size=4, max_size=4), spent=st.lists(SPENT, min_size=4, max_size=4))
def test_the_ledgers_that_bind_answer_as_all_of_them(caps: list[Caps], spent: list[tuple[int, int, int, int]]) -> None:
    """What is left out to be quick never changes an answer: not what is granted, nor which cap is named."""
    ledgers = filled(caps, spent)
    found = binding(ledgers)
    assert fit_tool_call(found.tools) == fit_tool_call(ledgers)
    for rates in (None, Rates(Rate(10**6), Rate(10**6))):
        action = call(50, rates)
        assert fit_model_call(found.calls, action, 100, 10, 0) == fit_model_call(ledgers, action, 100, 10, 0)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_an_embedding_is_held_to_tokens_and_never_to_steps(prompt: int, cap: int, used: int) -> None:
    """Whatever steps are used, it reserves its prompt alone; without a report that is what it costs, and no step."""
    ledger = Ledger("run", Caps(steps=0, agents=0, tokens=cap))
    ledger.used.add(Usage(3, 0, used, 0))
    action = ModelCall("a", "m", prompt, 0, 0, clampable=False, embeds=True)
    found = fit_model_call([ledger], action, 0, 0, 0)
    if used + prompt > cap:
        assert isinstance(found, Shortfall)
        assert found.limit == "tokens"
        return
    assert found == Usage(input_tokens=prompt)
    grant = Grant("a1", action, 0, found, 0.0)
    assert charge(grant, Outcome("ok", Usage(input_tokens=1))) == Usage(input_tokens=1)
    assert charge(grant, Outcome("ok")) == found
    assert charge(grant, Outcome("rejected")) == Usage()


def test_a_scope_that_is_capped_while_another_thread_looks_is_not_missed(monkeypatch):
    """Who looks ahead has no lock: what it found before the cap must not pass for what is there after it."""
    state = RunState()
    for scope in ("run", "crew"):
        state.open_scope(scope, Caps(steps=100))
    own, late = run.binding, ["agent:ann"]

    def meanwhile(ledgers):
        found = own(ledgers)
        if late:
            state.open_scope(late.pop(), Caps(steps=0))
        return found

    monkeypatch.setattr(run, "binding", meanwhile)
    state.path("crew", "ann", None, None)
    path = state.path("crew", "ann", None, None)
    assert [ledger.scope for ledger in path.ledgers] == ["run", "crew", "agent:ann"]
    assert isinstance(state.ask(ModelCall("ann", "p:m", 1, rates=FREE), path, Terms()), Shortfall)
