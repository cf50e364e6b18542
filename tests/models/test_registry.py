"""From a name to a model."""

from typing import Any

import pytest

from crew_guard.core.usage import FREE
from crew_guard.errors import ConfigError
from crew_guard.models.openai_compatible import OpenAICompatibleModel
from crew_guard.models.registry import model_for

LOCAL = "http://127.0.0.1:9/v1"


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
    ],
)
def test_where_a_model_is(spec: str, options: dict[str, Any], model: str, url: str) -> None:
    """Arguments come before the environment, which comes before the default; the name stays whole."""
    found = made(spec, **options)
    assert (found.name, found.model, found._url) == (spec, model, url + "/chat/completions")


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
