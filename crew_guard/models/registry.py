"""From a name such as openai:gpt-4.1-mini to a Model. Each provider is one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from crew_guard.core.usage import FREE, Rates
from crew_guard.errors import ConfigError
from crew_guard.ports import Model

Dialect: TypeAlias = Literal["chat", "anthropic", "gemini"]


@dataclass(frozen=True, slots=True)
class Provider:
    """A server, or a kind of server."""

    base_url: str = ""
    """Its address; empty where the user must name one."""
    base_url_variable: str = ""
    key_variable: str = ""
    needs_key: bool = False
    rates: Rates | None = None
    """What all of its models cost; by default what the price table says."""
    dialect: Dialect = "chat"
    """What it speaks: chat completions, or an API of its own."""
    asks_usage: bool = True
    """Whether a stream's usage has to be asked for; False where it always comes and the wish is refused."""
    takes_schema: bool = True
    """Whether it takes a JSON Schema for the answer."""


def _hosted(base_url: str, key_variable: str, *, asks_usage: bool = True, takes_schema: bool = True) -> Provider:
    return Provider(base_url, "", key_variable, needs_key=True, asks_usage=asks_usage, takes_schema=takes_schema)


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_BASE_URL", "OPENAI_API_KEY", needs_key=True),
    "anthropic": Provider(
        "https://api.anthropic.com", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", needs_key=True, dialect="anthropic"
    ),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com",
        "GEMINI_BASE_URL",
        "GEMINI_API_KEY",
        needs_key=True,
        dialect="gemini",
    ),
    "openrouter": _hosted("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "mistral": _hosted("https://api.mistral.ai/v1", "MISTRAL_API_KEY", asks_usage=False),
    "groq": _hosted("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "deepseek": _hosted("https://api.deepseek.com", "DEEPSEEK_API_KEY", takes_schema=False),
    "together": _hosted("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "fireworks": _hosted("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "cerebras": _hosted("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "xai": _hosted("https://api.x.ai/v1", "XAI_API_KEY"),
    "perplexity": _hosted("https://api.perplexity.ai", "PERPLEXITY_API_KEY", asks_usage=False),
    "cohere": _hosted("https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY"),
    "ollama": Provider("http://127.0.0.1:11434/v1", "OLLAMA_BASE_URL", rates=FREE),
    "vllm": Provider("http://127.0.0.1:8000/v1", "VLLM_BASE_URL", "VLLM_API_KEY", rates=FREE),
    "llamacpp": Provider("http://127.0.0.1:8080/v1", "LLAMACPP_BASE_URL", "LLAMACPP_API_KEY", rates=FREE),
    "openai-compatible": Provider(key_variable="OPENAI_COMPATIBLE_API_KEY"),
}
EMBEDDED = "embedded:smollm2"
ANY_LLM = "any-llm"


def model_for(
    spec: str,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    env: Mapping[str, str] | None = None,
    rates: Rates | None = None,
) -> Model:
    """The model of this name.

    Args:
        spec: embedded:smollm2, PROVIDER:NAME with a provider of PROVIDERS, or any-llm:PROVIDER/NAME
        base_url: where its server is; before what the environment says
        api_key: its key; before what the environment says
        env: the environment's variables
        rates: what it costs; before what the price table says
    Raises:
        ConfigError: there is no such model, or its address or key is missing
        MissingDependencyError: it needs a package that is not installed
    """
    kind, _, model = spec.partition(":")
    if spec == EMBEDDED:
        from crew_guard.models.embedded import EmbeddedModel

        return EmbeddedModel()
    if kind == ANY_LLM and "/" in model.strip("/"):
        from crew_guard.models.any_llm import AnyLLMModel

        provider_name, _, model = model.partition("/")
        return AnyLLMModel(provider_name, model, base_url=base_url, api_key=api_key, env=env, rates=rates)
    if not is_known(spec):
        known = ", ".join([EMBEDDED, *(f"{name}:NAME" for name in PROVIDERS), f"{ANY_LLM}:PROVIDER/NAME"])
        raise ConfigError(f"there is no model {spec!r}; known are {known}")
    provider, variables = PROVIDERS[kind], env or {}
    address = base_url or variables.get(provider.base_url_variable, "") or provider.base_url
    if not address:
        raise ConfigError(f"the model {spec!r} needs a base URL: where its server is, e.g. http://127.0.0.1:8000/v1")
    key = api_key or variables.get(provider.key_variable, "")
    if provider.needs_key and not key:
        raise ConfigError(f"the model {spec!r} needs a key: set {provider.key_variable}")
    return _made(provider, Address(spec, model, address, key or None), rates or provider.rates)


def is_known(spec: str) -> bool:
    """Whether a model of this name may be there: its form, and its provider."""
    kind, _, model = spec.partition(":")
    if spec == EMBEDDED or (kind == ANY_LLM and "/" in model.strip("/")):
        return True
    return kind in PROVIDERS and bool(model.strip())


@dataclass(frozen=True, slots=True)
class Address:
    """Which model, and where."""

    spec: str
    model: str
    url: str
    key: str | None = field(repr=False)


def _made(provider: Provider, at: Address, rates: Rates | None) -> Model:
    source = provider.key_variable or "the API key"
    if provider.dialect == "anthropic":
        from crew_guard.models.anthropic_messages import AnthropicModel

        return AnthropicModel(at.spec, at.model, at.url, at.key, rates=rates, key_source=source)
    if provider.dialect == "gemini":
        from crew_guard.models.gemini import GeminiModel

        return GeminiModel(at.spec, at.model, at.url, at.key, rates=rates, key_source=source)
    from crew_guard.models.openai_compatible import OpenAICompatibleModel

    return OpenAICompatibleModel(
        at.spec,
        at.model,
        at.url,
        at.key,
        rates=rates,
        key_source=source,
        asks_usage=provider.asks_usage,
        takes_schema=provider.takes_schema,
    )
