"""Layers of policy: no stack is looser than any of its members, in whatever way it is made."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import cached_property
from itertools import product
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew_guard.core.actions import ModelCall, Spawn, ToolCall
from crew_guard.core.judging import judge
from crew_guard.core.limits import (
    NO_CAP,
    AgentLimits,
    Ledger,
    Meter,
    Shortfall,
    Terms,
    fit_agent,
    fit_model_call,
    fit_tool_call,
)
from crew_guard.core.messages import ToolSpec
from crew_guard.core.policy import Policy
from crew_guard.core.tightening import differences, faults, strangers, tightened, values_of
from crew_guard.core.usage import NANO, Rate, Rates, Usage

AGENTS, TOOLS, MODELS = (
    ("ann", "bob", "read/ann"),
    ("read_a", "read_b", "write_a", "shell"),
    ("p:small", "p:large", "q:small"),
)
COUNTS = st.none() | st.integers(0, 12)
TOKENS = st.none() | st.integers(0, 3_000)
USD = st.none() | st.integers(0, 300).map(lambda cents: Decimal(cents) / 100)
SECONDS = st.none() | st.integers(1, 90)


def said(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A section that says some of its keys, others not."""
    return st.fixed_dictionaries(values).map(lambda made: {key: one for key, one in made.items() if one is not None})


OF_AGENT = {"max_steps": COUNTS, "max_tool_calls": COUNTS, "max_tokens": TOKENS, "max_usd": USD}


def listed(patterns: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    lists = st.lists(st.sampled_from(patterns), max_size=3).map(tuple)
    return said(allow=st.none() | lists, deny=st.none() | st.lists(st.sampled_from(patterns), max_size=2).map(tuple))


PRICE = st.fixed_dictionaries({"input": st.integers(0, 9).map(Decimal), "output": st.integers(0, 9).map(Decimal)})
RESERVED = ("steps", "tool_calls", "tokens", "usd", "seconds")
SECTIONS = said(
    name=st.sampled_from(["org", "team", "run"]),
    limits=said(**OF_AGENT, max_agents=COUNTS, max_seconds=SECONDS, max_idle_seconds=SECONDS),
    reserve=said(steps=COUNTS, tool_calls=COUNTS, tokens=TOKENS, usd=USD, seconds=SECONDS),
    per_agent=said(**OF_AGENT),
    agents=st.dictionaries(st.sampled_from(AGENTS), said(**OF_AGENT), max_size=3),
    tools=listed((*TOOLS, "read_*", "*_a", "*", "[rs]*")),
    tool_limits=st.dictionaries(st.sampled_from(TOOLS), said(max_tool_calls=COUNTS, max_seconds=SECONDS), max_size=2),
    models=listed((*MODELS, "p:*", "*:small")),
    prices=st.dictionaries(st.sampled_from(MODELS), PRICE, max_size=2),
    completion_default=st.none() | st.integers(300, 900),
    completion_min=st.none() | st.integers(1, 300),
    attempts=st.none() | st.integers(1, 10),
    durability=st.sampled_from([None, "write_ahead", "relaxed"]),
    reliability=said(
        threshold=st.sampled_from([None, 0.0, 0.7, 0.85, 0.99]),
        confidence=st.sampled_from([None, 0.5, 0.95, 0.99]),
        unknown=st.sampled_from([None, "crew", "shadow", "workflow"]),
        fallback=st.sampled_from([None, "never", "on_failure", "on_reliability"]),
        require_fallback=st.sampled_from([None, True, False]),
        targets=said(usd=USD.filter(lambda usd: usd != 0), seconds=SECONDS),
        alarm_after=st.none() | st.integers(100, 20_000),
        probes=st.sampled_from([None, 0.1, 0.5, 1.0]),
    ),
)


def made_of(values: dict[str, Any]) -> Policy:
    """A policy whose reserve fits its limits."""
    caps, tools = values["limits"], {**values["tools"], "limits": values["tool_limits"]}
    reserve = {name: min(part, caps.get(f"max_{name}", part)) for name, part in values["reserve"].items()}
    others = {name: value for name, value in values.items() if name != "tool_limits"}
    return Policy.model_validate({**others, "reserve": reserve, "tools": tools})


def sparse(seed: int) -> Policy:
    """A policy that says a third of what it could, with room to act: most stacks of these admit something."""
    dice = Random(seed)

    def some(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if dice.random() < 0.35}

    def limits() -> dict[str, Any]:
        usd = Decimal(dice.randint(50, 300)) / 100
        return some(
            max_steps=dice.randint(1, 12),
            max_tool_calls=dice.randint(1, 12),
            max_tokens=dice.randint(300, 4_000),
            max_usd=usd,
        )

    def lists(*patterns: str) -> dict[str, Any]:
        return some(allow=tuple(dice.sample(patterns, dice.randint(2, 5))), deny=(dice.choice(patterns[-4:]),))

    agents = {name: limits() for name in AGENTS if dice.random() < 0.4}
    tool_limits = {name: some(max_tool_calls=dice.randint(1, 6)) for name in TOOLS if dice.random() < 0.3}
    parts = {"steps": dice.randint(0, 4), "tool_calls": dice.randint(0, 4), "tokens": dice.randint(0, 300)}
    own = limits()
    reserve = {name: min(part, own.get(f"max_{name}", part)) for name, part in some(**parts).items()}
    return Policy.model_validate(
        {
            "limits": own,
            "reserve": reserve,
            "per_agent": limits(),
            "agents": agents,
            "tools": {**lists("*", "read_*", "*_a", "[rs]*", *TOOLS), "limits": tool_limits},
            "models": lists("*", "p:*", "*:small", "?:*", *MODELS),
            **some(completion_default=dice.randint(300, 900), completion_min=dice.randint(1, 300)),
        }
    )


SPARSE = st.integers(0, 1 << 32).map(sparse)
POLICIES = SECTIONS.map(made_of) | SPARSE
STACKS = st.lists(POLICIES, min_size=1, max_size=3)


def stacked(layers: list[Policy]) -> Policy:
    made = layers[0]
    for layer in layers[1:]:
        made = tightened(made, layer)
    return made


def ledgers(policy: Policy, agent: str, tool: str | None, used: Meter, *, fallback: bool) -> list[Ledger]:
    """The scopes of one action, each with this much used: run, side, agent and tool."""
    caps = policy.limits.caps()
    side = caps.minus(policy.reserve.caps()) if fallback else caps
    own = f"{'node' if '/' in agent else 'agent'}:{agent}"
    scopes = {"run": caps._replace(agents=NO_CAP), "crew": side, own: policy.caps_of(own)}
    if tool:
        scopes[f"tool:{tool}"] = policy.caps_of(f"tool:{tool}")
    return [Ledger(scope, caps, used) for scope, caps in scopes.items()]


def terms(policy: Policy) -> Terms:
    """How long completions may be by what the layer itself says; a default is nobody's word."""
    told = {name: getattr(policy, name) for name in ("completion_default", "completion_min")}
    return Terms(
        told["completion_default"] if "completion_default" in policy.model_fields_set else 1 << 40,
        told["completion_min"] if "completion_min" in policy.model_fields_set else 1,
    )


def admitted(policy: Policy, action: ModelCall | ToolCall, used: Meter, how: Terms) -> Usage | Shortfall | None:
    """What the policy lets the action reserve; None where a rule denies it."""
    if judge(policy, action).effect != "allow":
        return None
    tool = action.tool if isinstance(action, ToolCall) else None
    scopes = ledgers(policy, action.agent, tool, used, fallback=True)
    if isinstance(action, ToolCall):
        return fit_tool_call(scopes) or Usage(tool_calls=1)
    wanted = action.max_tokens or how.completion_default
    return fit_model_call(scopes, action, wanted, min(how.completion_min, wanted), 1)


USED = st.builds(
    Meter,
    agents=st.integers(0, 4),
    steps=st.integers(0, 8),
    tool_calls=st.integers(0, 8),
    input_tokens=st.integers(0, 800),
    output_tokens=st.integers(0, 800),
    nano_usd=st.integers(0, NANO),
)
PRICED = st.none() | st.builds(lambda rate: Rates(Rate(rate), Rate(4 * rate)), st.integers(0, 10**10))
WISHES = st.tuples(st.integers(1, 300), st.none() | st.integers(1, 800), PRICED)


def actions(prompt: int, wanted: int | None, rates: Rates | None) -> Iterator[ModelCall | ToolCall]:
    """Every agent with every model and tool, strangers included."""
    for agent in (*AGENTS, "cy"):
        for model in (*MODELS, "r:other"):
            yield ModelCall(agent, model, prompt, wanted, rates=rates)
        for tool in (*TOOLS, "other"):
            yield ToolCall(agent, tool)


@settings(max_examples=100, deadline=None)
@given(layers=st.lists(SPARSE, min_size=2, max_size=4), wish=WISHES, used=st.lists(USED, max_size=4))
def test_what_a_stack_admits_every_member_alone_admits(
    layers: list[Policy], wish: tuple[int, int | None, Rates | None], used: list[Meter]
) -> None:
    """Names, models, prices, caps of the run, the crew, the agent and the tool; and never more of it."""
    made = stacked(layers)
    for action, spent in product(actions(*wish), [Meter(), *used]):
        answer = admitted(made, action, spent, terms(made))
        for member in layers if isinstance(answer, Usage) else ():
            alone = admitted(member, action, spent, terms(member))
            assert isinstance(alone, Usage), (action, member, alone)
            assert cast(Usage, answer).output_tokens <= alone.output_tokens


@settings(max_examples=60, deadline=None)
@given(layers=STACKS, used=st.integers(0, 12))
def test_a_stack_has_the_tightest_of_everything_else(layers: list[Policy], used: int) -> None:
    """Agents, deadlines, attempts, durability, a tool's clock and what a model costs."""
    made = stacked(layers)
    grows = fit_agent(ledgers(made, "ann", None, Meter(agents=used), fallback=False)) is None
    for member in layers:
        assert not grows or fit_agent(ledgers(member, "ann", None, Meter(agents=used), fallback=False)) is None
        for name in ("max_seconds", "max_idle_seconds"):
            cap = getattr(member.limits, name)
            assert cap is None or getattr(made.limits, name) <= cap
        if member.limits.max_seconds is not None:
            kept = member.limits.max_seconds - member.reserve.seconds
            assert made.limits.max_seconds - made.reserve.seconds <= kept
        for name in member.model_fields_set & {"attempts", "completion_default"}:
            assert getattr(made, name) <= getattr(member, name)
        assert made.durability == "write_ahead" or "write_ahead" not in member.model_dump(exclude_unset=True).values()
        for tool, limits in member.tools.limits.items():
            assert limits.max_seconds is None or made.tools.limits[tool].max_seconds <= limits.max_seconds
        for model, price in member.prices.items():
            assert made.prices[model].input >= price.input
            assert made.prices[model].output >= price.output
    for part in RESERVED:
        cap = getattr(made.limits, f"max_{part}")
        assert cap is None or getattr(made.reserve, part) <= cap


@settings(max_examples=60, deadline=None)
@given(a=POLICIES, b=POLICIES, c=POLICIES)
def test_layers_make_the_same_however_they_are_put_together(a: Policy, b: Policy, c: Policy) -> None:
    """Associative and idempotent; the order only names it, and names no other hash."""
    left, right = tightened(tightened(a, b), c), tightened(a, tightened(b, c))
    assert left == right
    assert left.hash == right.hash == tightened(c, tightened(b, a)).hash
    assert tightened(a, a).hash == a.hash
    assert tightened(left, b).hash == left.hash
    assert not [one for one in differences(left, right) if one.change != "changed"]


@settings(max_examples=60, deadline=None)
@given(a=POLICIES, b=POLICIES)
def test_a_stack_is_never_called_looser_and_nothing_in_it_is_at_fault(a: Policy, b: Policy) -> None:
    """What diff says of a member and its stack, and what check says of a layer that copies the stack."""
    made = tightened(a, b)
    for member in (a, b):
        looser = [one.key for one in differences(member, made) if one.change == "looser"]
        # A reserve is cut to its cap; a default gives way to whoever says something.
        rules = member.reliability.model_fields_set
        assert not [
            key
            for key in looser
            if key[0] != "reserve"
            and (len(key) > 1 or key[0] in member.model_fields_set)
            and (key[0] != "reliability" or key[1] in rules)
        ]
    assert not [fault for fault in faults(made, made) if "looser" in fault.message]
    assert list(values_of(made))


def policy(**values: Any) -> Policy:
    return Policy.model_validate(values)


def told(above: Policy | None, own: Policy) -> dict[str, str]:
    return {".".join(map(str, fault.key)): fault.message for fault in faults(above, own)}


@given(STACKS, st.sampled_from([*AGENTS, "eve"]), st.sampled_from([None, Rates()]))
def test_what_a_policy_may_not_deny_it_lets_through(layers: list[Policy], agent: str, rates: Rates | None) -> None:
    """The gate doesn't ask it: no such tool, no model with or without a price would have been turned down."""
    made = stacked(layers)
    calls = [ModelCall(agent, model, 10, rates=rates) for model in (*MODELS, "other:model")]
    for action in (*calls, *(ToolCall(agent, tool) for tool in (*TOOLS, "other")), Spawn(agent)):
        assert made.may_deny(action) or judge(made, action).effect == "allow"


def test_a_policy_that_only_limits_is_not_asked() -> None:
    """Caps are the ledgers' business; a list, a rule, or a dollar cap where a price is unknown, is asked for."""
    tool, priced, unpriced = (
        ToolCall("ann", "shell"),
        ModelCall("ann", "p:m", 1, rates=Rates()),
        ModelCall("ann", "p:m", 1),
    )
    calls = (tool, priced, unpriced)

    def asked(**told: Any) -> list[bool]:
        return [policy(**told).may_deny(call) for call in calls]

    assert asked(limits={"max_tokens": 5, "max_steps": 1}, per_agent={"max_steps": 1}) == [False, False, False]
    assert asked(limits={"max_usd": "1"}) == asked(agents={"ann": {"max_usd": "1"}}) == [False, False, True]
    assert asked(tools={"allow": []}) == asked(tools={"deny": ["shell"]}) == [True, False, False]
    assert asked(tools={"rules": {"shell": [{"argument": "x", "most": 3}]}}) == [True, False, False]
    assert asked(models={"allow": ["p:*"]}) == asked(models={"deny": ["q"]}) == [False, True, True]


def test_a_copy_of_a_policy_works_out_its_own_values() -> None:
    """What was worked out of the old values, caps and prices among it, is not taken along."""
    old = policy(limits={"max_steps": 3, "max_usd": "1"}, per_agent={"max_steps": 2})
    for name in (worked_out := [name for name, kind in vars(Policy).items() if isinstance(kind, cached_property)]):
        getattr(old, name)
    new = policy(limits={"max_steps": 9}, per_agent={"max_steps": 7}, tools={"allow": []}, completion_default=300)
    copied = old.model_copy(update={name: getattr(new, name) for name in Policy.model_fields})
    assert len(worked_out) > 5
    assert {name: getattr(copied, name) for name in worked_out} == {name: getattr(new, name) for name in worked_out}
    assert copied.caps_of("agent:ann").steps == 7


def test_an_agent_that_only_a_child_names_stays_below_its_parents_per_agent() -> None:
    """per_agent holds for whoever a layer doesn't name."""
    made = tightened(policy(per_agent={"max_steps": 8}), policy(agents={"ann": {"max_usd": "1"}}))
    assert (made.agents["ann"].max_steps, made.agents["ann"].max_usd) == (8, 1)
    assert made.per_agent.max_steps == 8


def test_lists_of_patterns_are_kept_side_by_side_until_one_says_it_all() -> None:
    """read_* and *_file allow what matches both; a list of names within them needs no other."""
    made = tightened(policy(tools={"allow": ["read_*"]}), policy(tools={"allow": ["*_file"]}))
    answers = {name: judge(made, ToolCall("a", name)).effect for name in ("read_file", "read_web", "write_file")}
    assert answers == {"read_file": "allow", "read_web": "deny", "write_file": "deny"}
    assert (made.tools.allow, made.tools.allow_also) == (("read_*",), (("*_file",),))
    only = tightened(made, policy(tools={"allow": ["read_file"]}))
    assert (only.tools.allow, only.tools.allow_also) == (("read_file",), ())
    assert tightened(only, policy(tools={"allow": []})).tools.allow == ()


def test_a_default_is_nobodys_word() -> None:
    """A layer that says no attempts doesn't hold its child to 3; one that says 3 does."""
    child = policy(attempts=5, durability="relaxed", completion_min=64)
    assert tightened(policy(), child).attempts == 5
    assert tightened(policy(), child).durability == "relaxed"
    assert tightened(policy(attempts=3), child).attempts == 3
    assert tightened(policy(completion_min=128), child).completion_min == 128


def test_a_reserve_never_passes_the_cap_that_a_child_lowers() -> None:
    """8 of 20 kept back, then at most 5: all 5 are kept back, so the crew is as tight as it gets."""
    made = tightened(policy(limits={"max_steps": 20}, reserve={"steps": 8}), policy(limits={"max_steps": 5}))
    assert made.limits.caps().minus(made.reserve.caps()).steps == 0
    assert made.reserve.steps == 5


def test_the_hash_is_of_what_is_allowed() -> None:
    """Not of the name, the spelling of a number, the order of a list or an entry that changes nothing."""
    one = policy(name="a", limits={"max_usd": "0.50"}, tools={"deny": ["x", "y"]}, per_agent={"max_steps": 2})
    two = policy(
        name="b",
        limits={"max_usd": "0.5"},
        tools={"deny": ["y", "x"], "limits": {"z": {}}},
        per_agent={"max_steps": 2},
        agents={"ann": {"max_steps": 2}},
        attempts=3,
    )
    assert one.hash == two.hash
    assert one.hash != policy(name="a", limits={"max_usd": "0.50"}).hash
    assert policy(tools={"allow": []}).hash != policy().hash


def test_what_both_names_of_an_agent_say_is_a_part_of_the_hash() -> None:
    """An entry that says what per_agent does takes something from an agent that another entry names, too."""
    usual, more = {"max_steps": 5}, {"max_steps": 9}
    for either, other in (("ann", "read/ann"), ("read/ann", "ann")):
        one, two = (policy(per_agent=usual, agents=agents) for agents in ({either: more}, {either: more, other: usual}))
        assert (one.caps_of("node:read/ann").steps, two.caps_of("node:read/ann").steps) == (9, 5)
        assert one.hash != two.hash
    assert policy(per_agent=usual).hash == policy(per_agent=usual, agents={"read/ann": usual}).hash


def test_an_agent_inside_of_a_node_is_held_by_both_of_its_names() -> None:
    """Limit by limit the tighter; an agent of the crew that is called so has one name, and a node none."""
    made = policy(
        per_agent={"max_steps": 1},
        agents={"read/ann": {"max_steps": 3, "max_usd": "1"}, "ann": {"max_steps": 2, "max_tokens": 9}},
    )
    caps = made.caps_of("node:read/ann")
    assert (caps.steps, caps.tokens, caps.nano_usd) == (2, 9, NANO)
    assert made.caps_of("agent:read/ann").steps == 3
    assert (made.caps_of("node:write/ann").steps, made.caps_of("node:read/bob").steps) == (2, 1)
    assert made.caps_of("node:ann").steps == NO_CAP
    unpriced = [judge(made, ModelCall(agent, "p:m", 1)).effect for agent in ("read/ann", "write/ann", "ann")]
    assert unpriced == ["deny", "allow", "allow"]


def test_dollars_are_looked_for_in_an_agents_own_scope() -> None:
    """A crew's agent with a slash in its name is not the one that the policy caps."""
    made = policy(agents={"ann": {"max_usd": "1"}})
    call = ModelCall("read/ann", "p:m", 1)
    assert [judge(made, call, None, scope).effect for scope in ("node:read/ann", "agent:read/ann", "")] == [
        "deny",
        "allow",
        "allow",
    ]


def test_the_steps_of_a_crews_own_agents_hold_for_nobody_else() -> None:
    """The lower of both counts; what changes nothing makes no other policy."""
    made = policy(per_agent={"max_steps": 9}, agents={"bob": {"max_steps": 2, "max_usd": "1"}}).sourced(
        {("per_agent",): "org.yaml:1"}
    )
    capped = made.with_steps({"ann": 1, "bob": 5, "read/eve": 3})
    scopes = ("agent:ann", "node:read/ann", "agent:bob", "node:read/bob", "agent:read/eve", "node:read/eve")
    assert [capped.caps_of(scope).steps for scope in scopes] == [1, 9, 2, 2, 3, 9]
    more = capped.with_steps({"ann": 4, "read/eve": 0})
    assert [more.caps_of(scope).steps for scope in ("agent:ann", "agent:read/eve")] == [1, 0]
    assert capped.caps_of("agent:bob") == made.caps_of("agent:bob")
    assert (capped.agents, capped.sources) == (made.agents, made.sources)
    assert len({made.hash, capped.hash, made.with_steps({"ann": 2}).hash}) == 3
    assert made.with_steps({}) is made.with_steps({"bob": 7}) is made


def test_limits_of_a_scope_take_the_place_of_what_the_policy_says_by_name() -> None:
    """Even where they are more; tools and whole nodes have their own."""
    made = policy(agents={"ann": {"max_steps": 2, "max_tokens": 7}}, tools={"limits": {"look": {"max_tool_calls": 4}}})
    scoped = made.limiting({scope: AgentLimits(max_steps=5) for scope in ("node:read/ann", "tool:look", "run")})
    caps = scoped.caps_of("node:read/ann")
    assert (caps.steps, caps.tokens) == (5, NO_CAP)
    assert (scoped.caps_of("agent:ann").steps, scoped.caps_of("tool:look").tool_calls) == (2, 4)
    assert scoped.caps_of("node:read").steps == NO_CAP
    assert scoped.model_copy(update={"attempts": 1}).caps_of("node:read/ann").steps == 5


@given(st.lists(st.none() | st.integers(0, 9), min_size=2, max_size=2), st.sampled_from(sorted(OF_AGENT)))
def test_limits_within_others_are_the_lesser_of_both(caps: list[int | None], limit: str) -> None:
    """Limit by limit; absent is no limit."""
    one, two = (AgentLimits.model_validate({} if cap is None else {limit: cap}) for cap in caps)
    both = one.within(two).caps()
    assert both == one.caps().within(two.caps()) == two.within(one).caps()
    assert one.within(two).model_fields_set <= {limit}


def test_a_changed_copy_is_another_policy() -> None:
    """With a hash of its own, and without the lines that its values no longer come from."""
    one = policy(attempts=2).sourced({("attempts",): "org.yaml:1"})
    two = one.model_copy(update={"attempts": 1}) if one.hash else one
    assert two.hash == policy(attempts=1).hash != one.hash
    assert (one.sources["attempts",], two.sources.get(("attempts",))) == ("org.yaml:1", None)
    assert one == policy(attempts=2)


@pytest.mark.parametrize(
    ("above", "own", "key", "words"),
    [
        ({"limits": {"max_usd": "5"}}, {"limits": {"max_usd": "5.01"}}, "limits.max_usd", "expected at most 5"),
        ({"attempts": 2}, {"attempts": 3}, "attempts", "3 is looser than 2"),
        ({"durability": "write_ahead"}, {"durability": "relaxed"}, "durability", "expected write_ahead"),
        ({"completion_min": 64}, {"completion_min": 32}, "completion_min", "expected at least 64"),
        ({"reserve": {"usd": "0.5"}}, {"reserve": {"usd": "0.2"}}, "reserve.usd", "expected at least 0.5"),
        (
            {"prices": {"m": {"input": 1, "output": 2}}},
            {"prices": {"m": {"input": 1, "output": 1}}},
            "prices.m.output",
            "at least 2",
        ),
        ({"per_agent": {"max_steps": 3}}, {"agents": {"ann": {"max_steps": 4}}}, "agents.ann.max_steps", "per_agent"),
        ({"agents": {"ann": {"max_steps": 3}}}, {"agents": {"ann": {"max_steps": 4}}}, "agents.ann.max_steps", "3"),
        ({"reserve": {"steps": 4}}, {"limits": {"max_steps": 3}}, "limits.max_steps", "expected at least 4"),
        ({"limits": {"max_steps": 3}}, {"reserve": {"steps": 4}}, "reserve.steps", "expected at most 3"),
        ({"completion_min": 64}, {"completion_default": 50}, "completion_default", "expected at least 64"),
        ({"tools": {"allow": ["read_*"]}}, {"tools": {"allow": ["read_a", "mail"]}}, "tools.allow.1", "[read_*]"),
        ({"tools": {"deny": ["mail*"]}}, {"tools": {"allow": ["mail_all"]}}, "tools.allow.0", "deny has mail*"),
        ({"models": {"allow": ["p:*"]}}, {"models": {"allow": ["q:*"]}}, "models.allow.0", "never take effect"),
        ({"tools": {"deny": ["x"]}}, {"tools": {"limits": {"x": {}}}}, "tools.limits.x", "x is denied"),
        (
            {"models": {"deny": ["m"]}},
            {"prices": {"m": {"input": 1, "output": 1}}},
            "prices.m",
            "m is denied by the policy's models.deny",
        ),
        ({"limits": {"max_steps": 5}}, {"per_agent": {"max_steps": 6}}, "per_agent.max_steps", "never take effect"),
        ({}, {"limits": {"max_usd": "1"}, "agents": {"a": {"max_usd": "2"}}}, "agents.a.max_usd", "expected at most 1"),
        (
            {},
            {"limits": {"max_seconds": 5}, "tools": {"limits": {"x": {"max_seconds": 6}}}},
            "tools.limits.x.max_seconds",
            "limits.max_seconds is 5",
        ),
        ({}, {"limits": {"max_seconds": 5, "max_idle_seconds": 6}}, "limits.max_idle_seconds", "never take effect"),
        ({}, {"tools": {"allow": ["a"], "limits": {"b": {}}}}, "tools.limits.b", "not among"),
        (
            {"agents": {"ann": {"max_steps": 2}}},
            {"agents": {"read/ann": {"max_steps": 3}}},
            "agents.read/ann.max_steps",
            "never take effect: agents.ann.max_steps is 2; expected at most 2",
        ),
    ],
)
def test_what_is_wrong_with_a_layer(above: dict[str, Any], own: dict[str, Any], key: str, words: str) -> None:
    """Looser than above, at odds with it, or never of effect: one fault, at the key of the lower layer."""
    found = told(policy(**above), policy(**own))
    assert list(found) == [key]
    assert words in found[key]


def test_equal_and_tighter_values_are_no_fault() -> None:
    """A child may repeat its parent, and may say less of anything."""
    above = policy(
        limits={"max_steps": 5, "max_seconds": 9},
        tools={"allow": ["read_*", "mail"], "deny": ["shell"], "limits": {"mail": {"max_tool_calls": 2}}},
        prices={"m": {"input": 1, "output": 2}},
        reserve={"steps": 1},
    )
    own = policy(
        limits={"max_steps": 4, "max_idle_seconds": 9},
        tools={"allow": ["*_file", "mail"], "deny": ["x"], "limits": {"mail": {"max_tool_calls": 1}}},
        prices={"m": {"input": 2, "output": 2}, "n": {"input": 0, "output": 0}},
        reserve={"steps": 2},
    )
    assert not faults(above, above)
    assert not faults(above, own)
    assert not faults(above, tightened(above, own))


def test_agents_and_tools_that_a_crew_has_not_got_are_named() -> None:
    """With the likely word, where there is one; tools only where they are known."""
    made = policy(agents={"writter": {}, "critic": {}}, tools={"limits": {"serch": {}}})
    search = ToolSpec("search", "", {"type": "object", "properties": {"query": {}}})
    found = strangers(made, ["writer", "critic"], [search])
    assert found == [
        "agents.writter: the crew has no agent of this name; did you mean writer?",
        "tools.limits.serch: the crew has no tool of this name; did you mean search?",
    ]
    assert len(strangers(made, ["writer", "critic"], None)) == 1
    assert strangers(policy(agents={"critc": {}}), ["read/critic", "critic"], None, "workflow") == [
        "agents.critc: the workflow has no agent of this name; did you mean critic?"
    ]


def test_a_rule_with_a_typing_error_is_told() -> None:
    """A name that is nearly a tool's, an argument that the tool hasn't got; rules for other crews are not."""
    send = ToolSpec("send_money", "", {"type": "object", "properties": {"amount": {}}})
    rules = {
        "send_mony": [{"argument": "amount", "most": 5}],
        "fetch": [{"argument": "url", "prefix": "x"}],
        "send_*": [{"argument": "amuont", "most": 5, "optional": True}, {"argument": "amount", "most": 9}],
    }
    made = policy(tools={"rules": rules, "deny": ["send_moneyy", "delete_all"]})
    assert strangers(made, [], [send]) == [
        "tools.rules: the crew has no tool send_mony; is send_money meant?",
        "tools.deny: the crew has no tool send_moneyy; is send_money meant?",
        "tools.rules.send_*.0: send_money has no argument 'amuont'; it has amount",
    ]


def test_a_price_of_a_lower_layer_does_not_stretch_a_dollar_cap():
    """Whichever of the two layers is the outer one: what the capped one doesn't price yields to the price table."""
    capped = Policy.model_validate({"limits": {"max_usd": 5}, "prices": {"mine": {"input": 1, "output": 2}}})
    cheap = Policy.model_validate({"prices": {"openai:gpt-4.1": {"input": 0, "output": 0}}})
    assert tightened(capped, cheap).yielding == tightened(cheap, capped).yielding == {"openai:gpt-4.1"}
    assert tightened(capped, cheap).hash == tightened(cheap, capped).hash != capped.hash
    assert tightened(tightened(capped, cheap), Policy()).yielding == {"openai:gpt-4.1"}
    assert tightened(Policy(), cheap).yielding == set()


def test_a_copy_of_rules_on_arguments_goes_by_its_own():
    """Also where those that it was copied from were looked up before."""

    def rules(prefix: str) -> Policy:
        return policy(tools={"rules": {"send": [{"argument": "to", "prefix": prefix}]}})

    old, new, call = rules("eve"), rules("ann"), ToolCall("bob", "send", '{"to": "eve"}')
    assert judge(old, call).effect == "allow"
    copied = old.model_copy(update={"tools": old.tools.model_copy(update={"rules": new.tools.rules})})
    assert judge(copied, call).effect == judge(new, call).effect == "deny"
    assert copied.hash == new.hash
