"""What bounds a model that goes through litellm: which are refused by name, and what a request must say.

litellm leaves out a length that a provider has no word for. So a request is read once more as it leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, cast

import msgspec
from crewai.llms.base_llm import BaseLLM

from crew_guard.adapters.versions import Supported
from crew_guard.errors import ConfigError

PROVIDERS = frozenset(
    {
        *("anthropic", "azure", "cerebras", "custom_openai", "dashscope", "deepinfra", "deepseek", "fireworks_ai"),
        *("gemini", "github", "groq", "hosted_vllm", "litellm_proxy", "llamafile", "lm_studio", "meta_llama"),
        *("mistral", "moonshot", "nebius", "novita", "nvidia_nim", "ollama_chat", "openai", "openrouter"),
        *("perplexity", "sambanova", "together_ai", "vercel_ai_gateway", "volcengine", "xai"),
    }
)
"""Those whose requests have been read: litellm sends each with httpx, at once, and its length is in its body."""
LENGTHS = ("max_tokens", "max_completion_tokens")
_LITELLM = Supported("litellm", (1, 88, 6), (1, 110), extra="crewai")
_OTHER_MODELS = ("fallbacks", "context_window_fallback_dict", "model_list")
_LENGTHS_SENT = frozenset({*LENGTHS, "max_output_tokens", "maxOutputTokens", "num_predict"})
_SEVERAL_SENT = frozenset({"n", "best_of", "candidateCount"})
_OPTIONS_SENT = ("generationConfig", "options")
"""Where Gemini and Ollama have what others have at the top."""
_PROMPTS_SENT = frozenset({"messages", "contents", "prompt", "input"})


def goes_through_litellm(host: type[BaseLLM]) -> bool:
    """Whether CrewAI's class of a model is the one that asks litellm."""
    return host.__module__ == "crewai.llm"


def check(llm: Any, whose: str) -> None:
    """Whether a model that goes through litellm can be bounded.

    Raises:
        ConfigError: it can't
    """
    _LITELLM.check("a model that goes through litellm")
    litellm: Any = import_module("litellm")
    extra: dict[str, Any] = llm.additional_params
    if others := [name for name in _OTHER_MODELS if extra.get(name)]:
        raise ConfigError(
            f"{whose} has {others[0]}: litellm would ask other models by itself, past their rules; leave it out"
        )
    if litellm.model_fallbacks:
        raise ConfigError(f"{whose} goes through litellm, whose model_fallbacks are set for all: set them to None")
    provider = _provider(litellm, llm.model, extra)
    if provider not in PROVIDERS:
        raise ConfigError(
            f"{whose} asks {provider} through litellm, whose requests can't be bounded yet; use CrewAI's own provider, "
            f"a BaseLLM of your own, or through litellm one of {', '.join(sorted(PROVIDERS))}"
        )
    if _responds(litellm, llm.model):
        raise ConfigError(f"{whose} asks {llm.model}, which litellm sends to the Responses API; use a chat model")
    for part in ("extra_body", "optional_params"):
        given: Any = extra.get(part)
        if isinstance(given, Mapping) and (found := _named(cast("dict[str, Any]", given))):
            raise ConfigError(f"the model of {whose} has {found[0]} in {part}, where it can't be bounded; leave it out")


def bounded(request: Mapping[str, Any], longest: int) -> dict[str, Any]:
    """The arguments of a completion: once, by this model alone, and no longer than it may be.

    Args:
        longest: a completion's tokens
    """
    made = dict(request)
    lengths = [name for name in LENGTHS if made.get(name)]
    for name in lengths:
        made[name] = min(int(made[name]), longest)
    if not lengths:
        made["max_tokens"] = longest
    dropped = made.get("additional_drop_params")
    if dropped and not set(LENGTHS).isdisjoint(dropped):
        made["additional_drop_params"] = [name for name in dropped if name not in LENGTHS]
    client: Any = made.get("client")
    if hasattr(client, "with_options"):
        made["client"] = client.with_options(max_retries=0)
    # 0 for a client's own; an empty policy for litellm's, because there 0 gives way to litellm.num_retries.
    policy = import_module("litellm.types.router").RetryPolicy()
    return made | {"num_retries": 0, "max_retries": 0, "retry_policy": policy}


def makes_tokens(path: str, content: bytes, longest: int) -> bool:
    """Whether a POST asks for a completion, or for something that costs nothing.

    Args:
        path: of its URL
        content: its body
        longest: the longest completion that it may ask for
    Raises:
        ConfigError: a completion that is not bounded; the message says what is wrong with it
    """
    try:
        body: Any = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return False
    if not isinstance(body, dict):
        return False
    asked = cast("dict[str, Any]", body)
    if asked.keys().isdisjoint(_PROMPTS_SENT):
        return False
    if path.endswith("/responses"):
        raise ConfigError("litellm sends this model's requests to the Responses API; use a chat model")
    lengths = [value for name, value in _options(asked) if name in _LENGTHS_SENT]
    if not lengths or not all(isinstance(one, int) and 0 < one <= longest for one in lengths):
        said = f"{lengths[0]} tokens" if lengths else "nothing"
        raise ConfigError(f"litellm says {said} of a request's length, which may be {longest}: use another provider")
    if several := [name for name, value in _options(asked) if name in _SEVERAL_SENT and value not in {None, 1}]:
        raise ConfigError(f"litellm asks for several completions in one request ({several[0]}); leave that out")
    return True


def _options(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from body.items()
    for part in _OPTIONS_SENT:
        if isinstance(inner := body.get(part), dict):
            yield from cast("dict[str, Any]", inner).items()


def _named(given: dict[str, Any]) -> list[str]:
    return [name for name, _ in _options(given) if name in _LENGTHS_SENT | _SEVERAL_SENT]


def _provider(litellm: Any, model: str, extra: Mapping[str, Any]) -> str:
    if given := extra.get("custom_llm_provider"):
        return str(given)
    if "/" in model:
        return model.partition("/")[0]  # litellm isn't asked: for some it looks for credentials on the network
    try:
        return str(litellm.get_llm_provider(model=model)[1])
    except litellm.exceptions.BadRequestError:
        return repr(model)


def _responds(litellm: Any, model: str) -> bool:
    known: Mapping[str, Any] = litellm.model_cost.get(model) or litellm.model_cost.get(model.partition("/")[2]) or {}
    return "responses/" in model or known.get("mode") == "responses"
