"""What can't be gated in a host's objects is refused by name, before it runs."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any, cast

from crewai import Agent, Crew, Process, Task
from crewai.llms.base_llm import BaseLLM
from crewai.tools.base_tool import BaseTool
from crewai.utilities.i18n import I18N_DEFAULT

from crew_guard.adapters.crewai import bedrock, gemini
from crew_guard.adapters.crewai.azure import PROVIDER, is_azure
from crew_guard.adapters.crewai.families import MODEL_METHODS, TOOL_METHODS, ensure_gated
from crew_guard.adapters.crewai.litellm_bounds import check, goes_through_litellm
from crew_guard.adapters.hosted import come_from
from crew_guard.adapters.stand_in import is_stand_in
from crew_guard.errors import ConfigError

_GATED = (
    "crewai.llms.base_llm",
    "crewai.llms.providers.openai",
    "crewai.llms.providers.snowflake",
    "crewai.llms.providers.anthropic",
    PROVIDER,
    gemini.PROVIDER,
    bedrock.PROVIDER,
)
"""Where the classes live whose requests and retries are known: openai_compatible is among the second."""
_LOCAL_EMBEDDERS = frozenset({"onnx", "sentence-transformer", "instructor", "openclip", "text2vec", "custom"})
_LOCAL_CLASSES = ("ONNX", "SentenceTransformer", "Instructor", "OpenCLIP", "Text2Vec", "Custom", "Default")
_GATED_EMBEDDERS = frozenset({"openai", "azure", "openrouter"})
"""Those that send by OpenAI's SDK, which is gated itself."""
_GATED_CLASSES = ("OpenAI",)
_EMBEDS = (
    "so each look-up would cost what the guard can't charge: take openai, azure, openrouter or any server that speaks "
    "like them ({'provider': 'openai', 'config': {'api_base': …}}), or embed here: {'provider': 'onnx', 'config': {}}"
)


def name_of(agent: Any) -> str:
    """The agent's role as it was declared; empty for what has none."""
    declared = getattr(agent, "_original_role", None) or getattr(agent, "role", None) or ""
    return declared.strip() if isinstance(declared, str) else ""


def called(host: Any) -> str:
    """What an agent, a crew or a flow is called: by its class where it has no name of its own."""
    declared = getattr(getattr(host, "_definition", None), "name", None)  # a flow's
    return name_of(host) or getattr(host, "name", None) or declared or type(host).__name__


def manager_of(crew: Crew) -> str | None:
    """What the manager of a hierarchical crew is called: CrewAI makes one of its own where none is given."""
    if crew.process is not Process.hierarchical:
        return None
    if crew.manager_agent is not None:
        return name_of(crew.manager_agent)
    return I18N_DEFAULT.retrieve("hierarchical_manager_agent", "role").strip()


def check_model(llm: object, whose: str) -> None:
    """Whether a model can be bounded.

    Raises:
        ConfigError: it can't
    """
    if not isinstance(llm, BaseLLM):
        raise ConfigError(f"{whose} has no model object: give it llm=LLM(…)")
    if is_stand_in(llm):
        return
    _check_methods(llm, MODEL_METHODS, f"the model of {whose}")
    host = host_class(llm)
    if goes_through_litellm(host):
        check(llm, whose)
    elif not host.__module__.startswith(_GATED):
        raise ConfigError(
            f"{whose} runs on {host.__module__}.{host.__name__}, whose own retries can't be switched off yet; "
            "use CrewAI's OpenAI, OpenAI-compatible, Azure, Anthropic, Gemini or Bedrock provider, or your own BaseLLM"
        )
    if is_azure(host) and getattr(llm, "api", None) == "responses":
        raise ConfigError(
            f"{whose} asks Azure's Responses API, whose conversations are kept where they can't be bounded; "
            "give it api='completions'"
        )
    if gemini.is_gemini(host):
        gemini.check_gemini(llm, whose)
    if bedrock.is_bedrock(host):
        bedrock.check_bedrock(llm, whose)
    if (choices := llm.additional_params.get("n") or llm.n or 1) > 1:
        raise ConfigError(f"the model of {whose} has n={choices}: completions that CrewAI throws away; leave n out")


def host_class(llm: BaseLLM) -> type[BaseLLM]:
    """CrewAI's own class below a user's."""
    return _host_class(type(llm))


@cache
def _host_class(kind: type[BaseLLM]) -> type[BaseLLM]:
    return next(base for base in kind.__mro__ if base.__module__.startswith("crewai."))


def check_agent(agent: Any) -> None:
    """Whether all that an agent does passes the gate.

    Raises:
        ConfigError: a part of it would not
    """
    whose = f"agent {getattr(agent, 'role', '?')!r}"
    if come_from(agent, "crewai", frozenset({"LiteAgent"})):
        check_model(agent.llm, whose)
        _check_tools(agent.tools, whose)
        return
    if not isinstance(agent, Agent):
        raise ConfigError(f"{whose} is a {type(agent).__name__}, which is run by another framework: guard that one")
    if vars(agent).get("a2a"):
        raise ConfigError(f"{whose} has a2a: agents elsewhere, whose models the guard can't reach; leave it out")
    check_model(agent.llm, whose)
    _check_tools(agent.tools, whose)
    _check_given(vars(agent).get("function_calling_llm"), f"the function_calling_llm of {whose}")
    if agent.planning_config is not None:
        _check_given(agent.planning_config.llm, f"the planning of {whose}")
    _check_guardrail(vars(agent).get("guardrail"), whose)
    _check_memory(vars(agent).get("memory"), vars(agent).get("embedder"), whose)
    _check_knowledge(agent, whose)


def _check_tools(tools: Any, whose: str) -> None:
    for tool in tools or ():
        if isinstance(tool, BaseTool) and not is_stand_in(tool):
            _check_methods(tool, TOOL_METHODS, f"tool {tool.name!r} of {whose}")


def _check_methods(part: object, names: Collection[str], whose: str) -> None:
    """Have what acts be gated: it is where its class has it."""
    ensure_gated(type(part))
    if own := [name for name in names if name in vars(part)]:
        raise ConfigError(
            f"{whose} has a {own[0]} that was set on the object, where the guard doesn't see it called; "
            "give it to a class, and make the object of that"
        )


def check_crew(crew: Crew) -> None:
    """The same of a crew, its agents, its manager and its tasks."""
    for agent in agents_of(crew):
        check_agent(agent)
    _check_given(crew.manager_llm if crew.process is Process.hierarchical else None, "the crew's manager")
    _check_given(crew.planning_llm if crew.planning else None, "the crew's planning")
    _check_given(vars(crew).get("function_calling_llm"), "the crew's function_calling_llm")
    if crew.memory:
        _check_memory(crew._memory, None, "the crew")  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    _check_knowledge(crew, "the crew")
    for task in crew.tasks:
        _check_task(task)


def agents_of(host: Agent | Crew) -> list[Any]:
    """Who takes part as far as it is declared, each once."""
    if isinstance(host, Agent):
        return [host]
    manager = [host.manager_agent] if host.process is Process.hierarchical and host.manager_agent else []
    found = [*host.agents, *(task.agent for task in host.tasks if task.agent is not None), *manager]
    return list({id(agent): agent for agent in found}.values())


def _check_task(task: Task) -> None:
    whose = f"task {task.name or task.description[:40]!r}"
    _check_tools(task.tools, whose)
    several: Any = vars(task).get("guardrails")
    given: list[Any] = [*(several if isinstance(several, list | tuple) else [several]), vars(task).get("guardrail")]
    for guardrail in given:
        _check_guardrail(guardrail, whose)


def _check_guardrail(guardrail: Any, whose: str) -> None:
    if come_from(guardrail, "crewai", frozenset({"LLMGuardrail"})):
        check_model(guardrail.llm, f"the guardrail of {whose}")


def _check_given(llm: Any, whose: str) -> None:
    """A model where one is given; one that is only named becomes an object in the run, and is looked at there."""
    if isinstance(llm, BaseLLM):
        check_model(llm, whose)


def _check_memory(memory: Any, embedder: Any, whose: str) -> None:
    if not memory:
        return
    backing = getattr(memory, "_memory", None) or memory
    _check_given(getattr(backing, "llm", None), f"the memory of {whose}")
    _check_embedder(getattr(backing, "embedder", None) or embedder, f"the memory of {whose}")


def _check_knowledge(host: Any, whose: str) -> None:
    declared = cast("dict[str, Any]", vars(host))
    knowledge: Any = declared.get("knowledge")
    if knowledge is None and not declared.get("knowledge_sources"):
        return
    storage: Any = getattr(knowledge, "storage", None)
    if storage is not None and not _is_crewai(storage):
        return  # the user's own: what it embeds with is, too
    _check_embedder(getattr(knowledge, "embedder", None) or declared.get("embedder"), f"the knowledge of {whose}")


def _check_embedder(embedder: Any, whose: str) -> None:
    if isinstance(embedder, dict):
        provider = str(embedder.get("provider"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if provider not in _LOCAL_EMBEDDERS | _GATED_EMBEDDERS:
            raise ConfigError(f"{whose} embeds with {provider}, {_EMBEDS}")
    elif _is_crewai(embedder) and not type(embedder).__name__.startswith((*_LOCAL_CLASSES, *_GATED_CLASSES)):
        raise ConfigError(f"{whose} embeds with {type(embedder).__name__}, {_EMBEDS}")


def _is_crewai(part: object) -> bool:
    return type(part).__module__.partition(".")[0] in {"crewai", "chromadb"}
