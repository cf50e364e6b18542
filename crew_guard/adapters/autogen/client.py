"""A ChatCompletionClient whose every request passes the gate and is clamped to its grant."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal, cast

from autogen_core import CancellationToken, Image
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    CreateResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    ModelInfo,
    RequestUsage,
    UserMessage,
)
from autogen_core.tools import Tool, ToolSchema
from pydantic import BaseModel

from crew_guard.adapters.hosted import (
    IMAGE_TOKENS,
    Attempt,
    ModelFacts,
    PromptCounter,
    come_from,
    length_key,
    reported,
    speaks_of_length,
)
from crew_guard.core.actions import ModelCall, Outcome
from crew_guard.core.messages import JsonObject, Message, ToolRequest, ToolSpec
from crew_guard.errors import ConfigError
from crew_guard.ports import Gate

_LENGTHS = ("max_completion_tokens", "max_tokens")
_CLAMPED = frozenset({"BaseOpenAIChatCompletionClient", "BaseAnthropicChatCompletionClient"})
_PACKAGES = frozenset({"autogen_core", "autogen_ext", "builtins", "abc", "typing"})
ToolChoice = Tool | Literal["auto", "required", "none"]


class GatedClient(ChatCompletionClient):
    """Stands in for an agent's client during a run. What it doesn't gate it hands through."""

    component_type = "model"

    def __init__(self, client: ChatCompletionClient, agent: str, gate: Gate, facts: ModelFacts) -> None:
        self._inner = _gated_cache(client, agent, gate, facts) or _without_retries(client)
        self._passes = self._inner is not client and come_from(
            client, "autogen_ext", frozenset({"ChatCompletionCache"})
        )
        self._agent = agent
        self._gate = gate
        self._model = model_name(client)
        known = facts(self._model)
        self._rates = known.rates
        self._count = PromptCounter(known)
        self._clampable = is_clampable(client)
        self._openai = come_from(client, "autogen_ext", frozenset({"BaseOpenAIChatCompletionClient"}))

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = (),
        tool_choice: ToolChoice = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
        **more: Any,
    ) -> CreateResult:
        extra = dict(extra_create_args)
        attempt = None
        if not self._passes:
            call = self._call(messages, tools, json_output, extra)
            attempt = Attempt(self._gate, await self._gate.admit(call))
            self._clamp(extra, attempt)
        try:
            result = await self._inner.create(
                messages,
                tools=tools,
                tool_choice=tool_choice,
                json_output=json_output,
                extra_create_args=extra,
                cancellation_token=cancellation_token,
                **more,
            )
        except BaseException as error:
            if attempt:
                attempt.fail(error)
            raise
        if attempt:
            self._settle(attempt, result)
        return result

    async def create_stream(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = (),
        tool_choice: ToolChoice = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
        **more: Any,
    ) -> AsyncGenerator[str | CreateResult, None]:
        extra = dict(extra_create_args)
        attempt = None
        if not self._passes:
            call = self._call(messages, tools, json_output, extra, streams=True)
            attempt = Attempt(self._gate, await self._gate.admit(call))
            self._clamp(extra, attempt)
            if self._openai:
                # Without it a stream ends with no usage, and all that was reserved would be charged.
                asked: Mapping[str, Any] = extra.get("stream_options") or self._declared().get("stream_options") or {}
                extra["stream_options"] = {**asked, "include_usage": True}
                more.pop("include_usage", None)
        stream = self._inner.create_stream(
            messages,
            tools=tools,
            tool_choice=tool_choice,
            json_output=json_output,
            extra_create_args=extra,
            cancellation_token=cancellation_token,
            **more,
        )
        try:
            async for item in stream:
                if attempt and isinstance(item, CreateResult):
                    self._settle(attempt, item)
                else:
                    self._gate.progress(attempt and attempt.grant, item if isinstance(item, str) else "")
                yield item
        except BaseException as error:
            if attempt:
                attempt.fail(error)
            raise
        if attempt:
            attempt.settle(Outcome("failed", text="the stream ended without a result"))

    def _declared(self) -> Mapping[str, Any]:
        return _create_args(self._inner)

    def _call(
        self,
        messages: Sequence[LLMMessage],
        tools: Sequence[Tool | ToolSchema],
        json_output: bool | type[BaseModel] | None,
        extra: Mapping[str, Any],
        *,
        streams: bool = False,
    ) -> ModelCall:
        schema = json_output.model_json_schema() if isinstance(json_output, type) else None
        prompt = self._count.request([_spec(tool) for tool in tools], schema)
        prompt += sum(self._bound(message) for message in messages)
        wishes = (source.get(key) for source in (extra, self._declared()) for key in _LENGTHS)
        wish = next((int(wish) for wish in wishes if wish is not None), None)
        return ModelCall(
            self._agent,
            self._model,
            prompt,
            wish,
            rates=self._rates,
            clampable=self._clampable,
            streams=streams,
            text_only=not any(map(_has_images, messages)),
        )

    def _bound(self, message: LLMMessage) -> int:
        parts = (type(message), message.content, getattr(message, "thought", None), getattr(message, "source", None))
        tokens = self._count.message(parts, lambda: translate(message))
        if isinstance(message, UserMessage) and not isinstance(message.content, str):
            tokens += IMAGE_TOKENS * sum(isinstance(part, Image) for part in message.content)
        return tokens

    def _clamp(self, extra: dict[str, Any], attempt: Attempt) -> None:
        if not self._clampable:
            return
        given = {**self._declared(), **extra}
        name = self._model.partition(":")[2]
        key = next((key for key in _LENGTHS if given.get(key) is not None), length_key(name))
        extra[key] = attempt.grant.max_tokens

    def _settle(self, attempt: Attempt, result: CreateResult) -> None:
        usage = reported(result.usage.prompt_tokens, result.usage.completion_tokens)
        if usage and usage.output_tokens > attempt.grant.max_tokens:
            self._clampable = False  # it doesn't keep to a length: from now on all that it may make is reserved
        content = result.content
        text = content if isinstance(content, str) else result.thought or ""
        asked = () if isinstance(content, str) else tuple((call.id, call.name, call.arguments) for call in content)
        attempt.settle(Outcome("ok", usage, text=text, tool_requests=asked))

    # What it hands through

    async def close(self) -> None:
        await self._inner.close()

    def actual_usage(self) -> RequestUsage:
        return self._inner.actual_usage()

    def total_usage(self) -> RequestUsage:
        return self._inner.total_usage()

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()) -> int:
        return self._inner.count_tokens(messages, tools=tools)

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()) -> int:
        return self._inner.remaining_tokens(messages, tools=tools)

    @property
    def capabilities(self) -> Any:
        return self._inner.capabilities  # pyright: ignore[reportDeprecated]  the base class asks for it

    @property
    def model_info(self) -> ModelInfo:
        return self._inner.model_info

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def check_client(client: ChatCompletionClient) -> None:
    """Whether a client can be bounded at all.

    Raises:
        ConfigError: it sets its length where a clamp doesn't reach
    """
    body = _create_args(client).get("extra_body")
    if isinstance(body, Mapping) and (key := next((key for key in (*_LENGTHS, "n") if key in body), None)):
        raise ConfigError(
            f"{model_name(client)}: extra_body sets {key}, which goes around the guard; give it to the client itself"
        )


def is_clampable(client: ChatCompletionClient) -> bool:
    """Whether a client keeps to a max_tokens that it is given with a call."""
    if come_from(client, "autogen_ext", _CLAMPED):
        return True
    return speaks_of_length(type(client), _PACKAGES)


def model_name(client: ChatCompletionClient) -> str:
    """provider:name, as policies know it; a client of the user's own goes by custom."""
    model = _create_args(client).get("model") or getattr(client, "model", None)
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


def _spec(tool: Tool | ToolSchema) -> ToolSpec:
    schema = tool if isinstance(tool, dict) else tool.schema
    return ToolSpec(schema["name"], schema.get("description", ""), cast(JsonObject, schema.get("parameters", {})))


def _create_args(client: object) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], getattr(client, "_create_args", None) or {})


def _gated_cache(
    client: ChatCompletionClient, agent: str, gate: Gate, facts: ModelFacts
) -> ChatCompletionClient | None:
    """A ChatCompletionCache with its own client gated: an answer from the cache is no call."""
    if not come_from(client, "autogen_ext", frozenset({"ChatCompletionCache"})):
        return None
    gated = GatedClient(cast(Any, client).client, agent, gate, facts)
    return _variant(client, {"client": gated})


def _without_retries(client: ChatCompletionClient) -> ChatCompletionClient:
    """The same client with the retries of its SDK off: each attempt is a step, and a step is admitted."""
    sdk = getattr(client, "_client", None)
    if getattr(sdk, "max_retries", 0) == 0 or not hasattr(sdk, "with_options"):
        return client
    return _variant(client, {"_client": cast(Any, sdk).with_options(max_retries=0)})


def _variant(client: ChatCompletionClient, changed: Mapping[str, Any]) -> ChatCompletionClient:
    """The client with some attributes changed, all others shared: its counters stay the user's."""
    names = {name: property(lambda _, value=value: value) for name, value in changed.items()}
    kind = type(type(client).__name__, (type(client),), names)
    variant = object.__new__(kind)
    variant.__dict__ = vars(client)
    return cast(ChatCompletionClient, variant)


def _has_images(message: LLMMessage) -> bool:
    content = message.content
    return isinstance(content, list) and any(isinstance(part, Image) for part in content)
