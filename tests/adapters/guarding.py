"""Runs a host's object under a policy, with token bounds that need no vocabulary."""

import json
from importlib.metadata import PackageNotFoundError
from uuid import uuid4

from crew_guard.adapters import versions
from crew_guard.api import Supervisor
from crew_guard.core.limits import Limits
from crew_guard.core.policy import Policy
from crew_guard.core.usage import Rate, Rates
from crew_guard.store.memory import MemoryStore


class ByteFacts:
    """Bytes bound tokens from above for any byte-level vocabulary."""

    rates = Rates(Rate(2_000_000_000), Rate(8_000_000_000))

    def __init__(self):
        self.counted = 0

    def bound(self, message):
        self.counted += 1
        asked = "".join(request.name + request.arguments for request in message.tool_requests)
        return len(message.text.encode()) + len(asked.encode()) + 8

    def bound_request(self, tools, output_schema):
        return 8 + len(json.dumps([[tool.name, tool.description, tool.parameters] for tool in tools]))


def policy(**limits):
    """A policy of limits only."""
    return Policy(limits=Limits.model_validate(limits))


def installed(monkeypatch, package, version):
    """Have a package in this version, or None for not at all."""
    real = versions.version

    def told(name):
        if name != package:
            return real(name)
        if version is None:
            raise PackageNotFoundError(name)
        return version

    monkeypatch.setattr(versions, "version", told)
    monkeypatch.setattr(versions, "_seen", set())


class Guard:
    """One runtime under one policy, its journal kept."""

    def __init__(self, adapter, host, rules, facts=None):
        self.facts = facts or ByteFacts()
        self.names = []
        self.store = MemoryStore()
        self.runtime = adapter.runtime_for(host, self.facts_of)
        self.supervisor = Supervisor(rules, store=self.store)

    def facts_of(self, model):
        self.names.append(model)
        return self.facts

    def start(self, inputs, home=None):
        self.run_id = uuid4().hex
        return self.supervisor.run_runtime(self.runtime, inputs, name="hosted", run_id=self.run_id, home=home)

    def run(self, task="Find everything.", **inputs):
        return self.start(inputs or {"task": task}).future.result(30)

    def events(self, name):
        return [event for event in self.store.read(self.run_id) if type(event).__name__ == name]
