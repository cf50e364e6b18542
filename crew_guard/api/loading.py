"""Roles, policies and crews from files, by path or by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel

from crew_guard import config
from crew_guard.core.given import must_be_of
from crew_guard.core.plain import shown
from crew_guard.core.policy import Policy
from crew_guard.core.roles import Crew, Role, Verifier
from crew_guard.core.tools import Tool
from crew_guard.errors import ConfigError


def load_role(name: str | Path) -> Role:
    """A role from a YAML file, or by its name from ./roles or those that ship.

    crewAI's agents.yaml is read, too: `agents.yaml`, or `agents.yaml:KEY` where it has several agents.

    Raises:
        ConfigError: there is none, or the file is wrong
    """
    must_be_of(name, str | Path, "name", "the path of a role's file, or a role's name", ConfigError)
    return config.load_role(name)


def load_policy(name: str | Path) -> Policy:
    """A policy from a YAML file, or by its name from ./policies or those that ship, with all that it extends.

    Raises:
        ConfigError: there is none, or the file or one that it extends is wrong
    """
    must_be_of(name, str | Path, "name", "the path of a policy's file, or a policy's name", ConfigError)
    return config.load_policy(name)


def load_crew_files(
    agents: str | Path,
    tasks: str | Path,
    *,
    tools: Mapping[str, Tool] = MappingProxyType({}),
    outputs: Mapping[str, type[BaseModel]] = MappingProxyType({}),
    verifiers: Mapping[str, Verifier] = MappingProxyType({}),
    models: Mapping[str, str] = MappingProxyType({}),
    ignore: Sequence[str] = (),
) -> Crew:
    """A crew from crewAI's agents.yaml and tasks.yaml, as they are.

    What is told rather than done (output_file, say) is a UserWarning that names file, line and key.

    Args:
        agents, tasks: the files
        tools, outputs, verifiers: what the files name: their tools, output_pydantic and guardrail
        models: our names, e.g. anthropic:claude-sonnet-4-5, of the llm that the files name
        ignore: keys that can't be held here and may be left out all the same: max_rpm, or researcher.max_rpm
    Raises:
        ConfigError: a file is wrong, or has a limit or a check that can't be held
    """
    must_be_of(agents, str | Path, "agents", "the path of crewAI's agents.yaml", ConfigError)
    must_be_of(tasks, str | Path, "tasks", "the path of crewAI's tasks.yaml", ConfigError)
    _check_names("tools", tools, "tools", "{'search': search}")
    _check_names("outputs", outputs, "models of pydantic", "{'Brief': Brief}")
    _check_names("verifiers", verifiers, "verifiers", "{'check_brief': check_brief}")
    _check_names("models", models, "our names of them", "{'gpt-4.1': 'openai:gpt-4.1'}")
    _check_keys("ignore", ignore)
    given = config.Named(tools, outputs, verifiers, models, frozenset(ignore))
    return config.load_crew_files(agents, tasks, given)


def _check_names(argument: str, value: object, what: str, example: str) -> None:
    must_be_of(value, Mapping, argument, f"a mapping of the files' names to {what}, {example}", ConfigError)


def _check_keys(argument: str, value: object) -> None:
    if isinstance(value, str) or not isinstance(value, Sequence | AbstractSet):
        raise ConfigError(f"{argument} must be a list of keys, such as ['max_rpm'], not {shown(value)}")
