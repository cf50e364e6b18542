"""How a command ends: its exit code, and one clear message where it could not do its job."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from types import FrameType

import typer

from crew_guard.cli.streams import Stdout, say
from crew_guard.core.events import Status
from crew_guard.errors import (
    ConfigError,
    CrewGuardError,
    LimitExceededError,
    MissingDependencyError,
    PolicyDeniedError,
)
from crew_guard.observers.words import clean

# What is given on the command line and can't be right is USAGE; what is right and not there, in a store say, FAILED.
DONE, USAGE, STOPPED, DENIED, FAILED, INTERRUPTED, TERMINATED = 0, 2, 3, 4, 5, 130, 143

CODES: dict[Status, int] = {"done": DONE, "stopped": STOPPED, "denied": DENIED, "failed": FAILED, "running": FAILED}


def code_of(error: BaseException) -> int:
    """The exit code for an exception."""
    match error:
        case ConfigError() | MissingDependencyError():
            return USAGE
        case LimitExceededError():
            return STOPPED
        case PolicyDeniedError():
            return DENIED
        case KeyboardInterrupt():
            return INTERRUPTED
        case _:
            return FAILED


@contextmanager
def ended_by_sigterm() -> Generator[Callable[[], bool]]:
    """SIGTERM ends a run as Ctrl-C does, once; the second one ends the process. Tells whether it came."""
    came = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def command(*, as_json: bool, debug: bool, look: Callable[[], str] = str) -> Generator[Stdout]:
    """What a command does, with stdout to itself; every exception becomes an exit code and a message.

    Args:
        as_json: errors are a JSON object on stdout too
        debug: show where an exception came from
        look: the command that shows the run under way, for whoever interrupts it; empty where there is none
    """
    stdout = Stdout()
    try:
        yield stdout
    except typer.Exit:
        raise
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last one who can tell the user
        from crew_guard.config import secrets
        from crew_guard.supervisor.redaction import redactor

        without_secrets = redactor(secrets())  # a user's own code may say anything
        if debug:
            say(without_secrets(traceback.format_exc().rstrip()))
        unwritten = error is stdout.failure
        kind, message = _told(error, look(), unwritten=unwritten)
        message = without_secrets(message)
        say(f"crew-guard: {message}")
        if as_json and not unwritten:
            stdout.json({"error": {"type": kind, "message": message}})
        raise typer.Exit(code_of(error)) from None
    finally:
        stdout.close()


def shows(run_id: str, store: Path | None) -> str:
    """The command that shows a run; of a store that was named, with its name."""
    return f"crew-guard runs show {clean(run_id, 80)}{f' --store {quote(str(store))}' if store else ''}"


def unwritten_words(error: OSError) -> str:
    """That stdout can't be written, and why."""
    return f"the answer could not be written to stdout: {error.strerror}"


def _told(error: BaseException, look: str, *, unwritten: bool) -> tuple[str, str]:
    """(the error's type, what it says)."""
    kind = type(error).__name__
    if isinstance(error, CrewGuardError):
        return kind, str(error)
    if isinstance(error, OSError) and unwritten:
        again = f"; it is kept: {look}" if look else ""
        return kind, f"{unwritten_words(error)}{again}"
    if isinstance(error, KeyboardInterrupt):
        return kind, f"interrupted; see how far it came: {look}" if look else "interrupted"
    return kind, f"unexpected {kind}: {error}; --debug shows where it came from"
