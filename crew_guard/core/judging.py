"""Whether a policy lets an action through: judged purely, and before any limit is looked at."""

from __future__ import annotations

from crew_guard.core.actions import Action, ModelCall, ToolCall
from crew_guard.core.argument_rules import judge_arguments
from crew_guard.core.decisions import ALLOWED, Decision
from crew_guard.core.known import Known
from crew_guard.core.patterns import matches
from crew_guard.core.policy import ModelRules, Policy, ToolRules


def judge(policy: Policy, action: Action, known: Known | None = None, scope: str = "") -> Decision:
    """Whether the policy lets this action through, before any limit is looked at.

    Args:
        known: what the run was told by its user and by trusted tools
        scope: the agent's own; by default that of an agent of the crew
    """
    if isinstance(action, ToolCall):
        decision = _listed(policy, "tools", (action.tool,), policy.tools)
        if decision.effect != "allow" or not policy.tools.rules or not (rules := policy.tools.rules_for(action.tool)):
            return decision
        return judge_arguments(rules, action.tool, action.arguments, known)
    if not isinstance(action, ModelCall):
        return ALLOWED
    decision = _listed(policy, "models", action.names, policy.models)
    if (
        decision.effect == "allow"
        and action.rates is None
        and _capped_in_dollars(policy, scope or f"agent:{action.agent}")
    ):
        unknown = f"no price is known for {_told(action.names)}"
        reason = f"{unknown}, and a dollar cap applies: give it one under prices: in the policy"
        return Decision("deny", "max_usd", reason)
    return decision


def _listed(policy: Policy, section: str, names: tuple[str, ...], rules: ToolRules | ModelRules) -> Decision:
    """Whether lists let something through: no name that it has may be denied, and one of them must be allowed."""
    for place, pattern in enumerate(rules.deny):
        if any(matches(name, (pattern,)) for name in names):
            reason = f"{_told(names)} is denied by the policy's {section}.deny"
            return Decision("deny", f"{section}.deny", reason, policy.sources.get((section, "deny", place), ""))
    if rules.allow is not None and not any(matches(name, rules.allow) for name in names):
        return _not_allowed(policy, section, names, rules.allow, (section, "allow"))
    for place, patterns in enumerate(rules.allow_also):
        if not any(matches(name, patterns) for name in names):
            return _not_allowed(policy, section, names, patterns, (section, "allow_also", place))
    return ALLOWED


def _told(names: tuple[str, ...]) -> str:
    """What its user calls it, and what it calls itself where that is something else."""
    return names[0] if len(names) == 1 else f"{names[0]} ({names[1]})"


def _not_allowed(
    policy: Policy, section: str, names: tuple[str, ...], patterns: tuple[str, ...], key: tuple[str | int, ...]
) -> Decision:
    reason = f"{_told(names)} is not among the policy's {section}.allow: {', '.join(patterns) or 'none'}"
    return Decision("deny", f"{section}.allow", reason, policy.sources.get(key, ""))


def _capped_in_dollars(policy: Policy, scope: str) -> bool:
    return any(limits.max_usd is not None for limits in (policy.limits, policy.limits_in(scope)))
