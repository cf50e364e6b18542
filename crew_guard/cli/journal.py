"""`runs list` and `runs show`: the journal, folded and told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from crew_guard.cli.ends import command
from crew_guard.cli.streams import Stdout
from crew_guard.cli.summary import account, agents_table, answer_text, reliability_words, write
from crew_guard.config import data_dir
from crew_guard.core.events import Event, RunStarted, encode
from crew_guard.core.limits import UNCAPPED
from crew_guard.core.result import Result
from crew_guard.core.standing import Reliability
from crew_guard.core.usage import NOTHING, Usage
from crew_guard.errors import StoreError
from crew_guard.observers.view import STYLES
from crew_guard.observers.words import Line, Teller, caps_words, clean, seconds, stop_words

if TYPE_CHECKING:
    from crew_guard.store.reading import SqliteReader


def list_journal(store: Path | None, limit: int, *, as_json: bool, debug: bool) -> None:
    """Print the latest runs."""
    with command(as_json=as_json, debug=debug) as stdout:
        file = store_file(store)
        runs = ()
        if store is not None or is_there(file):
            runs = open_journal(file).runs(limit)
        if as_json:
            rows = [{name: getattr(run, name) for name in run.__slots__} for run in runs]
            stdout.json({"store": str(file), "runs": rows})
            return
        if not runs:
            stdout.text(f"No runs yet in {file}. Start one: crew-guard research QUESTION\n")
            return
        table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
        for name in ("Run", "Crew", "Started", "Took", "Status"):
            table.add_column(name, no_wrap=True, overflow="ignore" if name == "Run" else "ellipsis")
        for run in runs:
            took = seconds(run.ended - run.started) if run.ended is not None else ""
            status = "unfinished" if run.status == "running" else run.status
            table.add_row(
                Text(clean(run.run_id, 80)), Text(clean(run.crew, 24)), _when(run.started), took, _status_text(status)
            )
        write(stdout.stream, table)


def show_journal(prefix: str, store: Path | None, *, events: bool, as_json: bool, debug: bool) -> None:
    """Print the account of one run, as far as its journal can be read."""
    with command(as_json=as_json, debug=debug) as stdout:
        journals = open_journal(store_file(store))
        run_id = journals.find(prefix)
        story = _fold(run_id, journals.read(run_id))
        from crew_guard.cli.standing import standing_of

        story.reliability = standing_of(run_id, story.events, story.teller, journals.track_record())
        if as_json:
            if story.damage:
                raise story.damage
            stdout.json(_as_json(story, events=events))
            return
        _tell(story, stdout, events=events)
        if story.damage:
            raise story.damage


@dataclass(slots=True)
class _Story:
    """A run's journal, folded."""

    run_id: str
    teller: Teller = field(default_factory=Teller)
    lines: list[Line] = field(default_factory=list[Line])
    events: list[Event] = field(default_factory=list[Event])
    damage: StoreError | None = None
    reliability: Reliability | None = None
    """Of its crew, as far as it is known now."""

    @property
    def started(self) -> RunStarted | None:
        return self.teller.state.started

    def _by_agent(self) -> dict[str, Usage]:
        """What each used, what it holds charged as reserved: as a run that died is."""
        state = self.teller.state
        found = state.usage_by_agent()
        for held in state.open.values():
            found[held.event.agent] = found.get(held.event.agent, NOTHING) + held.event.reserved
        return found

    def _by_scope(self) -> dict[str, Usage]:
        """The same of what a cap may hold for."""
        found = self.teller.state.usage_by_scope()
        for held in self.teller.state.open.values():
            found |= {scope: found.get(scope, NOTHING) + held.event.reserved for scope in held.scopes}
        return found

    def result(self) -> Result:
        """What the run came to, or has come to so far."""
        state, started = self.teller.state, self.started
        ended, fell_back = state.ended, state.fell_back
        return Result(
            run_id=self.run_id,
            status=state.status,
            output=ended.output if ended else None,
            via=state.via,
            stopped=ended.stop if ended else None,
            usage=state.used("run") + sum((held.event.reserved for held in state.open.values()), NOTHING),
            agents=self._by_agent(),
            scopes=self._by_scope(),
            caps=started.caps._replace(agents=started.crew_caps.agents) if started else UNCAPPED,
            fell_back=fell_back.reason if fell_back else "",
            error=ended.error if ended else "",
            verdicts=tuple(state.verdicts),
            overshoot=state.overshoot,
            unreported=state.unreported,
            late=ended.late if ended else (),
            policy=started.policy if started else "",
            seconds=self.events[-1].at - started.at if started else 0.0,
            max_seconds=started.max_seconds if started else None,
            reliability=self.reliability,
        )


def _fold(run_id: str, events: Iterable[Event]) -> _Story:
    story = _Story(run_id)
    try:
        for event in events:
            line = story.teller.tell(event)
            story.events.append(event)
            if line:
                story.lines.append(line)
    except StoreError as error:
        story.damage = error
    except (KeyError, ValueError) as error:
        seq = story.events[-1].seq if story.events else 0
        story.damage = StoreError(f"the journal of run {run_id!r} does not make sense after event {seq}: {error!r}")
    if not story.events and story.damage:
        raise story.damage
    return story


def store_file(store: Path | None) -> Path:
    return data_dir() / "crew_guard.db" if store is None else store


def open_journal(file: Path) -> SqliteReader:
    """The journal in a file, to look at it only.

    Raises:
        StoreError: there is none, or it can't be read
    """
    from crew_guard.store.reading import open_to_read

    if not is_there(file):
        raise no_journal(file)
    return open_to_read(file)


def is_there(file: Path) -> bool:
    """Whether there is such a file.

    Raises:
        StoreError: nobody here may know
    """
    try:
        return file.exists()
    except OSError as error:
        raise StoreError(f"{file} can't be reached: {error.strerror}; choose another file with --store") from None


def no_journal(file: Path) -> StoreError:
    """The error where a store that is named isn't there."""
    return StoreError(f"there is no journal at {file}; give another with --store, or start a run")


def _as_json(story: _Story, *, events: bool) -> dict[str, Any]:
    started = story.started
    value: dict[str, Any] = story.result().as_dict()
    if started:
        value |= {"crew": started.crew, "runtime": started.runtime, "started": started.at}
        value["inputs"] = dict(started.inputs)
    value["finished"] = story.teller.state.ended is not None
    if events:
        value["events"] = [_event_json(event) for event in story.events]
    return value


def _event_json(event: Event) -> dict[str, Any]:
    kind, body = encode(event)
    return {"type": kind, **json.loads(body)}


def _tell(story: _Story, stdout: Stdout, *, events: bool) -> None:
    result, state = story.result(), story.teller.state
    parts: list[RenderableType] = [*_head(story), Text("\nWhat happened", style="bold")]
    if events:
        parts += [_event_text(event, story) for event in story.events]
    else:
        parts += [Text(f"{line}", style="" if line.tone == "plain" else STYLES[line.tone]) for line in story.lines]
    if state.ended is None:
        silent = f"{seconds(result.seconds)} after it began"
        parts.append(
            Text(f"\nUnfinished: the last event is from {silent}. Its process died, or is still at it.", style="yellow")
        )
        for held in state.open.values():
            event = held.event
            parts.append(
                Text(f"  in flight: {clean(event.agent, 60)} → {clean(event.target, 60)}, charged as reserved")
            )
    if state.latches:
        parts.append(Text("\nStopped for good", style="bold"))
        parts += [Text(f"  {clean(scope, 60)}: {stop_words(stop)}") for scope, stop in state.latches.items()]
    parts += [Text("\nUsage", style="bold"), agents_table(result.agents), Text("")]
    shown = replace(result, reliability=None)
    shown = shown if state.ended else replace(shown, stopped=None)
    parts += account(shown)
    if story.reliability is not None:
        parts += _reliability_parts(story.run_id, story.reliability, result)
    if result.done and (answer := answer_text(result.output)):
        parts += [Text("\nAnswer", style="bold"), Text(answer)]
    write(stdout.stream, *parts)


def _head(story: _Story) -> list[RenderableType]:
    started = story.started
    if started is None:
        return [Text(f"Run {clean(story.run_id, 80)}", style="bold")]
    head = Text(f"Run {clean(story.run_id, 80)}", style="bold")
    facts = f"{clean(started.crew, 60)} on {clean(started.runtime, 20)}, {_when(started.at)}"
    caps = caps_words(started.crew_caps, started.max_seconds)
    parts: list[RenderableType] = [head, Text(facts), Text(f"policy {clean(started.policy, 80)}: the crew has {caps}")]
    for name, value in started.inputs.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        parts.append(Text(f"input {clean(name, 40)}: {clean(shown, 200)}"))
    return parts


def _reliability_parts(run_id: str, known: Reliability, result: Result) -> list[RenderableType]:
    if known.problem:
        words = reliability_words(replace(result, reliability=replace(known, problem="")))
        routed = [Text(f"  when it began: {words}")] if known.routed else []
        return [
            Text("\nReliability", style="bold"),
            *routed,
            Text(f"  not counted: {clean(known.problem, 600)}", style="yellow"),
        ]
    look = f"later verdicts, and who is to blame: crew-guard reliability explain {clean(run_id, 80)}"
    return [
        Text("\nReliability, as the track record has it now", style="bold"),
        Text(f"  {reliability_words(result)}"),
        Text(f"  {look}", style="dim"),
    ]


def _event_text(event: Event, story: _Story) -> Text:
    started = story.started
    body = _event_json(event)
    kind, seq = body.pop("type"), body.pop("seq")
    body.pop("at")
    at = event.at - started.at if started else 0.0
    rest = json.dumps(body, ensure_ascii=False)
    return Text(f"{seq:5} {at:8.3f}s {kind:<12} {clean(rest).replace(chr(10), ' ')}")


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _status_text(status: str) -> Text:
    return Text(status, style={"done": "green", "unfinished": "yellow"}.get(status, "red"))
