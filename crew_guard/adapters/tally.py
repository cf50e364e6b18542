"""Bounds of conversations that grow at their end: what was counted is compared, not counted again.

A host hands over its whole conversation with each call. Whether it goes on as it was is compared in C, each
message with what it was made of when it was counted, so that a long conversation costs hardly more than a short one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from msgspec import Struct

State = dict[str, Any]
"""What an object is made of, by name: the object's own dictionary, which changes as the object does."""
_MOST = 64
"""Conversations with one model that are known at a time; another one's messages are looked up one by one."""

state_of: Callable[[object], State] = attrgetter("__dict__")


class Weighed(Struct, frozen=True, gc=False):
    """A message that was counted. It is held, so that its id stays its own; the collector has nothing to find in it."""

    message: Any
    tokens: int
    """A bound of them."""
    files: int
    """How many images, sounds and other files it has."""
    live: State | list[State]
    """What it is made of."""
    kept: State | list[State]
    """A copy of that as it was."""

    @property
    def is_as_it_was(self) -> bool:
        """Whether nothing of it was changed since."""
        return _equal(self.live, self.kept)


@dataclass(slots=True)
class _Conversation:
    """What it was at its last call."""

    first: Weighed
    messages: list[object]
    live: list[State | list[State]] = field(default_factory=list[Any])
    kept: list[State | list[State]] = field(default_factory=list[Any])
    """Of all messages but the first, in order: as they are, and as they were."""
    tokens: int = 0
    files: int = 0
    """Theirs."""

    def goes_on_in(self, messages: Sequence[object]) -> bool:
        """Whether these are the same, unchanged, and maybe more; the first is looked at by itself."""
        known = self.messages
        if len(messages) < len(known) or not _equal(self.live, self.kept):
            return False
        known[0] = messages[0]
        return _equal(known, list(messages[: len(known)]))  # the same objects, nearly always: then none is looked into

    def add(self, weighed: Weighed) -> None:
        """The next message."""
        self.messages.append(weighed.message)
        self.live.append(weighed.live)
        self.kept.append(weighed.kept)
        self.tokens += weighed.tokens
        self.files += weighed.files


class Tally:
    """The conversations with one model in one run, from any thread."""

    def __init__(self, weigh: Callable[[Any], Weighed]) -> None:
        """Make an empty one.

        Args:
            weigh: a message, counted; asked where it is new, or not as it was
        """
        self._weigh = weigh
        self._known: dict[int, Weighed] = {}
        """By a message's id."""
        self._conversations: dict[int, _Conversation] = {}
        """By the id of their last message; one that is being added to is not in here."""

    def of(self, messages: Sequence[Any]) -> tuple[int, int]:
        """A conversation's bound in tokens, and its files."""
        if not messages:
            return 0, 0
        one = self._that_goes_on_in(messages)
        if one is None:
            one = _Conversation(self._weighed(messages[0]), [messages[0]])
        elif one.first.message is not messages[0] or not one.first.is_as_it_was:
            one.first = self._weigh(messages[0])  # some hosts write their instructions anew for each call: not kept
        for message in messages[len(one.messages) :]:
            one.add(self._weighed(message))
        if len(self._conversations) >= _MOST:
            self._conversations.clear()
        self._conversations[id(messages[-1])] = one
        return one.first.tokens + one.tokens, one.first.files + one.files

    def _that_goes_on_in(self, messages: Sequence[Any]) -> _Conversation | None:
        for message in reversed(messages):
            one = self._conversations.pop(id(message), None)
            if one is not None:
                return one if one.goes_on_in(messages) else None
        return None

    def _weighed(self, message: Any) -> Weighed:
        known = self._known.get(id(message))
        if known is None or known.message is not message or not known.is_as_it_was:
            known = self._known[id(message)] = self._weigh(message)
        return known


def _equal(live: object, kept: object) -> bool:
    try:
        return live == kept
    except Exception:  # noqa: BLE001  what a host's objects raise when they are compared
        return False
