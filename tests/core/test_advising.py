"""The advisor's arithmetic: what it recommends, the figures behind it, and what it says it doesn't know."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew_guard.core.reliability.advising import Advice, advise
from crew_guard.core.reliability.counts import Counts
from crew_guard.core.reliability.intervals import clopper_pearson
from crew_guard.core.reliability.jobs import STEEPEST, Approval, JobDescription, faults

CODE = {"deterministic": True, "usd": "0.01", "seconds": 1}
MODEL = {"model": True, "judgement": False, "usd": "0.10", "seconds": 5}
FREE = {"judgement": True, "usd": "0.50", "seconds": 20}


def job(*steps: dict[str, Any], **more: Any) -> JobDescription:
    named = [{"name": f"s{place}", "reliability": 0.99, **step} for place, step in enumerate(steps)]
    return JobDescription.model_validate({"name": "test", "steps": tuple(named), **more})


def warned(advice: Advice, text: str) -> bool:
    return any(text in warning for warning in advice.warnings)


def test_no_judgement_is_a_workflow() -> None:
    """What comes next is always the same: code and single model calls need no agent."""
    advice = advise(job(CODE, MODEL, CODE))
    assert advice.recommended == "workflow"
    assert "no step needs judgement" in advice.rule
    assert advice.numbers[0] == "2 of 3 steps are code, 1 need a model, none needs judgement"


def test_some_judgement_is_a_hybrid_and_names_the_steps() -> None:
    """The agent gets the ambiguous steps, the path the rest."""
    advice = advise(job(CODE, FREE, CODE))
    assert advice.recommended == "hybrid"
    assert [part.by for part in advice.options[0].way.parts] == ["code", "agent", "code"]
    assert "1 of 3 steps need judgement: s1" in advice.numbers
    assert not any(option.way.form == "workflow" for option in advice.options)


def test_judgement_everywhere_is_an_agent_loop() -> None:
    """There is no path to write down."""
    advice = advise(job(FREE, FREE))
    assert advice.recommended == "agent_loop"
    assert advice.options[0].way.usd == Decimal("1.00")


def test_another_way_is_recommended_only_where_it_reaches_a_target_that_the_first_misses() -> None:
    """The rule says which figures decided; without a target the least freedom stays."""
    steps = [{**MODEL, "reliability": 0.90, "agent": {"reliability": 0.99, "usd": "0.40", "seconds": 9}}, CODE]
    missed = advise(job(*steps, target=0.95))
    assert missed.recommended == "hybrid"
    assert "misses the target, and a hybrid reaches it" in missed.rule
    assert any("workflow misses the target of 0.95: 0.9" in line for line in missed.numbers)
    assert advise(job(*steps)).recommended == "workflow"
    assert advise(job(*steps, target=0.999)).recommended == "workflow"


def test_of_several_ways_that_reach_the_target_the_cheapest_is_taken() -> None:
    """The crew reaches it, too, at ten times the price."""
    steps = [{**MODEL, "reliability": 0.90, "agent": {"reliability": 0.99, "usd": "0.40"}}, CODE]
    advice = advise(job(*steps, target=0.95, crew={"agents": 2, "reliability": 0.99, "usd": "4"}))
    assert advice.recommended == "hybrid"
    dear = advise(
        job({**steps[0], "agent": None}, CODE, target=0.95, crew={"agents": 2, "reliability": 0.999, "usd": "4"})
    )
    assert dear.options[0].reaches


def test_unknown_reliability_stays_unknown_and_says_what_it_would_have_to_be() -> None:
    """Nothing is filled in; the others' product says how much is left for it."""
    advice = advise(job(CODE, {**MODEL, "reliability": None}, tier="production"))
    option = advice.options[0]
    assert option.way.decisive.success is None
    assert option.reaches is None
    assert option.tier is None
    assert any(one.key == "steps.s1.reliability" for one in advice.assumed)
    assert warned(advice, f"to reach 0.95, s1 must be right at least {0.95 / 0.99:.3f} of the time")


def test_unknown_cost_of_a_model_leaves_the_sum_unknown_and_that_of_code_is_taken_as_nothing() -> None:
    """Both are said."""
    advice = advise(job({**CODE, "usd": None, "seconds": None}, {**MODEL, "usd": None}))
    assert advice.options[0].way.usd is None
    assert advice.options[0].way.seconds == 5
    told = {one.key: one.assumed for one in advice.assumed}
    assert told["steps.s0.usd"].startswith("unknown: taken as 0")
    assert told["steps.s1.usd"] == "unknown, and so is the sum"


def test_what_a_person_catches_is_said_for_both_ends_where_it_is_unknown() -> None:
    """Never and always; the rule goes by never."""
    steps = [MODEL, {**CODE, "irreversible": True}]
    advice = advise(job(*steps, approval={"who": "Ann", "before": "s1"}))
    way = advice.options[0].way
    assert [case.catches for case in way.cases] == [None, 1.0]
    assert way.decisive.success == pytest.approx(0.99**2)
    assert way.case(1.0).success == pytest.approx(0.99)
    assert any(one.key == "approval.catches" for one in advice.assumed)
    assert advice.people[0].who == "Ann"
    known = advise(job(*steps, approval={"who": "Ann", "before": "s1", "catches": 0.5}))
    assert known.options[0].way.decisive.success == pytest.approx(0.995 * 0.99)


def test_what_cant_be_undone_and_nobody_approves_is_warned_of() -> None:
    """The step is named as one that needs a person, too."""
    advice = advise(job(MODEL, {**CODE, "irreversible": True}))
    assert warned(advice, "nobody approves what can't be undone: s1")
    assert advice.people[0].who == ""


@pytest.mark.parametrize(("agents", "warns"), [(3, False), (4, True), (5, True), (6, True)])
def test_a_crew_past_three_agents_is_warned_of_with_the_compounded_figure(agents: int, warns: bool) -> None:
    """The power of one agent's reliability, and what each would have to reach."""
    advice = advise(job(MODEL, MODEL, target=0.9, crew={"agents": agents, "reliability": 0.93}))
    assert warned(advice, f"{agents} make {0.93**agents:.3f}") == warns
    assert warned(advice, f"each of {agents} must be right {0.9 ** (1 / agents):.4f}") == warns


def test_straight_passes_are_those_that_prove_a_tier() -> None:
    """59, 19 and 9 at 95 %, and how likely they come if the prediction is true."""
    advice = advise(job(CODE))
    assert [(one.level, one.passes) for one in advice.proofs] == [("production", 59), ("internal", 19), ("pilot", 9)]
    assert advice.proofs[0].chance == pytest.approx(0.99**59)


def test_a_bound_needs_verdicts_on_every_step() -> None:
    """One estimate among them, and nothing is proven; with verdicts the bound lies below the product."""
    measured = {**CODE, "trials": 300}
    some = advise(job(measured, CODE)).options[0]
    assert some.way.decisive.lower is None
    assert not some.proven
    every = advise(job(measured, measured, target=0.9)).options[0]
    assert every.way.decisive.lower is not None
    assert 0.9 < every.way.decisive.lower < 0.99**2
    assert every.proven


def test_verdicts_that_several_steps_share_count_once() -> None:
    """A rate that was measured too high is too high in every step: the bound is its own, to the power of the steps."""
    crew = {"agents": 2, "reliability": 0.9, "trials": 100, "usd": "1", "seconds": 1}
    shared = advise(job(MODEL, MODEL, crew=crew)).option("crew").way.decisive.lower
    single = advise(job(MODEL, crew=crew)).option("crew").way.decisive.lower
    own = {"reliability": 0.9, "trials": 100}
    apart = (
        advise(job({**MODEL, "agent": own}, {**MODEL, "agent": own}, crew={"agents": 2})).option("crew").way.decisive
    )
    assert shared is not None
    assert single is not None
    assert apart.lower is not None
    assert shared == pytest.approx(single**2)
    assert shared < apart.lower


def test_the_bound_of_pooled_and_own_verdicts_together_covers() -> None:
    """In at least 95 % of repetitions the bound lies below the truth, also where both kinds stand in one chain."""
    draws = random.Random(5)
    truth, below, times = 0.97 * 0.9**2, 0, 300
    for _ in range(times):
        own = sum(draws.random() < 0.97 for _ in range(80)) / 80
        pooled = sum(draws.random() < 0.9 for _ in range(60)) / 60
        free = {**FREE, "reliability": None}
        found = advise(
            job({**CODE, "reliability": own, "trials": 80}, free, free,
                crew={"agents": 2, "reliability": pooled, "trials": 60})
        ).option("hybrid").way.decisive.lower  # fmt: skip
        assert found is not None
        below += found <= truth
    assert below / times >= 0.94


def crew_of_two(**crew: Any) -> JobDescription:
    steps = ({"name": one, "judgement": True, "reliability": 0.99, "usd": 1} for one in ("find", "write"))
    return job(*steps, crew={"agents": 2, "reliability": 0.95, "trials": 200, "usd": 2, **crew})


def test_what_was_measured_end_to_end_counts_where_there_is_enough() -> None:
    """With its interval, beside the product of the parts; too few are told, and the parts count."""
    plain = advise(crew_of_two()).option("crew").way.decisive
    assert plain.success == pytest.approx(0.95**2)
    advice = advise(crew_of_two(measured={"tasks": 59, "good": 40}))
    found = advice.option("crew").way.decisive
    assert (found.measured, found.success, found.by_parts) == (True, pytest.approx(40 / 59), plain.success)
    ends = clopper_pearson(Counts(59, 40.0))
    assert (found.lower, found.upper) == ends
    words = f"crew: measured, 40 of 59 = 0.678, {ends.lower:.3f} to {ends.upper:.3f}; this counts, and not its parts'"
    assert any(words in line and "0.902" in line for line in advice.numbers)
    few = advise(crew_of_two(measured={"tasks": 58, "good": 40}))
    assert few.option("crew").way.decisive == plain
    assert any(
        one.key == "crew.measured" and "too few to go by for 0.95, 59 tasks could prove that; its parts" in one.assumed
        for one in few.assumed
    )


def test_how_much_is_enough_follows_the_target() -> None:
    """19 for 0.85, none for 1; and where a step is unknown the measured rate is all there is."""
    crew = {"agents": 2, "usd": 2, "measured": {"tasks": 19, "good": 19}}
    known = crew_of_two(measured=crew["measured"])
    assert advise(known.model_copy(update={"target": 0.85})).option("crew").way.decisive.measured
    assert not advise(known.model_copy(update={"target": 0.86})).option("crew").way.decisive.measured
    assert not advise(known.model_copy(update={"target": 1.0})).option("crew").way.decisive.measured
    unknown = job({"name": "find", "judgement": True}, crew={**crew, "measured": {"tasks": 5, "good": 4}})
    found = advise(unknown).option("crew").way.decisive
    assert (found.measured, found.success, found.by_parts) == (True, 0.8, None)
    assert crew_of_two(measured={"tasks": 4, "good": 2.5})
    assert [fault.key for fault in faults(crew_of_two(measured={"tasks": 4, "good": 5}))] == [
        ("crew", "measured", "good")
    ]


def test_a_person_who_looks_is_reckoned_on_the_parts() -> None:
    """What was measured stays the case in which nobody does; the rescue of a fallback goes by it there."""
    looked = crew_of_two(measured={"tasks": 100, "good": 80}).model_copy(
        update={"approval": Approval(who="Ann", before="write", sees=("find",), catches=0.5)}
    )
    way = advise(looked).option("crew").way
    assert [case.measured for case in way.cases] == [True, False, False]
    assert way.decisive.success == pytest.approx(0.975 * 0.95)


def test_a_fallback_adds_what_it_rescues() -> None:
    """Success and cost of the crew, plus those of the workflow for each failure that is noticed."""
    crew = {"agents": 2, "reliability": 0.8, "usd": "2", "seconds": 30, "caught": 0.5}
    advice = advise(job(MODEL, CODE, crew=crew))
    (rescue,) = advice.rescues
    assert rescue.success == pytest.approx(0.64 + 0.36 * 0.5 * 0.99**2)
    assert float(rescue.usd or 0) == pytest.approx(2 + 0.18 * 0.11)
    assert rescue.seconds == pytest.approx(30 + 0.18 * 6)


def test_failures_that_come_together_are_bounded() -> None:
    """Frechet's bounds stand beside the product that takes them as independent."""
    told = next(line for line in advise(job(CODE, MODEL)).numbers if "independent" in line)
    assert "between 0.980 and 0.990" in told


@given(
    p=st.lists(st.floats(0.01, 1), min_size=1, max_size=8),
    catches=st.floats(0, 1),
)
def test_a_person_who_looks_never_makes_it_worse(p: list[float], catches: float) -> None:
    """Success without them, with what they catch, and with everything caught are in this order."""
    steps = [{**MODEL, "reliability": one} for one in p] + [{**CODE, "reliability": 1.0}]
    described = job(*steps, approval={"who": "Ann", "before": f"s{len(p)}", "catches": catches})
    way = advise(described).options[0].way
    successes = [case.success or 0.0 for case in way.cases]
    assert successes == sorted(successes)
    assert successes[0] == pytest.approx(math.prod(p))
    assert successes[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("steps", "more", "key"),
    [
        ([CODE, {**CODE, "name": "s0"}], {}, ("steps", 1, "name")),
        ([{**CODE, "model": True}], {}, ("steps", 0, "model")),
        ([{**CODE, "judgement": True}], {}, ("steps", 0, "judgement")),
        ([{**FREE, "model": False}], {}, ("steps", 0, "model")),
        ([{**CODE, "reliability": None, "trials": 3}], {}, ("steps", 0, "trials")),
        ([{**CODE, "seconds": None, "seconds_p95": 3}], {}, ("steps", 0, "seconds_p95")),
        ([{**CODE, "seconds_p95": STEEPEST * 1.01}], {}, ("steps", 0, "seconds_p95")),
        ([{**CODE, "agent": {"trials": 3}}], {}, ("steps", 0, "agent", "trials")),
        ([CODE], {"approval": {"who": "Ann", "before": "send"}}, ("approval", "before")),
        ([CODE], {"approval": {"who": "Ann", "before": "s0", "sees": ("s0",)}}, ("approval", "sees", 0)),
        ([CODE], {"target": 0.8, "tier": "internal"}, ("target",)),
        ([CODE], {"drop": {"step": "s0", "to": 0.5}}, ("drop",)),
        ([CODE], {"drop": {"step": "s7", "to": 0.5}, "crew": {"agents": 1}}, ("drop", "step")),
        ([CODE], {"crew": {"agents": 1, "trials": 3}}, ("crew", "trials")),
    ],
)
def test_a_contradiction_is_told_of_its_key(steps: list[Any], more: dict[str, Any], key: tuple[Any, ...]) -> None:
    """Each by itself, with what was expected; no advice is given on it."""
    described = job(*steps, **more)
    found = faults(described)
    assert [fault.key for fault in found] == [key]
    assert any(word in found[0].message for word in ("expected", "did you mean"))
    with pytest.raises(ValueError, match="test: "):
        advise(described)
