"""The commands and their options. What they do is imported when one is called, so that --help is quick."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

app = typer.Typer(
    name="crew-guard",
    help="Run crews of agents inside limits that hold, with a fixed workflow to fall back to.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
runs_app = typer.Typer(help="Look at runs, past and under way.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")
policy_app = typer.Typer(help="Check, explain and compare policies.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")


class _Reliability(TyperGroup):
    """`reliability NAME` is `reliability show NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Say `show` where nothing else is said."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


reliability_app = typer.Typer(
    cls=_Reliability,
    help="Say how reliable crews and agents are, and how sure that is: reliability [CREW|AGENT].",
)
app.add_typer(reliability_app, name="reliability")

Model = Annotated[
    str | None, typer.Option(help="For agents that name none, e.g. embedded:smollm2 or openai:gpt-4.1-mini.")
]
BaseUrl = Annotated[str | None, typer.Option(help="Of an OpenAI-compatible server.")]
RuntimeName = Annotated[
    str, typer.Option("--runtime", help="What runs the crew: native, crewai, autogen, langgraph or llama-index.")
]
PolicyRef = Annotated[str | None, typer.Option("--policy", help="A policy's file or name.")]
StoreFile = Annotated[
    Path | None, typer.Option("--store", help="The SQLite file of the journals; .crew_guard/crew_guard.db by default.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only the answer.")]
RunId = Annotated[str | None, typer.Option("--run-id", help="A name of your own for the run.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]


def _version(wanted: bool) -> None:
    if wanted:
        from crew_guard import __version__

        typer.echo(f"crew-guard {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Take what comes before a command."""


@app.command()
def research(  # noqa: PLR0917 - typer fills them in by name
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    corpus: Annotated[
        str, typer.Option(help="A folder of text, Markdown or HTML, or stdlib: Python's own documentation.")
    ] = "stdlib",
    model: Model = "embedded:smollm2",
    base_url: BaseUrl = None,
    policy: PolicyRef = "research",
    store: StoreFile = None,
    run_id: RunId = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Answer a question from a corpus; every claim cites a passage."""
    from crew_guard.cli.running import Options, research_job, run_job

    run_job(
        lambda: research_job(question, corpus, quiet=quiet),
        Options(model, base_url, policy, store, run_id, as_json, quiet, debug),
    )


@app.command()
def run(  # noqa: PLR0917 - typer fills them in by name
    target: Annotated[
        str, typer.Argument(metavar="FILE.py:ATTRIBUTE", help="A crew, a workflow, or a function that makes one.")
    ],
    given: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="NAME=VALUE, or NAME=@FILE to read a file; repeatable.")
    ] = None,
    inputs_json: Annotated[str | None, typer.Option(help="A file with a JSON object of inputs; - is stdin.")] = None,
    runtime: RuntimeName = "native",
    model: Model = None,
    base_url: BaseUrl = None,
    policy: PolicyRef = None,
    store: StoreFile = None,
    run_id: RunId = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a crew or a workflow that is defined in Python."""
    from crew_guard.cli.running import Options, python_job, run_job

    run_job(
        lambda: python_job(target, given or [], inputs_json),
        Options(model, base_url, policy, store, run_id, as_json, quiet, debug, runtime),
    )


@runs_app.command("list")
def list_runs(
    store: StoreFile = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000_000, help="How many, the latest first.")] = 20,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the latest runs."""
    from crew_guard.cli.journal import list_journal

    list_journal(store, limit, as_json=as_json, debug=debug)


@runs_app.command("show")
def show_run(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or how it begins.")],
    store: StoreFile = None,
    events: Annotated[bool, typer.Option("--events", help="Every event as it was recorded.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what happened in a run, what it used and how it ended."""
    from crew_guard.cli.journal import show_journal

    show_journal(run_id, store, events=events, as_json=as_json, debug=debug)


@reliability_app.command("show")
def show_reliability(
    name: Annotated[str | None, typer.Argument(metavar="[CREW|AGENT]", help="One of them; all by default.")] = None,
    store: StoreFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Tiers, bounds, scores, what was measured, and the state of the breaker. The word `show` may be left out."""
    from crew_guard.cli.reliability import show_reliability

    show_reliability(name, store, as_json=as_json, debug=debug)


@reliability_app.command("explain")
def explain_reliability(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or how it begins.")],
    store: StoreFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """The verdicts of a run, the detectors, who is to blame, and what would raise the crew's reliability most."""
    from crew_guard.cli.reliability import explain_reliability

    explain_reliability(run_id, store, as_json=as_json, debug=debug)


@app.command()
def outcome(  # noqa: PLR0917 - typer fills them in by name
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or how it begins.")],
    grade: Annotated[str, typer.Argument(metavar="good|bad|0.8", help="What it was worth, from 0 to 1.")],
    agent: Annotated[str | None, typer.Option(help="Whose work you judge; the run's outcome by default.")] = None,
    task: Annotated[str | None, typer.Option(help="Which task of that agent, where there are several.")] = None,
    because: Annotated[str, typer.Option(help="The reason, for whoever reads it later.")] = "",
    store: StoreFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say how a run turned out: a person's verdict counts in place of what a check or a model said."""
    from crew_guard.cli.reliability import Given, judge_run

    judge_run(run_id, Given(grade, agent, task, because), store, as_json=as_json, debug=debug)


@policy_app.command("check")
def check_policies(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Policies' files or names.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what is wrong with policies: file, line, key, value and what was expected."""
    from crew_guard.cli.policy import check

    check(files, as_json=as_json, debug=debug)


@policy_app.command("explain")
def explain_policy(
    policy: Annotated[
        str | None, typer.Argument(metavar="[FILE|NAME]", help="By default what applies where none is named.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Print the policy that would apply, with the file and line behind each value."""
    from crew_guard.cli.policy import explain

    explain(policy, as_json=as_json, debug=debug)


@policy_app.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of policy files, for editors."""
    from crew_guard.cli.policy import schema

    schema()


@policy_app.command("diff")
def diff_policies(
    a: Annotated[str, typer.Argument(metavar="A", help="A policy's file or name.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Print where B is tighter or looser than A; exit with 1 where they differ."""
    from crew_guard.cli.policy import diff

    diff(a, b, as_json=as_json, debug=debug)


JobTarget = Annotated[
    str, typer.Argument(metavar="FILE.yaml|FILE.py:ATTRIBUTE", help="A job's steps, or a crew in Python.")
]
Estimates = Annotated[
    str | None, typer.Option("--estimates", help="For a crew in Python: a job's file with figures for its tasks.")
]


@app.command()
def advise(  # noqa: PLR0917 - typer fills them in by name
    target: JobTarget,
    estimates: Estimates = None,
    model: Model = None,
    store: StoreFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Recommend a workflow, an agent loop or a hybrid for a job, with the arithmetic behind it."""
    from crew_guard.cli.advising import Source, print_advice

    print_advice(Source(target, estimates, model, store), as_json=as_json, debug=debug)


@app.command()
def simulate(  # noqa: PLR0917 - typer fills them in by name
    target: JobTarget,
    runs: Annotated[int, typer.Option(min=1, max=100_000_000, help="Tasks that are played each way.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same figures.")] = 1,
    estimates: Estimates = None,
    model: Model = None,
    store: StoreFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Play a job many times as crew, workflow, hybrid and crew with fallback, beside the arithmetic."""
    from crew_guard.cli.advising import Source, print_simulation

    print_simulation(Source(target, estimates, model, store), runs, seed, as_json=as_json, debug=debug)


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Load the embedded model and let it say a word.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check what is installed and works here, and say what to install for the rest."""
    from crew_guard.cli.doctor import examine

    examine(deep=deep, as_json=as_json, debug=debug)


def run_app(arguments: Sequence[str]) -> int:
    """Run one command; the exit code.

    Args:
        arguments: without the program's name
    """
    try:
        code = app(args=list(arguments), prog_name="crew-guard", standalone_mode=False)
        with _unread(sys.stdout):
            sys.stdout.flush()
    except typer.Abort:
        return 130
    except SystemExit as ended:
        # So typer ends where nobody reads on in what --help and --version write.
        if isinstance(ended.__context__, BrokenPipeError):
            return 0
        raise
    except OSError as error:
        # Commands tell their own errors: --help and --version write by themselves, and nothing else is written here.
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EFBIG):
            raise
        return _unwritten(error)
    except Exception as error:
        # Usage errors have no public type in typer, which used to take them from click and now has its own.
        told: Any = error
        if not hasattr(error, "format_message"):
            raise
        with _unread(sys.stderr):
            told.show(file=sys.stderr)
        if "--json" in arguments:
            message = {"type": "UsageError", "message": told.format_message()}
            with _unread(sys.stdout):
                typer.echo(json.dumps({"error": message}))
        return 2
    return code if isinstance(code, int) else 0


@contextmanager
def _unread(stream: TextIO) -> Generator[None]:
    """What is written to it in here nobody has to read."""
    try:
        yield
    except BrokenPipeError:
        _let_go(stream)


def _unwritten(error: OSError) -> int:
    from crew_guard.cli.ends import FAILED, unwritten_words
    from crew_guard.cli.streams import say

    _let_go(sys.stdout)
    say(f"crew-guard: {unwritten_words(error)}")
    return FAILED


def _let_go(stream: TextIO) -> None:
    """Nothing of it is written any more: what is left in its buffer would fail once more when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
