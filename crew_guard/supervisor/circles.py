"""Loop detection at the gate, where it holds for every runtime. Under the gate's lock."""

from __future__ import annotations

from msgspec import Struct

from crew_guard.core.actions import Action, Handoff, ModelCall, Outcome, ToolCall
from crew_guard.core.decisions import Stop
from crew_guard.core.loops import Circle, LoopRules, Trail

_TOLD = frozenset({"ok", "failed"})
_WORDS = {
    "same_call": "the same call with the same result, {times} times",
    "same_message": "the same message, {times} times",
    "no_new_information": "{times} calls in a row that were made before, each with the result it had then",
}


class Circles(Struct, gc=False):
    """Follows the agents of one run. What they are to be told waits until they are asked."""

    _rules: LoopRules
    _trails: dict[str, Trail] = {}
    notices: dict[str, str] = {}
    """By agent: what it is to be told before its next model call."""
    repeating: dict[str, None] = {}
    """As keys: agents whose last call told them nothing new: nobody else's calls need a look beforehand."""

    def asks(self, action: ToolCall) -> Stop | None:
        """The refusal of a call that goes round once too often; of its agent's scope where it is stopped for good."""
        trail = self._trails.get(action.agent)
        if trail is None:
            return None
        found = trail.asks(hash((action.tool, action.arguments)), self._rules)
        if found is None:
            return None
        return _stop(found, f"tool:{action.tool}" if found.rung == "refuse" else f"agent:{action.agent}")

    def settled(self, action: Action, outcome: Outcome) -> Stop | None:
        """Note how an action of the crew ended, a model call without tool requests among them.

        Returns:
            the stop of an agent that says the same for ever
        """
        if isinstance(action, ToolCall):
            # First, because it is the half of all actions that costs something here.
            if outcome.status not in _TOLD:
                return None
            trail = self._trails.get(action.agent) or self._trail(action.agent)
            found = trail.called(hash((action.tool, action.arguments)), hash(outcome.text), self._rules)
            if trail.stretch:
                self.repeating[action.agent] = None
            elif self.repeating:
                self.repeating.pop(action.agent, None)
        elif isinstance(action, ModelCall):
            if not outcome.text or outcome.status != "ok":
                return None
            which = action.conversation() if action.conversation is not None else 0
            found = self._trail(action.agent).says(outcome.text, action.prompt_tokens, self._rules, which)
        elif isinstance(action, Handoff) and outcome.status in _TOLD:
            call = hash((action.to, action.words))
            found = self._trail(action.agent).called(call, hash(outcome.text), self._rules)
        else:
            return None
        if found is None:
            return None
        if found.rung == "tell":
            self.notices[action.agent] = f"{_said(found)}. Do something else, or answer with what you have."
            return None
        return _stop(found, f"agent:{action.agent}")

    def _trail(self, agent: str) -> Trail:
        trail = self._trails.get(agent)
        if trail is None:
            trail = self._trails[agent] = Trail()
        return trail


def _stop(found: Circle, scope: str) -> Stop:
    detail = f"{_said(found)}: do something else, or answer with what there is"
    return Stop("loop", scope, f"loops.{found.rule}", found.cap, found.times, detail=detail)


def _said(found: Circle) -> str:
    return f"You go in circles: {_WORDS[found.rule].format(times=found.times)}"
