"""What an event says to a person, in one line.

A Teller folds a run's events and words each of them. Text of models, tools and users is untrusted:
it loses its control characters before anyone sees it, and is never read as markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

from crew_guard.core.decisions import Stop
from crew_guard.core.events import (
    Admitted,
    ApprovalAsked,
    ApprovalGiven,
    Compensated,
    Compensating,
    Event,
    FellBack,
    Guarded,
    Judged,
    Latched,
    NodeFinished,
    NodeStarted,
    Queued,
    Refused,
    Routed,
    RunEnded,
    RunStarted,
    Settled,
    TakenOver,
)
from crew_guard.core.limits import NO_CAP, POLICY_NAMES, Caps
from crew_guard.core.run import RunState, apply
from crew_guard.core.usage import NANO, Usage

Tone: TypeAlias = Literal["plain", "good", "bad", "warn"]

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x1b\\|\x07|$)|[ -/]*[0-~])", re.DOTALL)
# Bidirectional overrides reorder what is read; plain direction marks and joiners belong to scripts.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_UNITS = {"steps": "step", "tool_calls": "tool call", "tokens": "token", "agents": "agent"}


def clean(text: str, longest: int | None = None) -> str:
    """Text that can't steer a terminal: no escapes, no control characters, no invisible reordering.

    Args:
        text: whatever a model, a tool or a user wrote
        longest: makes it one line of at most this many characters; absent keeps its lines
    """
    text = _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    if longest is None:
        return text
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def escaped(text: str) -> str:
    """Text that can't steer a terminal, where it matters what it holds: control characters as Python writes them."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def dollars(nano_usd: int) -> str:
    """Money as people write it: cents from ten cents on, else two digits that say something."""
    usd = nano_usd / NANO
    if usd == 0 or abs(usd) >= 0.1:  # noqa: PLR2004 - ten cents, see above
        return f"${usd:,.2f}"
    return f"${usd:.7f}".rstrip("0")


def seconds(value: float) -> str:
    """A duration: 0.04s, 3.2s, 95s."""
    return f"{value:.2f}s" if value < 1 else f"{value:.1f}s" if value < 60 else f"{value:,.0f}s"  # noqa: PLR2004 - a minute


def count(number: int, thing: str) -> str:
    """A number with its noun: 1 step, 2 steps."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def caps_words(caps: Caps, max_seconds: float | None) -> str:
    """The caps that are set, in words; "no limits" where none is."""
    parts = [count(getattr(caps, name), unit) for name, unit in _UNITS.items() if getattr(caps, name) < NO_CAP]
    if caps.nano_usd < NO_CAP:
        parts.append(dollars(caps.nano_usd))
    if max_seconds is not None:
        parts.append(seconds(max_seconds))
    return ", ".join(parts) or "no limits"


def usage_words(used: Usage) -> str:
    """Tokens as input+output, and money where there was any."""
    cost = f", {dollars(used.nano_usd)}" if used.nano_usd else ""
    return f"{used.input_tokens:,}+{used.output_tokens:,} tokens{cost}"


def call_words(tool: str, arguments: str, longest: int = 60) -> str:
    """A tool call as code: search("gzip")."""
    try:
        values: Any = json.loads(arguments or "{}")
    except ValueError:
        values = None
    if not isinstance(values, dict):
        return f"{clean(tool, 40)}({clean(arguments, longest)})"
    given = cast(dict[str, Any], values)
    named = len(given) > 1
    parts = [(f"{name}=" if named else "") + json.dumps(value, ensure_ascii=False) for name, value in given.items()]
    return f"{clean(tool, 40)}({clean(', '.join(parts), longest)})"


def stop_words(stop: Stop) -> str:
    """Why something was stopped, safe to show."""
    return clean(str(stop), 300)


def end_words(stop: Stop | None, error: str, longest: int) -> str:
    """Why a run gave no answer, safe to show: its stop, and what failed or is left undone beside it."""
    if stop is None:
        return clean(error, longest)
    beside = clean(error, longest) if stop.reason != "failed" else ""
    return f"{stop_words(stop)}; {beside}" if beside else stop_words(stop)


@dataclass(frozen=True, slots=True)
class Line:
    """What one event says."""

    at: float
    """Seconds since the run began."""
    who: str
    text: str
    tone: Tone = "plain"

    def __str__(self) -> str:
        return f"{self.at:6.1f}s {self.who:<12} {self.text}"


@dataclass(slots=True)
class Teller:
    """Folds the events of one run, and says what each means where it means something to a person."""

    state: RunState = field(default_factory=RunState)

    def tell(self, event: Event) -> Line | None:
        """The line of the next event, or None where it has nothing to say."""
        words = _WORDS.get(type(event))
        said = words(self.state, event) if words else None
        apply(self.state, event)
        if said is None:
            return None
        who, text, tone = said
        started = self.state.started
        return Line(event.at - started.at if started else 0.0, clean(who, 30), text, tone)

    def agents(self) -> list[str]:
        """Everyone who takes part so far, in order of appearance."""
        names = list(self.state.started.members) if self.state.started else []
        return list(dict.fromkeys([*names, *self.state.usage_by_agent()]))

    def doing(self, agent: str) -> str:
        """What an agent does at the moment."""
        for waiting in self.state.queued.values():
            if waiting.agent == agent:
                return f"waits for {_limit_words(waiting.limit)}"
        for held in self.state.open.values():
            if held.event.agent == agent and held.event.kind == "tool_call":
                return call_words(held.event.target, held.event.arguments, 40)
            if held.event.agent == agent and held.event.kind == "model_call":
                return f"asks {clean(held.event.target, 40)}"
        if f"agent:{agent}" in self.state.latches:
            return "stopped"
        return {"finish": "has finished"}.get(self.state.steps_of.get(agent, ""), "")


_Said: TypeAlias = tuple[str, str, Tone] | None


def _limit_words(limit: str) -> str:
    names = {policy_name: name for name, policy_name in POLICY_NAMES.items()}
    return {"nano_usd": "money", "tool_calls": "tool calls"}.get(names.get(limit, limit), names.get(limit, limit))


def _started(_state: RunState, event: RunStarted) -> _Said:
    caps = caps_words(event.caps._replace(agents=event.crew_caps.agents), event.max_seconds)
    return event.crew, f"starts: policy {clean(event.policy, 60)}, at most {caps}", "plain"


def _queued(_state: RunState, event: Queued) -> _Said:
    return event.agent, f"waits for {_limit_words(event.limit)} of {clean(event.scope, 40)} that others hold", "warn"


def _admitted(_state: RunState, event: Admitted) -> _Said:
    if event.kind == "handoff":
        return event.agent, f"hands over to {clean(event.target, 40)}: {clean(event.arguments, 120)}", "plain"
    if event.attempt == 1:
        return None
    return event.agent, f"asks {clean(event.target, 60)} again, attempt {event.attempt}", "warn"


def _refused(_state: RunState, event: Refused) -> _Said:
    return event.agent, f"refused {clean(event.target, 60)}: {stop_words(event.stop)}", "bad"


def _settled(state: RunState, event: Settled) -> _Said:
    held = state.open.get(event.action_id)
    if held is None or held.event.kind in ("spawn", "handoff"):
        return None
    action = held.event
    took = seconds(event.seconds)
    if action.kind == "tool_call":
        call = call_words(action.target, action.arguments)
        if event.status == "ok":
            return action.agent, f"{call} → {clean(event.text, 70) or 'nothing'}  {took}", "plain"
        return action.agent, f"{call} {event.status}: {clean(event.text, 160)}", "bad"
    model = f"{clean(action.target, 60)} {usage_words(event.used)}  {took}"
    if event.status != "ok":
        why = f": {clean(event.text, 160)}" if event.text else ""
        return action.agent, f"think {event.status}{why}  {model}", "bad"
    calls = ", ".join(call_words(one.tool, one.arguments) for one in event.tool_requests)
    return action.agent, f"think → {calls or 'answer'}  {model}", "plain"


def _latched(_state: RunState, event: Latched) -> _Said:
    return clean(event.scope, 60), f"is stopped: {stop_words(event.stop)}", "bad"


def _node_again(_state: RunState, event: NodeStarted) -> _Said:
    if event.attempt > 1:
        return event.workflow, f"{clean(event.node, 40)} again, attempt {event.attempt}", "warn"
    return (event.workflow, f"{clean(event.node, 40)}, round {event.round}", "plain") if event.round > 1 else None


def _node(_state: RunState, event: NodeFinished) -> _Said:
    node = clean(event.node, 40)
    if event.error:
        return event.workflow, f"{node} failed: {clean(event.error, 200)}", "bad"
    taken = f", taken from {clean(event.taken_from, 40)}" if event.taken_from else ""
    return event.workflow, f"{node} done{taken}", "plain"


def _approval_asked(_state: RunState, event: ApprovalAsked) -> _Said:
    return event.workflow, f"{clean(event.node, 40)} waits for approval: {clean(event.what, 200)}", "warn"


def _approval_given(_state: RunState, event: ApprovalGiven) -> _Said:
    word, tone = ("approved", "good") if event.approved else ("turned down", "bad")
    reason = f": {clean(event.reason, 200)}" if event.reason else ""
    return event.workflow, f"{clean(event.node, 40)} {word} by {clean(event.by, 40)}{reason}", cast(Tone, tone)


def _taken_over(_state: RunState, event: TakenOver) -> _Said:
    return event.workflow, f"goes on, done already: {clean(', '.join(event.nodes), 200)}", "plain"


def _compensating(_state: RunState, event: Compensating) -> _Said:
    return event.workflow, f"{clean(event.node, 40)} is being undone", "plain"


def _compensated(_state: RunState, event: Compensated) -> _Said:
    if event.error:
        return event.workflow, f"{clean(event.node, 40)} could not be undone: {clean(event.error, 200)}", "bad"
    return event.workflow, f"{clean(event.node, 40)} undone", "warn"


def _judged(_state: RunState, event: Judged) -> _Said:
    reason = f": {clean(event.reason, 300)}" if event.reason else ""
    reason += f" (it blames {clean(event.blames, 40)})" if event.blames else ""
    word, tone = ("passed", "good") if event.passed else ("failed", "bad")
    return event.agent, f"verdict on {clean(event.task, 40)}: {word}{reason}", cast(Tone, tone)


def _routed(state: RunState, event: Routed) -> _Said:
    crew = state.started.crew if state.started else "run"
    where = {
        "crew": "the crew does it",
        "workflow": "its workflow does it",
        "shadow": "its workflow does it, beside it",
    }
    what = where[event.to] + (" a probe of the crew" if event.probe else " the crew" if event.to == "shadow" else "")
    return crew, f"{what}: {clean(event.why, 300)}", "plain" if event.to == "crew" else "warn"


def _guarded(_state: RunState, event: Guarded) -> _Said:
    what = {"inputs": "the input", "outputs": "the answer to", "tool_results": "the result of"}[event.place]
    did, tone = ("fixed", "warn") if event.outcome == "fix" else ("turned down", "bad")
    reason = f": {clean(event.reason, 300)}" if event.reason else ""
    who = event.agent or "guardrail"
    return who, f"{clean(event.guardrail, 40)} {did} {what} {clean(event.target, 40)}{reason}", cast(Tone, tone)


def _fell_back(state: RunState, event: FellBack) -> _Said:
    crew = state.started.crew if state.started else "run"
    return crew, f"falls back to its workflow: {clean(event.reason, 300)}", "warn"


def _ended(state: RunState, event: RunEnded) -> _Said:
    crew = state.started.crew if state.started else "run"
    if event.status == "done":
        return crew, f"done, by the {event.via}", "good"
    why = end_words(event.stop, event.error, 300)
    return crew, f"{event.status}{': ' + why if why else ''}", "bad"


_WORDS: dict[type[Any], Callable[[RunState, Any], _Said]] = {
    RunStarted: _started,
    Queued: _queued,
    Admitted: _admitted,
    Refused: _refused,
    Settled: _settled,
    Latched: _latched,
    NodeStarted: _node_again,
    NodeFinished: _node,
    TakenOver: _taken_over,
    ApprovalAsked: _approval_asked,
    ApprovalGiven: _approval_given,
    Compensating: _compensating,
    Compensated: _compensated,
    Judged: _judged,
    Routed: _routed,
    Guarded: _guarded,
    FellBack: _fell_back,
    RunEnded: _ended,
}
