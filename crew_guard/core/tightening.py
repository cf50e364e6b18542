"""What layers of policy make together, and what is wrong with a layer below others.

A lower layer can only tighten. Where one file extends another, a looser value is a mistake and
`faults` says so; where layers meet that know nothing of each other, `tightened` takes the tighter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel

from crew_guard.core.actions import ModelCall, ToolCall
from crew_guard.core.decisions import Decision
from crew_guard.core.judging import judge
from crew_guard.core.layers import Key, Merger, Side, pairs
from crew_guard.core.limits import Limits, names_of
from crew_guard.core.merging import ByKey, Every, lists_of, rule_of, word
from crew_guard.core.messages import ToolSpec
from crew_guard.core.patterns import can_meet, covers, is_name
from crew_guard.core.policy import Policy
from crew_guard.core.reliability.counts import TIERS
from crew_guard.core.reliability_rules import below_tier, out_of_reach
from crew_guard.core.usage import FREE

Change: TypeAlias = Literal["tighter", "looser", "changed"]

_ALLOW = Every("allow_also")
_THRESHOLD = ("reliability", "threshold")
_CAPS = {name: f"max_{name}" for name in ("steps", "tool_calls", "tokens", "usd", "seconds")}
"""By part of the reserve: the limit of the run that it is kept back from."""


class Fault(NamedTuple):
    """What is wrong with one key of a layer."""

    key: Key
    value: Any
    expected: str
    message: str
    """Value, expectation and why, in a sentence."""


class Difference(NamedTuple):
    """One key that two policies differ in."""

    key: Key
    change: Change
    before: Any
    after: Any
    absent: str
    """What it means that a value is None or empty."""


class Value(NamedTuple):
    """One value of a policy."""

    key: Key
    value: Any
    absent: str
    """What it means that the value is None or empty."""
    source: str
    """The file and line it comes from, those of an allow-list in its lists' order; empty for a default."""


def tightened(outer: Policy, inner: Policy) -> Policy:
    """The policy that allows what both allow; of equal values the outer one's source is named.

    The reserve is at most its cap: more than everything can't be kept back, and a crew that has
    nothing left is as tight as it gets.
    """
    merger = Merger()
    made = merger.section(Policy, _side(outer), _side(inner))
    reserve = {name: getattr(made.reserve, name) for name in made.reserve.model_fields_set}
    for name, part in reserve.items():
        cap = getattr(made.limits, _CAPS[name])
        if cap is not None and part > cap:
            reserve[name] = cap
            merger.where["reserve", name] = merger.where.get(("limits", _CAPS[name]), "")
    fitted = type(made.reserve).model_construct(_fields_set=set(reserve), **reserve)
    return made.model_copy(update={"reserve": fitted}).sourced(merger.where).priced(_yielding(outer, inner))


def _yielding(outer: Policy, inner: Policy) -> frozenset[str]:
    """Models that only one layer prices, below a dollar cap of the other: a low price would stretch that cap."""
    found = outer.yielding | inner.yielding
    for capped, other in ((outer, inner), (inner, outer)):
        every = (capped.limits, capped.per_agent, *capped.agents.values())
        if any(limits.max_usd is not None for limits in every):
            found |= other.prices.keys() - capped.prices.keys()
    return found


def values_of(policy: Policy) -> Iterator[Value]:
    """Every value of a policy, in the order of its fields; defaults where it says nothing.

    The threshold is the one that counts: that of a tier, where it is above what stands there.
    """
    side = _side(policy)
    for pair in pairs(Policy, side, side):
        value = pair.usual if pair.outer is None else pair.outer
        source = policy.sources.get(pair.key, "")
        if pair.key == _THRESHOLD and (least := policy.reliability.least) is not None and value != least:
            yield Value(pair.key, least, pair.rule.absent, policy.sources.get(("reliability", "tier"), ""))
            continue
        if isinstance(pair.rule, Every):
            others = [policy.sources.get((*pair.key[:-1], pair.rule.rest, i), "") for i in range(len(value) - 1)]
            source = ", ".join(dict.fromkeys(one for one in (source, *others) if one))
        elif isinstance(value, tuple):
            items = [policy.sources.get((*pair.key, i), "") for i in range(len(value))]  # pyright: ignore[reportUnknownArgumentType]
            source = ", ".join(dict.fromkeys(one for one in items if one)) or source
        yield Value(pair.key, value, pair.rule.absent, source)


def differences(before: Policy, after: Policy) -> list[Difference]:
    """Every key that `after` says otherwise than `before`, and whether that is tighter."""
    found: list[Difference] = []
    for pair in pairs(Policy, _side(before), _side(after)):
        one = pair.usual if pair.outer is None else pair.outer
        two = pair.usual if pair.inner is None else pair.inner
        tighter, looser = pair.rule.tightens(one, two), pair.rule.tightens(two, one)
        if tighter and looser:
            continue
        change: Change = "tighter" if tighter else "looser" if looser else "changed"
        found.append(Difference(pair.key, change, one, two, pair.rule.absent))
    return found


def faults(above: Policy | None, own: Policy) -> list[Fault]:
    """What is wrong with a layer: values looser than those above it, and values that can never take effect.

    Args:
        above: what all layers above it make together; None for the outermost
        own: the layer alone
    """
    found = [*_looser(above, own), *_misfits(above, own)] if above else []
    whole = tightened(above, own) if above else own
    found += [*_never_allowed(above, whole, own), *_beyond_the_run(whole, own), *_beyond_its_other_name(whole, own)]
    found += _of_what_is_denied(whole, own)
    found += _unreliable(above, whole, own) if above else []
    first: dict[Key, Fault] = {}
    for fault in found:
        first.setdefault(fault.key, fault)
    return list(first.values())


def used_up(policy: Policy) -> Iterator[tuple[Key, Key]]:
    """(a part of the reserve that leaves nothing of a limit to a crew that has a fallback, that limit)."""
    for part, limit in _CAPS.items():
        kept_back, cap = getattr(policy.reserve, part), getattr(policy.limits, limit)
        if kept_back and cap is not None and kept_back >= cap:
            yield ("reserve", part), ("limits", limit)


def strangers(
    policy: Policy, agents: Collection[str], tools: Collection[ToolSpec] | None, whose: str = "crew"
) -> list[str]:
    """What a policy says of agents, tools and arguments that a crew hasn't got: a typing error, as often as not.

    Lists and rules may well speak of tools that some other crew has: of those only what is nearly a name is told.

    Args:
        policy: what applies
        agents: the crew's, by name, and those inside of its workflow's nodes by each name that a policy may give them
        tools: its agents'; None where nobody knows them
        whose: crew, or workflow where one runs by itself
    """
    specs = {tool.name: tool for tool in tools or ()}
    found = _unknown_names(policy, agents, None if tools is None else specs, whose)
    return found if tools is None else [*found, *_nearly_names(policy, specs), *_unknown_arguments(policy, specs)]


def _unknown_names(policy: Policy, agents: Collection[str], tools: Collection[str] | None, whose: str) -> list[str]:
    named: list[tuple[str, Key, Collection[str]]] = [("agent", ("agents", name), agents) for name in policy.agents]
    if tools is not None:
        named += [("tool", ("tools", "limits", name), tools) for name in policy.tools.limits]
    found: list[str] = []
    for kind, key, known in named:
        name = str(key[-1])
        if name not in known:
            close = get_close_matches(name, known, 1)
            near = f"; did you mean {close[0]}?" if close else ""
            found.append(f"{'.'.join(map(str, key))}{_of(policy, *key)}: the {whose} has no {kind} of this name{near}")
    return found


def _nearly_names(policy: Policy, tools: Collection[str]) -> Iterator[str]:
    rules = policy.tools
    named: list[tuple[str, Key]] = [(name, ("tools", "rules", name)) for name in rules.rules]
    for part, patterns in (("allow", rules.allow), ("deny", rules.deny), ("trusted", rules.trusted)):
        named += [(name, ("tools", part, place)) for place, name in enumerate(patterns or ())]
    for name, key in named:
        close = get_close_matches(name, tools, 1, 0.8) if is_name(name) and name not in tools else []
        if close:
            yield f"{'.'.join(map(str, key[:2]))}{_of(policy, *key)}: the crew has no tool {name}; is {close[0]} meant?"


def _unknown_arguments(policy: Policy, tools: Mapping[str, ToolSpec]) -> Iterator[str]:
    for name, tool in tools.items():
        known = tool.parameters.get("properties")
        if not isinstance(known, dict) or tool.parameters.get("additionalProperties") is True:
            continue
        for told, rule in policy.tools.rules_for(name):
            if rule.argument.partition(".")[0] not in known:
                place = f" ({rule.place})" if rule.place else ""
                yield f"{told}{place}: {name} has no argument {rule.argument!r}; it has {', '.join(known) or 'none'}"  # pyright: ignore[reportUnknownArgumentType]


def words(value: Any) -> str:
    """A value as a file has it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(words(item) for item in value)}]"  # pyright: ignore[reportUnknownVariableType]
    return word(value)


def _side(policy: Policy) -> Side:
    return Side(policy, policy.sources)


def _of(policy: Policy, *key: str | int) -> str:
    source = policy.sources.get(key)
    return f" ({source})" if source else ""


def _looser(above: Policy, own: Policy) -> Iterator[Fault]:
    for pair in pairs(Policy, _side(above), _side(own)):
        rule, outer, inner = pair.rule, pair.outer, pair.inner
        if rule.ordered and pair.inner_said and not rule.tightens(outer, inner):
            expected = rule.expected(outer)
            name = "" if pair.outer_at == pair.key else f"{'.'.join(str(part) for part in pair.outer_at)}, "
            other = f"{name}{words(outer)} of {above.sources.get(pair.outer_at) or 'the layer above'}"
            yield Fault(pair.key, inner, expected, f"{words(inner)} is looser than {other}; expected {expected}")


def _misfits(above: Policy, own: Policy) -> Iterator[Fault]:
    """Values of two layers that one file could not hold together."""
    bounds = [(("reserve", part), ("limits", cap)) for part, cap in _CAPS.items()]
    for low, high in (*bounds, (("completion_min",), ("completion_default",))):
        least, most = _said(own, low), _said(own, high)
        if least is not None and most is None and (cap := _said(above, high)) is not None and least > cap:
            yield _misfit(low, least, f"{'.'.join(high)}, {words(cap)}{_of(above, *high)}", f"at most {words(cap)}")
        if most is not None and least is None and (part := _said(above, low)) is not None and part > most:
            yield _misfit(high, most, f"{'.'.join(low)}, {words(part)}{_of(above, *low)}", f"at least {words(part)}")


def _misfit(key: Key, value: Any, other: str, expected: str) -> Fault:
    return Fault(key, value, expected, f"{words(value)} does not go with the {other} above it; expected {expected}")


def _said(policy: Policy, key: tuple[str, ...]) -> Any:
    section: BaseModel = policy
    for name in key[:-1]:
        section = getattr(section, name)
    return getattr(section, key[-1]) if key[-1] in section.model_fields_set else None


def _never_allowed(above: Policy | None, whole: Policy, own: Policy) -> Iterator[Fault]:
    """Patterns of allow-lists that let nothing through."""
    for section in ("tools", "models"):
        rules, denials = getattr(own, section), getattr(whole, section).deny
        lists = lists_of(getattr(above, section), "allow", _ALLOW) if above else ()
        first = 0 if above and getattr(above, section).allow is not None else 1
        for place, pattern in enumerate(rules.allow or ()):
            key = (section, "allow", place)
            for i, denied in enumerate(denials):
                if covers(denied, pattern):
                    other = f"{section}.deny has {denied}{_of(whole, section, 'deny', i)}"
                    yield _dead(key, pattern, other, "take it away")
            for i, patterns in enumerate(lists, first):
                if above and not any(can_meet(pattern, other) for other in patterns):
                    at = (section, "allow_also", i - 1) if i else (section, "allow")
                    other = f"{section}.allow above it is {words(patterns)}{_of(above, *at)}"
                    yield _dead(key, pattern, other, "expected what one of those matches")


def _beyond_the_run(whole: Policy, own: Policy) -> Iterator[Fault]:
    """Limits of an agent or a tool that the run's own limit comes before."""
    sections: list[tuple[Key, BaseModel]] = [(("per_agent",), own.per_agent)]
    sections += [(("agents", name), limits) for name, limits in own.agents.items()]
    sections += [(("tools", "limits", name), limits) for name, limits in own.tools.limits.items()]
    for at, section in sections:
        for name in sorted(section.model_fields_set & Limits.model_fields.keys()):
            yield from _beyond((*at, name), getattr(section, name), ("limits", name), whole.limits, whole)
    yield from _beyond(
        ("limits", "max_idle_seconds"), own.limits.max_idle_seconds, ("limits", "max_seconds"), whole.limits, whole
    )


def _beyond_its_other_name(whole: Policy, own: Policy) -> Iterator[Fault]:
    """Limits of an agent inside of a node, NODE/AGENT, that those of AGENT come before."""
    for agent, limits in own.agents.items():
        for other in set(names_of(agent)[1:]) & whole.agents.keys():
            for name in sorted(limits.model_fields_set):
                at, value = ("agents", other, name), getattr(limits, name)
                yield from _beyond(("agents", agent, name), value, at, whole.agents[other], whole)


def _beyond(key: Key, value: Any, at: Key, section: BaseModel, whole: Policy) -> Iterator[Fault]:
    """What is wrong with a value that is more than the cap of a section, which stands at this key of the whole."""
    cap = getattr(section, str(at[-1]))
    if value is not None and cap is not None and value > cap:
        other = f"{'.'.join(map(str, at))} is {words(cap)}{_of(whole, *at)}"
        yield _dead(key, value, other, f"expected at most {words(cap)}")


def _unreliable(above: Policy, whole: Policy, own: Policy) -> Iterator[Fault]:
    """Thresholds that go with the confidence or the tier of their own layer, and not with those above it."""
    tier, threshold = whole.reliability.tier, own.reliability.threshold
    if tier is not None and threshold is not None and (why := below_tier(threshold, tier)):
        yield Fault(_THRESHOLD, threshold, f"at least {TIERS[tier]:g}", f"{why}{_of(above, 'reliability', 'tier')}")
    yield from unprovable(above, whole, own)


def unprovable(above: Policy, whole: Policy, own: Policy) -> Iterator[Fault]:
    """What two layers ask of a crew together, and none could prove.

    Args:
        above: what all layers above it make together
        whole: what both come to
        own: the layer alone
    """
    mine, all_in_all = own.reliability, whole.reliability
    for name in ("threshold", "agent_target"):
        value, both = getattr(mine, name), getattr(all_in_all, name)
        if both is None or (value is None and "confidence" not in mine.model_fields_set):
            continue
        if why := out_of_reach(both, all_in_all.confidence):
            key = ("reliability", "confidence" if value is None else name)
            at = ("reliability", name if value is None else "confidence")
            yield Fault(key, _said(own, key), why.partition("; expected ")[2], f"{why}{_of(above, *at)}")


def _of_what_is_denied(whole: Policy, own: Policy) -> Iterator[Fault]:
    """Limits of tools, and prices of models, that may not be called at all."""
    for name in type(own.tools).model_fields:
        if isinstance(rule_of(type(own.tools), name), ByKey):
            for tool in getattr(own.tools, name):
                yield from _denied(("tools", name, tool), judge(whole, ToolCall("", tool)))
    for model in own.prices:
        yield from _denied(("prices", model), judge(whole, ModelCall("", model, 0, rates=FREE)))


def _denied(key: Key, decision: Decision) -> Iterator[Fault]:
    if is_name(str(key[-1])) and decision.rule.endswith((".allow", ".deny")):
        yield _dead(key, None, decision.told, "take it away")


def _dead(key: Key, value: Any, because: str, way_out: str) -> Fault:
    shown = "" if value is None else f"{words(value)} "
    return Fault(key, value, way_out.removeprefix("expected "), f"{shown}can never take effect: {because}; {way_out}")
