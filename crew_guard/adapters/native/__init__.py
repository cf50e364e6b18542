"""Our own runtime: how a crew goes about its tasks is its process, each a module of its own.

All of them run the same AgentLoop, and none is bounded by anything but the gate.
"""

from crew_guard.adapters.native.loop import AgentLoop, BuiltIn, UnfinishedError
from crew_guard.adapters.native.runtime import NativeRuntime, check_inputs

compiled = NativeRuntime

__all__ = ["AgentLoop", "BuiltIn", "NativeRuntime", "UnfinishedError", "check_inputs", "compiled"]
