"""What the host adapters share: bounding a prompt, and one model call's way through the gate.

A host's model call is an Attempt: admitted before its request leaves, settled with what the
provider reported. A client that sends a second request within it starts a new Attempt.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import json.encoder
import types
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Protocol, TypeAlias, cast

from msgspec import Struct
from msgspec.json import Encoder
from msgspec.structs import replace

from crew_guard.core.actions import Ending, Grant, ModelCall, Outcome
from crew_guard.core.messages import JsonObject, Message, ToolSpec
from crew_guard.core.plain import error_words
from crew_guard.core.usage import Rates, Usage
from crew_guard.errors import is_fault, status_of
from crew_guard.ports import Gate

IMAGE_TOKENS = 50_000
"""More than any image costs on the models whose pricing is public: its own size says nothing of its tokens."""

RESULT_CHARS = 20_000
"""What the journal keeps of a tool's result."""

_KEYS = Encoder(enc_hook=str)
_UNSENT = frozenset(
    {
        "ClientConnectorDNSError",
        "ClientConnectorError",
        "ConnectError",
        "ConnectTimeout",
        "ConnectTimeoutError",
        "ConnectionRefusedError",
        "EndpointConnectionError",
        "ServiceRequestError",
        "UnicodeEncodeError",
        "gaierror",
    }
)
_BESIDE_THINKING = 4096
"""The answer's own length where the user gave a model a length to think, and none to answer."""
_REASONING = ("o1", "o3", "o4", "gpt-5")


def writer(default: Callable[[Any], object], *, ascii_only: bool = True) -> Callable[[object], str]:
    """What writes as `json.dumps(…, default=default)` does, without making an encoder for each text: most of its cost.

    Args:
        default: a value for what JSON has no word for
        ascii_only: see json.dumps
    """
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return partial(json.dumps, default=default, ensure_ascii=ascii_only)
    texts = json.encoder.encode_basestring_ascii if ascii_only else json.encoder.encode_basestring
    encode = make(None, default, texts, None, ": ", ", ", False, False, True)

    def write(value: object) -> str:
        return "".join(encode(value, 0))

    return write


json_of = writer(str)
"""Arguments as the journal has them: `json.dumps(…, default=str)`."""


class Facts(Protocol):
    """What is known of one model."""

    @property
    def rates(self) -> Rates | None:
        """What it costs; None if nobody knows."""
        ...

    def bound(self, message: Message) -> int:
        """An upper bound of one message's tokens, its overhead included."""
        ...

    def bound_request(self, tools: Sequence[ToolSpec], output_schema: JsonObject | None) -> int:
        """An upper bound of what a request adds to its messages."""
        ...


ModelFacts: TypeAlias = Callable[[str], Facts]
"""Facts by a model's name, provider:name."""


@dataclass(slots=True)
class PromptCounter:
    """Bounds of one model's prompts in one run: each message is counted when it is first seen."""

    facts: Facts
    _messages: dict[tuple[int, ...], tuple[Any, ...]] = field(default_factory=dict[tuple[int, ...], Any])
    """By the ids of its parts: the bound of a message, and its parts."""
    _requests: dict[bytes, int] = field(default_factory=dict[bytes, int])

    def message(self, parts: tuple[object, ...], translate: Callable[[], Iterable[Message]]) -> int:
        """An upper bound of one message of the host.

        Args:
            parts: the objects that the message is made of; they are kept, so that their ids stay theirs
            translate: the same as messages of ours
        """
        key = tuple(map(id, parts))
        known = self._messages.get(key)
        if known is None:
            known = self._messages[key] = (sum(map(self.facts.bound, translate())), *parts)
        return known[0]

    def shown(self, tools: Sequence[Any], make: Callable[[Any], ToolSpec]) -> int:
        """The same as `request`, for tools as a host has them, which are translated only when they are new.

        Args:
            tools: JSON objects; anything else is known by its text
            make: one of them as ours
        """
        key = _KEYS.encode(tools)
        known = self._requests.get(key)
        if known is None:
            known = self._requests[key] = self.facts.bound_request([make(tool) for tool in tools], None)
        return known

    def request(self, tools: Sequence[ToolSpec], output_schema: JsonObject | None) -> int:
        """An upper bound of the tools, the schema and the framing of a request."""
        key = _KEYS.encode([[(tool.name, tool.description, tool.parameters) for tool in tools], output_schema])
        if key not in self._requests:
            self._requests[key] = self.facts.bound_request(tools, output_schema)
        return self._requests[key]


@dataclass(slots=True)
class RunNotes:
    """What an adapter learns of a run while it goes by."""

    unanswered: bool = False
    """The last reply asked for tools, and none of them was begun since."""


class Attempt(Struct, eq=False):
    """One model call of a host under way: its grant, and whether it is settled."""

    gate: Gate
    grant: Grant
    sent: int = 0
    """Requests that have left under this host call."""
    settled: bool = False

    def settle(self, outcome: Outcome) -> None:
        """Settle once; what comes later changes nothing."""
        if not self.settled:
            self.settled = True
            self.gate.settle(self.grant, outcome)

    def fail(self, error: BaseException, usage: Usage | None = None) -> None:
        """Settle a call that raised."""
        self.settle(failure(error, usage))

    def following(self) -> ModelCall:
        """The action of a further request in the same host call: its body, and so its length, stands already."""
        action = self.grant.action
        assert isinstance(action, ModelCall)  # noqa: S101  an Attempt is made for nothing else
        return replace(action, max_tokens=self.grant.max_tokens, clampable=False, attempt=action.attempt + 1)

    def follow(self, grant: Grant) -> None:
        """Go on under another grant."""
        self.grant, self.settled = grant, False


def ending(error: BaseException) -> Ending:
    """How a call that raised this ended: rejected where no tokens can have been made."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt):
        return "cancelled"
    for link in _chain(error):
        status = status_of(link)
        if status is not None:
            return "rejected" if 400 <= status < 500 else "failed"  # noqa: PLR2004  4xx
        if type(link).__name__ in _UNSENT or type(link) is ConnectionError:  # so Ollama's SDK says that none stands
            return "rejected"
    return "failed"


def failure(error: BaseException, usage: Usage | None = None) -> Outcome:
    """How a model call that raised this is settled."""
    return Outcome(ending(error), usage, text=error_words(error), fault=is_fault(error))


def tool_failure(error: BaseException) -> Outcome:
    """How a tool execution that raised this is settled."""
    status = "cancelled" if ending(error) == "cancelled" else "failed"
    return Outcome(status, text=error_words(error))


@contextmanager
def looking(gate: Gate, grant: Grant) -> Generator[None]:
    """While guardrails look at what came of a tool: an execution that is ended meanwhile leaves nothing open."""
    try:
        yield
    except BaseException as error:
        gate.settle(grant, tool_failure(error))
        raise


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__  # not its context: that may be the error of a call before this one


def reported(prompt: int, completion: int, cached: int = 0) -> Usage | None:
    """Usage as a host passes it on; None where the prompt is 0, which no request's is: that is no whole account."""
    if prompt <= 0:
        return None
    return Usage(input_tokens=prompt, output_tokens=completion, cached_tokens=min(cached, prompt))


def room_beside(thinking: int, wish: int | None) -> tuple[int | None, int | None]:
    """The longest completion to ask for, and the shortest of use: providers turn down what leaves no room to answer.

    Args:
        thinking: tokens that the user gave the model to think, which are a part of its completion; 0 or less for none
        wish: the longest completion that the user asks for
    """
    return (wish or thinking + _BESIDE_THINKING, thinking + 1) if thinking > 0 else (wish, None)


def begins_with(texts: Iterable[object]) -> int:
    """A hash of how a conversation begins: see ModelCall.conversation.

    Args:
        texts: of its first two messages, what stands before the agent's own first words; what is no text is left out
    """
    return hash(tuple([text for text in texts if isinstance(text, str)]))


def length_key(model: str) -> str:
    """What OpenAI's API calls the longest completion for this model."""
    name = model.replace(":", "/").rpartition("/")[2].lower()
    return "max_completion_tokens" if name.startswith(_REASONING) else "max_tokens"


@cache
def speaks_of_length(cls: type, packages: frozenset[str]) -> bool:
    """Whether a class's own code names max_tokens: the best sign there is that a user's client keeps to it.

    Args:
        packages: the framework's; what their classes say doesn't count
    """
    words = frozenset({"max_tokens", "max_completion_tokens"})
    own = (base for base in cls.__mro__ if base.__module__.partition(".")[0] not in packages)
    functions = (value for base in own for value in vars(base).values() if inspect.isfunction(value))
    return any(_names(one.__code__, words) for function in functions for one in _behind(function))


def _behind(function: types.FunctionType) -> Iterator[types.FunctionType]:
    """What a function wraps, and functions that its decorators keep in their closures."""
    bare = inspect.unwrap(function)
    if inspect.isfunction(bare):
        yield bare
        for cell in bare.__closure__ or ():
            with suppress(ValueError):  # an empty one
                if inspect.isfunction(cell.cell_contents):
                    yield cell.cell_contents


def _names(code: types.CodeType, words: frozenset[str]) -> bool:
    if words.intersection((*code.co_names, *code.co_varnames)):
        return True
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if _names(constant, words):
                return True
        elif words.intersection(cast(Iterable[object], constant) if isinstance(constant, tuple) else (constant,)):
            return True
    return False


def come_from(obj: object, package: str, names: frozenset[str]) -> bool:
    """Whether an object's class, or a base of it, is one of these of a framework that need not be imported."""
    return _comes_from(type(obj), package, names)


@cache
def _comes_from(kind: type, package: str, names: frozenset[str]) -> bool:
    return any(base.__name__ in names and base.__module__.partition(".")[0] == package for base in kind.__mro__)
