"""What a ChatCompletionClient is asked under a gate: bounded before it leaves, clamped, and settled."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from autogen_core import Image
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    CreateResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    UserMessage,
)
from autogen_core.tools import Tool, ToolSchema
from msgspec import Struct
from msgspec.structs import replace
from pydantic import BaseModel

from crew_guard.adapters.autogen.sdks import (
    Family,
    Told,
    check_sdk,
    create_args,
    family_of,
    quiet,
    shorten,
    wish_of,
)
from crew_guard.adapters.hosted import (
    IMAGE_TOKENS,
    Attempt,
    ModelFacts,
    PromptCounter,
    begins_with,
    come_from,
    reported,
    speaks_of_length,
)
from crew_guard.adapters.tally import Tally, Weighed, state_of
from crew_guard.core.actions import ModelCall, Outcome
from crew_guard.core.messages import JsonObject, Message, ToolRequest, ToolSpec
from crew_guard.ports import Gate

_NO_IMAGES = frozenset({AssistantMessage, FunctionExecutionResultMessage})
_PACKAGES = frozenset({"autogen_core", "autogen_ext", "builtins", "abc", "typing"})


class Exchange(Struct, eq=False):
    """One gated call of a client: its attempt, and what came of the last request that left within it."""

    attempt: Attempt
    given: Any = None
    """The call's extra_create_args as its caller gave them."""
    extra: Any = None
    """The same as the call has them: clamped."""
    followed: bool = False
    """Whether what the call gives may not be what its last request was answered: it may retry, or ask other clients."""
    last: Outcome | None = None
    told: Told | None = None
    """What the provider itself reported with the last request, where its SDK is listened to."""

    async def follow(self, gate: Gate) -> None:
        """Another request is to leave within the same call: an attempt of its own."""
        self.attempt.settle(self.last or Outcome("failed", text="its client sent another request"))
        self.attempt.follow(await gate.admit(self.attempt.following()))
        self.followed, self.last, self.told = True, None, None

    def delegate(self, *, sends: bool) -> None:
        """Its client is to ask another one, whose request is that one's attempt.

        Args:
            sends: whether its client has begun a request itself, in the same call
        """
        if sends:
            self.followed = True
        if self.last is not None or not sends:
            self.attempt.settle(self.last or Outcome("withdrawn", text="it asks another client"))

    def as_told(self, result: CreateResult) -> Outcome:
        """How the last request was answered, with the usage as its provider reported it."""
        outcome = outcome_of(result)
        if self.told is None or self.told[0] is None:
            return outcome
        return replace(outcome, usage=self.told[0], parts=self.told[1])

    def end(self, outcome: Outcome) -> None:
        """Settle: where several requests left, each with what it reported itself."""
        self.attempt.settle(self.last if self.followed and self.last else outcome)

    def fail(self, error: BaseException) -> None:
        """Settle a call that raised; what a request within it reported stands."""
        if self.last and self.last.usage:
            self.attempt.settle(self.last)
        else:
            self.attempt.fail(error)


class ModelGate:
    """One client as one agent uses it in one run, on one loop: bounds, clamps and settles its calls."""

    def __init__(self, client: ChatCompletionClient, agent: str, gate: Gate, facts: ModelFacts) -> None:
        check_client(client)  # it may have hidden in a closure until now
        self.own = client  # held: while it is, no other client has its id
        self.loop = asyncio.get_running_loop()
        self.client = quiet(client)
        self._agent = agent
        self._gate = gate
        self._model = model_name(client)
        known = facts(self._model)
        self._rates = known.rates
        self._count = PromptCounter(known)
        self._talks = Tally(self._weighed)
        self._clampable = is_clampable(client)
        self._family: Family | None = family_of(client)

    async def begin(
        self,
        messages: Sequence[LLMMessage],
        options: dict[str, Any],
        *,
        streams: bool = False,
        outer: Exchange | None = None,
    ) -> Exchange:
        """Admit a call, and clamp its options to the grant.

        Args:
            options: the call's keyword arguments, which are changed
            outer: the call of a client around this one, whose clamp, passed on as it is, is no wish of the user's
        Raises:
            RefusedError, StoreError: it must not be made
        """
        given = options.get("extra_create_args")
        if outer is not None and given is outer.extra:
            given = outer.given
        extra = options["extra_create_args"] = dict(given or {})
        call = self._call(messages, options, extra, streams=streams)
        attempt = Attempt(self._gate, await self._gate.admit(call))
        if self._clampable:
            shorten(self.client, self._family, self._model.partition(":")[2], extra, attempt.grant.max_tokens)
        if streams and self._family == "openai":
            # Without it a stream ends with no usage, and all that was reserved would be charged.
            declared = create_args(self.client).get("stream_options")
            asked: Mapping[str, Any] = extra.get("stream_options") or declared or {}
            extra["stream_options"] = {**asked, "include_usage": True}
            options.pop("include_usage", None)
        return Exchange(attempt, given, extra)

    def end(self, exchange: Exchange, result: CreateResult) -> None:
        """Settle a call that was answered, unless another client has answered it."""
        if exchange.attempt.settled:
            return
        outcome = exchange.as_told(result)
        if outcome.usage and outcome.usage.output_tokens > exchange.attempt.grant.max_tokens:
            self._clampable = False  # it doesn't keep to a length: from now on all that it may make is reserved
        exchange.end(outcome)

    def _call(
        self, messages: Sequence[LLMMessage], options: Mapping[str, Any], extra: Mapping[str, Any], *, streams: bool
    ) -> ModelCall:
        wanted = options.get("json_output")
        schema = wanted.model_json_schema() if isinstance(wanted, type) and issubclass(wanted, BaseModel) else None
        tools = options.get("tools") or ()
        if schema is None and all(map(_is_plain, tools)):
            request = self._count.shown(tools, _spec)
        else:
            request = self._count.request([_spec(tool) for tool in tools], schema)
        tokens, images = self._talks.of(messages)
        wish, least = wish_of(self._family, create_args(self.client), extra)
        return ModelCall(
            self._agent,
            self._model,
            request + tokens,
            wish,
            least,
            rates=self._rates,
            clampable=self._clampable,
            streams=streams,
            text_only=images == 0,
            conversation=partial(_conversation_of, messages),
        )

    def _weighed(self, message: LLMMessage) -> Weighed:
        state, content = state_of(message), message.content
        parts = (type(message), content, state.get("thought"), state.get("source"))
        tokens = self._count.message(parts, lambda: translate(message))
        kept, images = state.copy(), 0
        if isinstance(content, list):
            kept["content"] = content[:]
            images = 0 if type(message) in _NO_IMAGES else sum(isinstance(part, Image) for part in content)
        return Weighed(message, tokens + IMAGE_TOKENS * images, images, state, kept)


def outcome_of(result: CreateResult) -> Outcome:
    """How a call was answered."""
    content = result.content
    text = content if isinstance(content, str) else result.thought or ""
    asked = () if isinstance(content, str) else tuple((call.id, call.name, call.arguments) for call in content)
    usage = reported(result.usage.prompt_tokens, result.usage.completion_tokens)
    return Outcome("ok", usage, text=text, tool_requests=asked)


def is_cache(client: ChatCompletionClient) -> bool:
    """Whether a client only keeps answers of another: one from the cache is no call."""
    return come_from(client, "autogen_ext", frozenset({"ChatCompletionCache"}))


def check_client(client: ChatCompletionClient) -> None:
    """Whether a client can be bounded at all.

    Raises:
        ConfigError: it retries unseen, or sets its length where a clamp doesn't reach
    """
    check_sdk(client, model_name(client))


def is_clampable(client: ChatCompletionClient) -> bool:
    """Whether a client keeps to a max_tokens that it is given with a call."""
    if family_of(client) is not None:
        return True
    return speaks_of_length(type(client), _PACKAGES)


def model_name(client: ChatCompletionClient) -> str:
    """provider:name, as policies know it; a client of the user's own goes by custom."""
    model = create_args(client).get("model") or getattr(client, "model", None)
    kind = type(client)
    provider = "custom"
    for base in kind.__mro__:
        package = base.__module__.split(".")
        if package[:2] == ["autogen_ext", "models"]:
            provider = "azure" if base.__name__.startswith("Azure") else package[2]
            break
    return f"{provider}:{model if isinstance(model, str) else kind.__name__}"


def translate(message: LLMMessage) -> list[Message]:
    """A message of AutoGen as messages of ours, for counting: names that clients may add included."""
    if isinstance(message, FunctionExecutionResultMessage):
        return [Message("tool", result.content, (), result.call_id) for result in message.content]
    if isinstance(message, AssistantMessage):
        content = message.content
        if isinstance(content, str):
            return [Message("assistant", f"{message.source}{message.thought or ''}{content}")]
        asked = tuple(ToolRequest(call.id, call.name, call.arguments) for call in content)
        return [Message("assistant", f"{message.source}{message.thought or ''}", asked)]
    if isinstance(message, UserMessage):
        content = message.content
        text = content if isinstance(content, str) else "".join(part for part in content if isinstance(part, str))
        return [Message("user", f"{message.source} said:\n{message.source}{text}")]
    return [Message("system", message.content)]


def _conversation_of(messages: Sequence[LLMMessage]) -> int:
    return begins_with(one.content for one in messages[:2] if type(one) is not AssistantMessage)


def _is_plain(tool: object) -> bool:
    return type(tool) is dict


def _spec(tool: Tool | ToolSchema) -> ToolSpec:
    schema = tool if isinstance(tool, dict) else tool.schema
    return ToolSpec(schema["name"], schema.get("description", ""), cast(JsonObject, schema.get("parameters", {})))
