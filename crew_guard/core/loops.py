"""Going in circles: what an agent does again although nothing came of it. Pure, a few hashes a call.

A loop is told first, refused at twice the number, and stops its agent at three times. Whatever tells the agent
something new, another result or a call not made before, begins the count anew: polling, paging and a retry pass.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from crew_guard.core.merging import LEAST

Rung: TypeAlias = Literal["tell", "refuse", "stop"]

_REMEMBERED = 128
"""Conversations, and calls of a generation, of which two are kept, of each agent: a trail stays small in any run."""
_LABEL = 40
"""Characters below which a message is a word of command, a name or a verdict, which may well be said again."""


class LoopRules(BaseModel):
    """How often an agent may repeat itself. A large number, a million say, is as good as none."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    same_call: Annotated[int, LEAST] = Field(default=5, ge=2)
    """The same tool with the same arguments and the same result, with nothing new in between."""
    same_message: Annotated[int, LEAST] = Field(default=4, ge=2)
    """The same message of 40 characters or more in a row, in a conversation that has grown."""
    no_new_information: Annotated[int, LEAST] = Field(default=10, ge=2)
    """Calls in a row that each repeat an earlier one of the agent and tell what it told."""


class Circle(Struct, frozen=True):
    """An agent goes in circles."""

    rule: str
    """A field of LoopRules."""
    cap: int
    """From which repetition on this rung answers."""
    times: int
    rung: Rung


class Talk(Struct, gc=False):
    """What an agent said last in one of its conversations."""

    message: int = 0
    said: int = 0
    prompt: int = 0


class Trail(Struct, gc=False):
    """What one agent did of late."""

    results: dict[int, int] = {}
    """The last result of each call, both as hashes."""
    older: dict[int, int] = {}
    """The same of the calls before those."""
    repeats: dict[int, int] = {}
    """How often each call was made without something new in between, the first time included."""
    stretch: int = 0
    """Calls since then that told nothing new."""
    talks: dict[int, Talk] = {}
    """Its conversations, the one that it spoke in last at the end."""

    def called(self, call: int, result: int, rules: LoopRules) -> Circle | None:
        """Note a finished call, by hash; the circle that its agent is to be told of, once."""
        results = self.results
        known = results.get(call)
        if known is None:
            known = self.older.get(call)
            if len(results) >= _REMEMBERED:
                self.older, self.results = results, {}
        self.results[call] = result
        if known != result:
            if self.stretch:
                self.stretch = 0
                self.repeats.clear()
            return None
        times = self._again(call)
        if times == rules.same_call:
            return Circle("same_call", rules.same_call, times, "tell")
        if self.stretch == rules.no_new_information:
            return Circle("no_new_information", rules.no_new_information, self.stretch, "tell")
        return None

    def asks(self, call: int, rules: LoopRules) -> Circle | None:
        """Whether a call that is asked for goes one round too far; a refusal counts as a round."""
        if not self.stretch or (call not in self.results and call not in self.older):
            return None
        times = self.repeats.get(call, 1) + 1
        found = _further("same_call", rules.same_call, times)
        found = found or _further("no_new_information", rules.no_new_information, self.stretch + 1)
        if found is not None:
            self._again(call)
        return found

    def says(self, text: str, prompt_tokens: int, rules: LoopRules, conversation: int = 0) -> Circle | None:
        """Note a message without tool requests; its circle where one is to be told or stopped.

        Args:
            prompt_tokens: of the call that made it: a conversation that did not grow is another one, begun anew
            conversation: which of the agent's it was said in, where that is known: each is counted by itself
        """
        message, talks = hash(text), self.talks
        talk = talks[conversation] = talks.pop(conversation, None) or Talk()
        if len(talks) > _REMEMBERED:
            del talks[next(iter(talks))]
        grown, talk.prompt = prompt_tokens > talk.prompt, prompt_tokens
        if message != talk.message or not grown or len(text) < _LABEL:
            talk.message, talk.said = message, 1
            return None
        talk.said += 1
        if talk.said == rules.same_message:
            return Circle("same_message", rules.same_message, talk.said, "tell")
        if talk.said >= 2 * rules.same_message:
            return Circle("same_message", 2 * rules.same_message, talk.said, "stop")
        return None

    def _again(self, call: int) -> int:
        self.stretch += 1
        times = self.repeats[call] = self.repeats.get(call, 1) + 1
        return times


def _further(rule: str, often: int, times: int) -> Circle | None:
    if times > 3 * often:
        return Circle(rule, 3 * often, times, "stop")
    return Circle(rule, 2 * often, times, "refuse") if times > 2 * often else None
