"""From a name to a model."""

from pathlib import Path
from typing import Any

import pytest

from crew_guard.core.usage import FREE
from crew_guard.errors import ConfigError, MissingDependencyError
from crew_guard.models.openai_compatible import OpenAICompatibleModel
from crew_guard.models.registry import PROVIDERS, Provider, model_for

LOCAL = "http://127.0.0.1:9/v1"
DOCS = Path(__file__).parents[2] / "docs/models.md"


def made(spec: str, base_url: str | None = None, api_key: str | None = None, **env: str) -> OpenAICompatibleModel:
    model = model_for(spec, base_url=base_url, api_key=api_key, env=env)
    assert isinstance(model, OpenAICompatibleModel)
    return model


def test_the_embedded_model() -> None:
    """It needs nothing but its packages, and loads nothing yet."""
    assert model_for("embedded:smollm2", base_url=None, api_key=None, env={}).name == "embedded:smollm2"


@pytest.mark.parametrize(
    ("spec", "options", "model", "url"),
    [
        ("openai:gpt-4.1-mini", {"OPENAI_API_KEY": "k"}, "gpt-4.1-mini", "https://api.openai.com/v1"),
        ("openai:ft:gpt-4o:o::1", {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": LOCAL}, "ft:gpt-4o:o::1", LOCAL),
        ("openai:gpt-4o", {"base_url": LOCAL, "api_key": "k", "OPENAI_BASE_URL": "http://other"}, "gpt-4o", LOCAL),
        ("ollama:llama3.2:1b", {}, "llama3.2:1b", "http://127.0.0.1:11434/v1"),
        ("openrouter:openai/gpt-4.1", {"OPENROUTER_API_KEY": "k"}, "openai/gpt-4.1", "https://openrouter.ai/api/v1"),
        ("openai-compatible:x", {"base_url": LOCAL + "/"}, "x", LOCAL),
        ("vllm:x", {}, "x", "http://127.0.0.1:8000/v1"),
        ("llamacpp:x", {"LLAMACPP_BASE_URL": LOCAL}, "x", LOCAL),
        ("mistral:mistral-small-latest", {"MISTRAL_API_KEY": "k"}, "mistral-small-latest", "https://api.mistral.ai/v1"),
    ],
)
def test_where_a_model_is(spec: str, options: dict[str, Any], model: str, url: str) -> None:
    """Arguments come before the environment, which comes before the default; the name stays whole."""
    found = made(spec, **options)
    assert (found.name, found.model, found.url) == (spec, model, url + "/chat/completions")


def test_what_models_cost() -> None:
    """By the price table, nothing at home, unknown behind a server that nobody knows."""
    rates = made("openai:gpt-4.1-mini", api_key="k").rates
    assert rates is not None
    assert rates.input.base == 400_000_000
    assert made("ollama:llama3").rates is FREE
    assert made("openai-compatible:gpt-4.1-mini", LOCAL).rates is None


@pytest.mark.parametrize(
    "spec", ["gpt-4o", "opnai:gpt-4o", "openai:", "openai: ", "", ":", "embedded:other", "scripted:x"]
)
def test_an_unknown_model_lists_what_is_known(spec: str) -> None:
    """The message names the model and each provider."""
    with pytest.raises(ConfigError) as caught:
        made(spec, api_key="k")
    for known in (
        repr(spec),
        "embedded:smollm2",
        "openai:NAME",
        "ollama:NAME",
        "openrouter:NAME",
        "openai-compatible:NAME",
    ):
        assert known in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "variable"), [("openai:gpt-4o", "OPENAI_API_KEY"), ("openrouter:x/y", "OPENROUTER_API_KEY")]
)
def test_a_missing_key_names_its_variable(spec: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that counts is the one that is passed in."""
    monkeypatch.setenv(variable, "from the process")
    with pytest.raises(ConfigError, match=f"set {variable}"):
        made(spec)


def test_an_unknown_server_needs_an_address() -> None:
    """openai-compatible has no default."""
    with pytest.raises(ConfigError, match="needs a base URL"):
        made("openai-compatible:x")


@pytest.mark.parametrize(
    ("spec", "env", "url"),
    [
        ("anthropic:claude-sonnet-4-5", {"ANTHROPIC_API_KEY": "k"}, "https://api.anthropic.com/v1/messages"),
        ("anthropic:x", {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": LOCAL}, LOCAL + "/messages"),
        (
            "gemini:gemini-2.5-flash",
            {"GEMINI_API_KEY": "k"},
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        ),
        (
            "gemini:models/tuned/x",
            {"GEMINI_API_KEY": "k", "GEMINI_BASE_URL": LOCAL},
            LOCAL + "/models/tuned%2Fx:streamGenerateContent?alt=sse",
        ),
    ],
)
def test_where_the_other_dialects_are(spec: str, env: dict[str, str], url: str) -> None:
    """Addresses with and without a version at their end both lead to the API."""
    model = model_for(spec, env=env)
    assert (model.name, getattr(model, "url", "")) == (spec, url)


@pytest.mark.parametrize(("name", "provider"), sorted(PROVIDERS.items()))
def test_each_provider_is_documented(name: str, provider: Provider) -> None:
    """Its row names its key and its address."""
    row = next(line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{name}:NAME`"))
    assert provider.key_variable in row
    assert provider.base_url_variable in row


@pytest.mark.parametrize(
    "name", ["anthropic:claude-sonnet-4-5", "gemini:gemini-2.5-pro", "xai:grok-4", "cohere:command-r"]
)
def test_the_price_table_knows_the_providers_by_our_names(name: str) -> None:
    """So that a cap in dollars can be held."""
    rates = model_for(name, api_key="k").rates
    assert rates is not None
    assert rates.output.base > 0


@pytest.mark.parametrize("provider", ["bedrock", "nobody-knows-it"])
def test_what_any_llm_cannot_do_is_refused_at_once(provider: str) -> None:
    """A provider that it doesn't know, lacks a package for, or can't keep from trying again."""
    with pytest.raises((ConfigError, MissingDependencyError), match=provider):
        model_for(f"any-llm:{provider}/model", api_key="k")


def test_a_key_that_any_llm_misses_is_named() -> None:
    """By the provider's own variable, in the environment that is passed in."""
    with pytest.raises(ConfigError, match="set ANTHROPIC_API_KEY"):
        model_for("any-llm:anthropic/claude-sonnet-4-5", env={})
    assert model_for("any-llm:anthropic/claude-sonnet-4-5", env={"ANTHROPIC_API_KEY": "k"}).rates is not None
