"""What the examples of this folder share: the graph is drawn, run, and its result printed.

With OPENAI_API_KEY set the model answers; without one, a script does in its place, so that they run offline.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import print as show_graph

from crew_guard import Result, Supervisor, Workflow
from crew_guard.core.messages import ModelRequest
from crew_guard.testing import MemoryStore, Reply, ScriptedModel

MODEL = "openai:gpt-4.1-mini"


def show(
    flow: Workflow, inputs: Mapping[str, Any], script: Sequence[Reply | str] | Callable[[ModelRequest], str]
) -> Result:
    """Run a workflow, and print what came of it. The script is the answers in order, or one to each request."""
    models = {} if "OPENAI_API_KEY" in os.environ else {MODEL: ScriptedModel(script)}
    show_graph(flow)
    result = Supervisor(models=models, store=MemoryStore()).run(flow, inputs)
    print(result.output if result.done else f"{result.status}: {result.stopped or result.error}")
    print(f"{result.usage.steps} model calls, {result.usage.tool_calls} tool calls, ${result.usage.nano_usd / 1e9:.4f}")
    return result
