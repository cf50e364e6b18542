"""`research` and `run`: one crew, its progress on stderr, its answer on stdout."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import typer

from crew_guard.cli.ends import CODES, INTERRUPTED, TERMINATED, command, ended_by_sigterm, shows
from crew_guard.cli.streams import Stdout, say
from crew_guard.core.events import Event
from crew_guard.core.plain import shown
from crew_guard.core.policy import Policy
from crew_guard.core.result import Result
from crew_guard.core.roles import Crew
from crew_guard.errors import ConfigError, RunInterruptedError
from crew_guard.observers.words import clean
from crew_guard.ports import Workflow


@dataclass(frozen=True, slots=True)
class Options:
    """What `research` and `run` have in common."""

    model: str | None
    base_url: str | None
    policy: str | None
    store: Path | None
    run_id: str | None
    as_json: bool
    quiet: bool
    debug: bool
    runtime: str = "native"


@dataclass(frozen=True, slots=True)
class Job:
    """A crew, or a workflow, and what it is given."""

    crew: Crew | Workflow
    inputs: Mapping[str, Any]
    sole_model: bool = False
    """Whether its workflow, too, asks no model but the one that was chosen."""


class _Watch:
    """Remembers which run is under way, for whoever interrupts it."""

    def __init__(self) -> None:
        self.run_id = ""

    def __call__(self, run_id: str, event: Event) -> None:
        del event
        self.run_id = run_id


def research_job(question: str, corpus: str, *, quiet: bool) -> Job:
    """The research crew over a corpus.

    Raises:
        ConfigError: no question, or no such corpus
    """
    from crew_guard.config import data_dir
    from crew_guard.crews.research import research_crew
    from crew_guard.tools.corpus import load_corpus

    if not question.strip():
        raise ConfigError("the question is empty; ask one, in quotes")
    told = None if quiet else _tell_reading(corpus)
    passages = load_corpus(corpus, cache=data_dir() / "corpora", on_progress=told)
    if told and passages.skipped:
        first = passages.skipped[0]
        say(
            f"left out of {corpus}: {len(passages.skipped):,} files, e.g. {clean(f'{first.path}: {first.reason}', 200)}"
        )
    return Job(research_crew(passages), {"question": question}, sole_model=True)


def _tell_reading(corpus: str) -> Callable[[int, int], None]:
    """Says how far the corpus is read: on a terminal in one line that moves, else once."""
    terminal = sys.stderr.isatty()
    begun = False

    def told(done: int, total: int) -> None:
        nonlocal begun
        if terminal:
            sys.stderr.write(
                f"\rreading {clean(corpus, 40)}: {done:,} of {total:,}" + ("\r\x1b[K" if done == total else "")
            )
            sys.stderr.flush()
        elif not begun:
            once = "; this is done once" if corpus == "stdlib" else ""
            say(f"reading {clean(corpus, 40)}: {total:,} parts{once}")
        begun = True

    return told


def python_job(target: str, given: Sequence[str], inputs_json: str | None) -> Job:
    """A crew from Python code, and the inputs that the options give.

    Raises:
        ConfigError: the target or an input is wrong
    """
    from crew_guard.config import load_runnable

    inputs = _from_json(inputs_json) if inputs_json is not None else {}
    return Job(load_runnable(target), {**inputs, **_from_options(given)})


def _from_options(given: Sequence[str]) -> dict[str, str]:
    from crew_guard.config import read_input

    inputs: dict[str, str] = {}
    for option in given:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise ConfigError(f"--input takes NAME=VALUE or NAME=@FILE, got {option!r}")
        if name in inputs:
            raise ConfigError(f"--input gives {name!r} twice; keep one of them")
        inputs[name] = read_input(value[1:]) if value.startswith("@") else value
    return inputs


def _from_json(file: str) -> dict[str, Any]:
    from crew_guard.config import read_input

    text = sys.stdin.read() if file == "-" else read_input(file)
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
    except _NoInputError as error:
        raise ConfigError(str(error), file=file) from None
    except RecursionError:
        raise ConfigError("is nested too deeply", file=file) from None
    except ValueError as error:
        raise ConfigError(f"is not JSON: {error}", file=file, line=getattr(error, "lineno", None)) from None
    if not isinstance(value, dict):
        raise ConfigError(f"expected a JSON object of inputs, got a {type(value).__name__}", file=file)
    return cast(dict[str, Any], value)


class _NoInputError(ValueError):
    """JSON that another program would read otherwise, or not at all."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _NoInputError(f"gives the key {shown(name)} twice; keep one of them")
        found[name] = value
    return found


def _no_constant(word: str) -> float:
    raise _NoInputError(f"holds {word}, which JSON has no number for; write null, or leave the key out")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_constant(text[:40])


def run_job(make: Callable[[], Job], options: Options) -> None:
    """Run a job to its end, print what it came to, and exit with the code that says so."""
    watch = _Watch()

    def look() -> str:
        return shows(watch.run_id, options.store) if watch.run_id else ""

    with command(as_json=options.as_json, debug=options.debug, look=look) as stdout:
        _quiet_log()
        job = make()
        with ended_by_sigterm() as terminated:
            try:
                result, code = _run(job, options, watch), None
            except RunInterruptedError as error:
                result, code = error.result, TERMINATED if terminated() else INTERRUPTED
        _print(result, options, stdout)
        raise typer.Exit(CODES[result.status] if code is None else code)


def _check_base_url(job: Job, options: Options, policy: Policy) -> None:
    """Whether --base-url would reach any model.

    Raises:
        ConfigError: all are embedded, which no server is asked for
    """
    from crew_guard.api.modelling import DEFAULT_MODEL
    from crew_guard.models.registry import EMBEDDED

    # A workflow's own code may ask any model, by a name that isn't known before.
    if options.base_url is None or not isinstance(job.crew, Crew) or not (job.sole_model or job.crew.fallback is None):
        return
    named = [agent.model or agent.role.model for agent in job.crew.everyone()]
    named += [judge.model for judge in job.crew.judges()]
    content = policy.content
    checks = (*content.inputs, *content.outputs, *content.tool_results)
    named += [check.judge.model for check in checks if check.judge is not None]
    if all((name or options.model or DEFAULT_MODEL) == EMBEDDED for name in named):
        raise ConfigError(
            f"--base-url {shown(options.base_url)} has no effect: the embedded model runs in this process; leave it "
            "out, or name a model of that server with --model, e.g. openai-compatible:NAME"
        )


def _run(job: Job, options: Options, watch: _Watch) -> Result:
    from loguru import logger

    from crew_guard.api import Supervisor
    from crew_guard.observers.progress import Progress

    if not options.quiet:
        logger.enable("crew_guard.api")
    if not isinstance(job.crew, Crew) and options.runtime != "native":
        raise ConfigError(
            f"--runtime {options.runtime} has no effect: {shown(job.crew.name)} is a workflow, which runs by itself; "
            "leave it out"
        )
    with Progress() as progress:
        supervisor = Supervisor(
            options.policy,
            model=options.model,
            store=options.store,
            observers=[watch] if options.quiet else [watch, progress],
            base_url=options.base_url,
            runtime=options.runtime,
        )
        _check_base_url(job, options, supervisor.effective_policy)
        return supervisor.run(job.crew, job.inputs, run_id=options.run_id)


def _print(result: Result, options: Options, stdout: Stdout) -> None:
    from crew_guard.cli.summary import answer_text, print_summary, why_no_answer

    if options.as_json:
        stdout.json(result.as_dict())
    elif options.quiet:
        if result.done:
            stdout.text(f"{answer_text(result.output)}\n")
    else:
        print_summary(result, stdout.stream, options.store)
    if not result.done and (options.quiet or options.as_json):
        say(f"crew-guard: {why_no_answer(result, options.store)}")


def _quiet_log() -> None:
    """Warnings of our own on stderr in a plain form, in place of the library's default format."""
    from loguru import logger

    logger.remove()
    logger.add(lambda line: say(str(line).rstrip()), level="WARNING", format="{level.name}: {message}", catch=True)
