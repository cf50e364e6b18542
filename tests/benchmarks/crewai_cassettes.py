"""CrewAI's own recorded conversations, replayed unguarded and guarded: python -m tests.benchmarks.crewai_cassettes

Each recording is HTTP with a provider. The agents, tasks and tools are built again from the recorded
requests, CrewAI runs them against the recording, and what it gives is compared with a guarded run of the
same. The ledger's tokens are held against the usage that the played responses report. A guarded run that
differs makes the exit code 1. `replays` are those whose responses were all played without an error.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import logging
import os
import re
import signal
import tarfile
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.update(CREWAI_DISABLE_TELEMETRY="true", OTEL_SDK_DISABLED="true", CREWAI_TRACING_ENABLED="false")

import yaml

from crew_guard import Limits, Policy, guard
from crew_guard.core.reported import parse_usage
from crew_guard.store.memory import MemoryStore

DATA = Path(os.environ.get("CREW_GUARD_DATA", Path(__file__).parents[2] / "../shared/data"))
FILE = DATA / "crewai_cassettes/cassettes.tar.xz"
ENDPOINTS = {
    "api.openai.com/v1/chat/completions": "chat",
    "api.openai.com/v1/responses": "responses",
    "api.anthropic.com/v1/messages": "anthropic",
}
SECONDS = 20
DELEGATES = {"delegate_work_to_coworker", "ask_question_to_coworker"}


@dataclass
class Conversation:
    """Requests that go on from each other."""

    role: str
    goal: str
    backstory: str
    task: str
    bodies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    places: list[int] = field(default_factory=list[int])

    @property
    def tools(self) -> set[str]:
        """Names of the tools that its agent was shown."""
        body = self.bodies[0]
        native = {(tool.get("function") or tool).get("name", "") for tool in body.get("tools") or ()}
        written = re.findall(r'"name": "([\w ]+)"|Tool Name: ([\w ]+)', str(body)) if not native else []
        return native or {one or other for one, other in written}

    @property
    def delegates(self) -> bool:
        return bool({name.lower().replace(" ", "_") for name in self.tools} & DELEGATES)


@dataclass
class Recording:
    """One cassette's calls of a model."""

    name: str
    form: str
    interactions: list[dict[str, Any]]
    bodies: list[dict[str, Any]]

    def tokens(self, played: Callable[[int], bool]) -> int | None:
        """What the played responses report; None where one reports nothing."""
        found = [usage_in(one["response"]) for i, one in enumerate(self.interactions) if played(i)]
        return None if None in found else sum(one or 0 for one in found)


def recordings() -> Iterator[Recording]:
    """Those whose provider crew_guard gates, one form each."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with tarfile.open(FILE) as tar:
        for member in sorted(tar.getmembers(), key=lambda one: one.name):
            if not member.name.endswith(".yaml"):
                continue
            held = tar.extractfile(member)
            assert held is not None
            found = [one for one in yaml.load(held, Loader=loader)["interactions"] if form_of(one)]  # noqa: S506  a safe one
            forms = {form_of(one) for one in found}
            bodies = [_json(one["request"]["body"]) for one in found]
            if len(forms) == 1 and all(bodies):
                yield Recording(member.name.removeprefix("./cassettes/"), forms.pop() or "", found, bodies)


def form_of(interaction: dict[str, Any]) -> str | None:
    """The form of a model's endpoint; None for what isn't one."""
    uri = interaction["request"]["uri"].split("://")[-1].split("?")[0].replace(":443", "")
    return ENDPOINTS.get(uri)


def _json(body: Any) -> dict[str, Any]:
    try:
        return json.loads(body if isinstance(body, str | bytes) else body["string"])
    except (ValueError, TypeError, KeyError):
        return {}


def usage_in(response: dict[str, Any]) -> int | None:
    """The tokens that a response reports, plain or streamed."""
    raw = (response.get("body") or {}).get("string") or b""
    data = raw.encode() if isinstance(raw, str) else raw
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8", "replace")
    usage: dict[str, Any] = {}
    if (response.get("status") or {}).get("code", 200) >= 400:
        return 0
    parts = [text] if text.lstrip().startswith("{") else re.findall(r"^data: (\{.*\})\s*$", text, re.MULTILINE)
    for part in parts:
        with contextlib.suppress(ValueError):
            value = json.loads(part)
            held = value.get("usage") or (value.get("response") or value.get("message") or {}).get("usage")
            usage |= {key: one for key, one in (held or {}).items() if one is not None}
    parsed, _ = parse_usage(usage) if usage else (None, None)
    return None if parsed is None else parsed.input_tokens + parsed.output_tokens


# Building it again


def conversations(bodies: list[dict[str, Any]]) -> list[Conversation] | None:
    """The conversations of CrewAI's agents; None where a request is none of an agent."""
    found: dict[tuple[str, str], Conversation] = {}
    for place, body in enumerate(bodies):
        said = body.get("messages") or body.get("input") or ()
        system = (
            body.get("system")
            or body.get("instructions")
            or next((one["content"] for one in said if one.get("role") in {"system", "developer"}), "")
        )
        user = (
            next((one["content"] for one in said if one.get("role") == "user"), "") if isinstance(said, list) else said
        )
        who = re.match(
            r"You are (.*?)\. (.*?)\s*Your personal goal is: (.*?)(?:\n|$)", _text(system) or _text(user), re.DOTALL
        )
        if who is None:
            return None
        task = re.sub(r"^\s*Current Task: ", "", _text(user).split("\n\nThis is the expect")[0]).split("\n\nProvide")[0]
        key = _text(system), _text(user)
        known = found.setdefault(key, Conversation(who[1], who[3], who[2], task))
        known.bodies.append(body)
        known.places.append(place)
    return list(found.values())


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(one.get("text", "")) for one in content or ())


def model(form: str, body: dict[str, Any], *, native: bool = True) -> Any:
    """A model as the request's was."""
    if form == "anthropic":
        from crewai.llms.providers.anthropic.completion import AnthropicCompletion as Base
    else:
        from crewai.llms.providers.openai.completion import OpenAICompletion as Base
    options: dict[str, Any] = {"model": body["model"], "api_key": "none", "max_retries": 0}
    if form != "anthropic":
        options["api"] = "responses" if form == "responses" else "completions"
    if body.get("stream"):
        options["stream"] = True
    if native:
        return Base(**options)

    class Written(Base):
        """Its tools stand in the prompt's text."""

        def supports_function_calling(self) -> bool:
            return False

    return Written(**options)


def tool_named(name: str) -> Any:
    """A tool of this name that takes whatever it is given."""
    from crewai.tools import BaseTool
    from pydantic import BaseModel, ConfigDict

    class Anything(BaseModel):
        model_config = ConfigDict(extra="allow")

    class Stub(BaseTool):
        def _run(self, **arguments: Any) -> str:
            return f"{name}: {sorted(arguments)}"

    return Stub(name=name, description=f"{name}.", args_schema=Anything)


def host_of(recording: Recording) -> Any:
    """A crew of the recorded agents; a flow of plain calls where a request isn't an agent's."""
    talks = conversations(recording.bodies)
    if talks is None:
        return flow_of(recording)
    from crewai import Agent, Crew, Task

    agents: dict[str, Any] = {}
    tasks: list[Any] = []
    until = -1
    for talk in talks:
        native = bool(talk.bodies[0].get("tools")) or not talk.tools
        if talk.role not in agents:
            names = sorted(name for name in talk.tools if name.lower().replace(" ", "_") not in DELEGATES)
            agents[talk.role] = Agent(
                role=talk.role,
                goal=talk.goal,
                backstory=talk.backstory,
                llm=model(recording.form, talk.bodies[0], native=native),
                tools=[tool_named(name) for name in names],
                allow_delegation=talk.delegates,
                max_retry_limit=0,
            )
        if talk.places[0] > until:  # not what an agent gave another while it waited
            tasks.append(Task(description=talk.task or "Go on.", expected_output="an answer", agent=agents[talk.role]))
        if talk.delegates:
            until = max(until, talk.places[-1])
    return Crew(agents=list(agents.values()), tasks=tasks)


def flow_of(recording: Recording) -> Any:
    """A flow whose one method makes the recorded calls."""
    from crewai.flow.flow import Flow, start

    class Calls(Flow):
        @start()
        def ask(self) -> list[str]:
            answers: list[str] = []
            for body in recording.bodies:
                said = body.get("messages") or body.get("input")
                if body.get("system"):
                    said = [{"role": "system", "content": body["system"]}, *said]
                answers.append(str(model(recording.form, body).call(said, tools=body.get("tools"))))
            return answers

    return Calls()


# Replaying


@dataclass
class Replay:
    """What came of one."""

    output: str = ""
    error: str = ""
    complete: bool = False
    recorded: int | None = 0
    ledger: int = 0


def replay(recording: Recording, run: Callable[[Any], tuple[str, str, int]]) -> Replay:
    """Run the host against the recording."""
    import vcr

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.yaml"
        path.write_text(yaml.dump({"version": 1, "interactions": recording.interactions}), encoding="utf-8")
        player = vcr.VCR(record_mode=vcr.mode.NONE, match_on=["method", "scheme", "host", "port", "path"])
        with player.use_cassette(str(path)) as cassette:
            output, error, ledger = run(host_of(recording))
            played = dict(cassette.play_counts)
    complete = len(played) == len(recording.interactions) and not error
    return Replay(output, error, complete, recording.tokens(lambda i: bool(played.get(i))), ledger)


def unguarded(host: Any) -> tuple[str, str, int]:
    """(output, error, 0)."""
    signal.alarm(SECONDS)
    try:
        return _shown(host.kickoff()), "", 0
    except Exception as error:
        return "", f"{type(error).__name__}: {error}", 0
    finally:
        signal.alarm(0)


def guarded(host: Any) -> tuple[str, str, int]:
    """(output, error, the ledger's tokens)."""
    rules = Policy(limits=Limits(max_steps=1000, max_tokens=10**8, max_seconds=SECONDS))
    result = guard(host, rules, store=MemoryStore()).run()
    return _shown(result.output), result.error or (str(result.stopped) if result.stopped else ""), result.usage.tokens


def _shown(output: Any) -> str:
    return str(getattr(output, "raw", output))


def _late(*_: Any) -> None:
    raise TimeoutError("it took too long")


def compare(every: int) -> tuple[Counter[str], list[str]]:
    """Every n-th recording, unguarded and guarded."""
    import crewai.llms.retry

    crewai.llms.retry.get_retry_delay_seconds = lambda **_: 0.0  # nobody waits for a recording
    signal.signal(signal.SIGALRM, _late)
    tally: Counter[str] = Counter()
    differ: list[str] = []
    for recording in islice(recordings(), 0, None, every):
        tally["recordings"] += 1
        tally[recording.form] += 1
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            plain = replay(recording, unguarded)
            if not plain.complete:
                continue
            under = replay(recording, guarded)
        tally["replays"] += 1
        tally["calls"] += len(recording.interactions)
        same = (under.output, under.complete) == (plain.output, True)
        tally["same"] += same
        if not same:
            differ.append(f"{recording.name}: {under.error or under.output[:80]!r}, unguarded {plain.output[:80]!r}")
        if under.recorded is None:
            tally["unreported"] += 1
        else:
            tally["reported"] += 1
            tally["recorded tokens"] += under.recorded
            tally["ledger tokens"] += under.ledger
            tally["same tokens"] += under.recorded == under.ledger
            if under.recorded != under.ledger:
                differ.append(f"{recording.name}: the ledger has {under.ledger:,} tokens, recorded {under.recorded:,}")
    return tally, differ


def main() -> int:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="only every n-th recording; all take some five minutes")
    given = parser.parse_args()
    if not FILE.exists():
        print(f"skipped: the recorded conversations are not at {DATA}; set CREW_GUARD_DATA")
        return 0
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    tally, differ = compare(given.every)
    forms = ", ".join(f"{tally[form]} {form}" for form in ("chat", "responses", "anthropic"))
    print(f"recordings of providers that are gated  {tally['recordings']:>8}  ({forms})")
    print(f"replay unguarded to their end           {tally['replays']:>8}  with {tally['calls']} calls of a model")
    print(f"guarded with the same output            {tally['same']:>8}")
    print(f"whose responses report usage            {tally['reported']:>8}")
    print(f"ledger equal to what they report        {tally['same tokens']:>8}")
    print(f"tokens in the ledger, and recorded      {tally['ledger tokens']:>8,}  {tally['recorded tokens']:,}")
    for line in differ:
        print(f"  differs: {line}")
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())
