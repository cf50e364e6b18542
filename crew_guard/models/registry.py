"""From a name such as openai:gpt-4.1-mini to a Model. Each provider is one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crew_guard.core.usage import FREE, Rates
from crew_guard.errors import ConfigError
from crew_guard.ports import Model


@dataclass(frozen=True, slots=True)
class Provider:
    """A kind of chat-completions server."""

    base_url: str = ""
    """Its address; empty where the user must name one."""
    base_url_variable: str = ""
    key_variable: str = ""
    needs_key: bool = False
    rates: Rates | None = None
    """What all of its models cost; by default what the price table says."""


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_BASE_URL", "OPENAI_API_KEY", needs_key=True),
    "openrouter": Provider("https://openrouter.ai/api/v1", "", "OPENROUTER_API_KEY", needs_key=True),
    "ollama": Provider("http://127.0.0.1:11434/v1", rates=FREE),
    "openai-compatible": Provider(key_variable="OPENAI_COMPATIBLE_API_KEY"),
}
EMBEDDED = "embedded:smollm2"


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
        spec: embedded:smollm2, or PROVIDER:NAME with a provider of PROVIDERS
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
    provider = PROVIDERS.get(kind)
    if provider is None or not model.strip():
        known = ", ".join([EMBEDDED, *(f"{name}:NAME" for name in PROVIDERS)])
        raise ConfigError(f"there is no model {spec!r}; known are {known}")
    from crew_guard.models.openai_compatible import OpenAICompatibleModel

    variables = env or {}
    address = base_url or variables.get(provider.base_url_variable, "") or provider.base_url
    if not address:
        raise ConfigError(f"the model {spec!r} needs a base URL: where its server is, e.g. http://127.0.0.1:8000/v1")
    key = api_key or variables.get(provider.key_variable, "")
    if provider.needs_key and not key:
        raise ConfigError(f"the model {spec!r} needs a key: set {provider.key_variable}")
    source = provider.key_variable or "the API key"
    return OpenAICompatibleModel(spec, model, address, key or None, rates=rates or provider.rates, key_source=source)
