"""A chain of nodes: each takes what the one before returned, under the same gate as a crew.

A node is a function, sync or async, or a Tool. A function that calls tools or models takes a
NodeContext as its second parameter and acts through that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread

from crew_guard.core.tools import Tool
from crew_guard.ports import Gate, RuntimeResult, ToolResult


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What a node acts through."""

    node: str
    inputs: Mapping[str, Any]
    """The run's inputs."""
    gate: Gate

    async def call_tool(self, tool: Tool, arguments: Mapping[str, Any]) -> ToolResult:
        """Execute a tool through the gate, charged to this node. `value` of what it returns is the result.

        Raises:
            NodeFailedError: the tool failed, or the arguments don't fit it
            RefusedError: the guard said no
        """
        result = await self.gate.call_tool(self.node, tool, arguments)
        if result.failed:
            raise NodeFailedError(result.text)
        return result


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a workflow."""

    name: str
    function: Callable[..., Any] | Tool
    takes_context: bool = False

    async def run(self, value: Any, context: NodeContext) -> Any:
        """What the node makes of a value.

        Raises:
            NodeFailedError: a tool failed
        """
        if isinstance(self.function, Tool):
            return (await context.call_tool(self.function, value)).value
        given = (value, context) if self.takes_context else (value,)
        if inspect.iscoroutinefunction(self.function):
            return await self.function(*given)
        # Beside the loop: it may block, and other runs go on meanwhile.
        made = await anyio.to_thread.run_sync(self.function, *given, abandon_on_cancel=True)
        return await made if inspect.isawaitable(made) else made


class NodeFailedError(Exception):
    """A node could not do its step. The workflow ends there."""


def node(function: Callable[..., Any] | Tool, *, name: str | None = None) -> Node:
    """Make a function or a tool a step of a workflow.

    Args:
        function: takes the value of the step before (the first one the run's inputs) and, where
            it has a second parameter, a NodeContext
        name: unique in its workflow; the function's own name by default
    Raises:
        TypeError: the function takes no value, or more than a value and a context
    """
    if isinstance(function, Tool):
        return Node(name or function.name, function)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    count = sum(parameter.kind in kinds for parameter in inspect.signature(function).parameters.values())
    if count not in (1, 2):
        raise TypeError(f"node {function!r} takes {count} positional parameters: a value, and a NodeContext if it acts")
    return Node(name or getattr(function, "__name__", "node"), function, takes_context=count == 2)  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Chain:
    """Nodes in a fixed order. A Workflow of ports."""

    name: str
    nodes: tuple[Node, ...] = field(default=())

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Run each node once; the last one's value is the output, and None is none."""
        value: Any = inputs
        step = self.nodes[-1]
        outputs: dict[str, Any] = {}
        for step in self.nodes:
            gate.node(self.name, step.name)
            try:
                value = await step.run(value, NodeContext(step.name, inputs, gate))
            except Exception as error:
                gate.node(self.name, step.name, f"{type(error).__name__}: {error}")
                raise
            gate.node(self.name, step.name, "")
            outputs[step.name] = value
        if value is None:
            return RuntimeResult(None, outputs, partial=True, reason=f"its last node, {step.name}, gave nothing")
        return RuntimeResult(value, outputs)


def chain(*nodes: Node | Callable[..., Any] | Tool, name: str = "workflow") -> Chain:
    """Nodes that run one after the other.

    Raises:
        ValueError: there are none, or two have the same name
    """
    steps = tuple(step if isinstance(step, Node) else node(step) for step in nodes)
    names = [step.name for step in steps]
    if not steps:
        raise ValueError(f"workflow {name!r} has no nodes")
    if twice := sorted({one for one in names if names.count(one) > 1}):
        raise ValueError(f"workflow {name!r}: two nodes are named {twice[0]!r}; give one of them a name=")
    return Chain(name, steps)
