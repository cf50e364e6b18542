"""Errors leave the process that they were raised in: pools pickle them."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from crew_guard import errors
from crew_guard.adapters.langgraph.scope import DeniedInGraphError, LimitInGraphError
from crew_guard.core.decisions import Stop
from crew_guard.core.result import Result
from crew_guard.errors import ConfigError, MissingDependencyError, ModelError, RefusedError, RunInterruptedError

STOP = Stop("limit", "run", "max_steps", 3, 3, 1, "no way out")


def one_of(kind: type[BaseException]) -> BaseException:
    """An error of this class with all that it can carry."""
    if issubclass(kind, RefusedError):
        return kind(STOP)
    if issubclass(kind, ModelError):
        return kind("no answer", kind="broken", status=500, retry_after=2.5, text="half an an")
    if issubclass(kind, MissingDependencyError):
        return kind("a PDF", "pdf", " and more")
    if issubclass(kind, RunInterruptedError):
        return kind(Result("r1", "stopped", stopped=STOP))
    if issubclass(kind, ConfigError):
        found = kind("is wrong", file="roles.yaml", line=3, key="goal")
        found.value, found.problems = "5", (found, ConfigError("another", file="roles.yaml"))
        return found
    return kind("a message")


EVERY = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, BaseException) and not kind.__name__.startswith("_")
]


@pytest.mark.parametrize("kind", [*EVERY, LimitInGraphError, DeniedInGraphError])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickle(kind: type[BaseException], protocol: int):
    """Class, message, and every attribute: none of them needs the arguments that it was made with."""
    error = one_of(kind)
    error.add_note("seen in a worker")
    for found in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):  # noqa: S301 - our own
        assert type(found) is kind
        assert (str(found), found.args) == (str(error), error.args)
        assert getattr(found, "msg", None) == getattr(error, "msg", None)
        assert found.__notes__ == ["seen in a worker"]
        mine, other = told(error), told(found)
        assert mine == other


def told(error: BaseException) -> dict[str, Any]:
    """Its attributes; problems as what they say, because two errors are never equal."""
    return {**vars(error), "problems": [str(one) for one in getattr(error, "problems", ())]}


def missing(extra: str) -> None:
    raise MissingDependencyError("the model any-llm:x/y", extra)


def test_a_worker_process_hands_an_error_over():
    """A pool whose work raises one goes on, and its caller reads it."""
    with ProcessPoolExecutor(1, get_context("forkserver")) as pool:
        with pytest.raises(MissingDependencyError, match="needs the extra 'any-llm'") as caught:
            pool.submit(missing, "any-llm").result(60)
        assert caught.value.extra == "any-llm"
        assert pool.submit(abs, -1).result(60) == 1
