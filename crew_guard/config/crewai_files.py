"""A crew from crewAI's agents.yaml and tasks.yaml, as they are; every complaint names file, line and key.

An agent's key in the file becomes its name here, in journals and in policies; its role is the title
that its model reads. max_iter becomes a cap of the agent's model calls that the gate holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from crew_guard.config.crewai_sections import Named, Sections
from crew_guard.config.document import Document, Scalar
from crew_guard.core.roles import Agent, Crew, Role, Task, Verifier
from crew_guard.core.tools import Tool
from crew_guard.errors import ConfigError


def load_crew_files(agents: str | Path, tasks: str | Path, named: Named) -> Crew:
    """The crew of both files, its tasks in order.

    Raises:
        ConfigError: a file can't be read or is wrong: one line for each thing that is
    """
    roles, jobs = Sections(Path(agents), "agents", named), Sections(Path(tasks), "tasks", named)
    only = roles.names[0] if len(roles.names) == 1 else ""
    wishes = [_wish(jobs, name, only) for name in jobs.names]
    for wish in wishes:
        if wish.agent and wish.agent not in roles.names:
            known = ", ".join(roles.names) or "none"
            jobs.problem((wish.name, "agent"), f"names the agent {wish.agent!r}; {roles.file} has {known}")
    own = {name: [wish for wish in wishes if wish.agent == name] for name in roles.names}
    members = [_agent(roles, jobs, name, own[name]) for name in roles.names]
    roles.check()
    jobs.check()
    try:
        return Crew([one for one in members if one], [wish.task for wish in wishes])
    except ValueError as error:
        raise ConfigError(str(error), file=jobs.file) from None


def role_of(file: Path, document: Document, key: str | None) -> Role:
    """One agent of a parsed agents.yaml as a role; its tools by name are the only ones that it may have.

    Raises:
        ConfigError: there is no such agent, or several and none was named, or it is wrong
    """
    tree = document.tree
    if isinstance(tree, dict) and isinstance(tree.get("role"), Scalar):
        document.tree = {file.stem: tree}
        document.lines = {(file.stem, *place): line for place, line in document.lines.items()} | {(): 1}
    sections = Sections(file, "agents", Named(), document)
    known = ", ".join(sections.names) or "none"
    if key is None and len(sections.names) > 1:
        raise ConfigError(f"has several agents, {known}: name one, as in {file.name}:{sections.names[0]}", file=file)
    name = key or next(iter(sections.names), "")
    if name not in sections.names:
        raise ConfigError(f"has no agent {name!r}; its agents are {known}", file=file)
    tools = sections.texts(name, "tools")
    role = _role(sections, name, 1, None if tools is None else tuple(tools))
    sections.check()
    if role is None:
        raise ConfigError("is no agent", file=file, key=name)
    return role


# Agents


def _role(sections: Sections, name: str, tasks: int, tools: tuple[str, ...] | None) -> Role | None:
    title, goal = sections.text(name, "role", needed=True), sections.text(name, "goal", needed=True)
    steps = _steps(sections, name, tasks)
    if sections.has(name, "allow_delegation"):
        sections.tell(name, "allow_delegation", "the agent does its tasks itself")
    model = sections.text(name, "llm")
    try:
        return Role(
            name=name,
            title=title,
            goal=goal or "?",
            instructions=sections.text(name, "backstory"),
            tools=tools,
            model=_model(model, sections.named.models) if model else None,
            max_steps=steps,
        )
    except ValidationError:
        sections.problem((name,), "an agent's key begins with a letter, and holds letters, digits, _, - and spaces")
        return None


def _steps(sections: Sections, name: str, tasks: int) -> int | None:
    if not sections.has(name, "max_iter"):
        return None
    text = sections.text(name, "max_iter")
    if not text.isdecimal():
        sections.problem((name, "max_iter"), f"expected a whole number of at least 0, got {text!r}")
        return None
    return int(text) * max(1, tasks)  # crewAI counts each task by itself


def _model(name: str, models: Mapping[str, str]) -> str:
    """Our name of a model: crewAI writes provider/name, and a bare name for OpenAI's."""
    if name in models:
        return models[name]
    provider, slash, rest = name.partition("/")
    if slash and ":" not in provider:
        return f"{provider}:{rest}"
    return name if ":" in name else f"openai:{name}"


def _agent(sections: Sections, jobs: Sections, name: str, wishes: list[_Wish]) -> Agent | None:
    listed = sections.texts(name, "tools") or []
    limited = {wish.tools for wish in wishes if wish.tools is not None}
    for wish in wishes:
        # Tools are an agent's here: what a task limits must hold for the agent as a whole.
        if len(limited) > 1 or (limited and wish.tools is None):
            jobs.problem(
                (wish.name, "tools"), f"the tasks of {name} have different tools; give each an agent of its own"
            )
            break
    chosen = list(next(iter(limited))) if limited else listed
    tools: list[Tool] = []
    for tool in chosen:
        if found := sections.named.tools.get(tool):
            tools.append(found)
        else:
            known = ", ".join(sections.named.tools) or "none"
            where, key = (jobs, (wishes[0].name, "tools")) if limited else (sections, (name, "tools"))
            where.problem(key, f"names the tool {tool!r}, which was not given; tools= has {known}")
    role = _role(sections, name, len(wishes), None)
    return Agent(role, tools) if role else None


# Tasks


@dataclass(frozen=True, slots=True)
class _Wish:
    """A task, and what of it concerns its agent."""

    name: str
    agent: str
    tools: tuple[str, ...] | None
    task: Task


def _wish(jobs: Sections, name: str, only: str) -> _Wish:
    description = jobs.text(name, "description", needed=True)
    if expected := jobs.text(name, "expected_output", needed=True):
        description += f"\n\nThe answer is to be: {expected}"
    if jobs.has(name, "markdown"):
        description += "\n\nWrite the answer in Markdown."
    agent = jobs.text(name, "agent", needed=not only) or only
    tools, context = jobs.texts(name, "tools"), jobs.texts(name, "context")
    if context is not None:
        before = jobs.names[: jobs.names.index(name)]
        for other in context:
            if other not in before:
                known = ", ".join(before) or "none"
                jobs.problem((name, "context"), f"names {other!r}, which is no task before it; those are {known}")
    task = Task(
        description,
        agent,
        output=_output(jobs, name),
        verify=_verifier(jobs, name),
        name=name,
        context=None if context is None else tuple(context),
    )
    return _Wish(name, agent, None if not tools else tuple(tools), task)


def _output(jobs: Sections, name: str) -> type[BaseModel] | None:
    for key in ("output_pydantic", "output_json"):
        if jobs.has(name, key):
            return _given(jobs, (name, key), jobs.named.outputs, "outputs")
    return None


def _verifier(jobs: Sections, name: str) -> Verifier | None:
    if not jobs.has(name, "guardrail"):
        return None
    if jobs.named.ignores(name, "guardrail"):
        jobs.tell(name, "guardrail", "left out, as was asked for")
        return None
    return _given(jobs, (name, "guardrail"), jobs.named.verifiers, "verifiers")


def _given(jobs: Sections, key: tuple[str, str], found: Mapping[str, Any], argument: str) -> Any:
    wanted = jobs.text(*key)
    if wanted in found:
        return found[wanted]
    shown = wanted if len(wanted) <= 40 else f"{wanted[:40]}…"  # noqa: PLR2004  as much as names a thing
    jobs.problem(key, f"names {shown!r}, which was not given; {argument}= has {', '.join(found) or 'none'}")
    return None
