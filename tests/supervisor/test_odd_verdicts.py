"""What verifiers give that no journal could hold: it is read, or is a no, and the run and its journal go on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, Verdict, chain, node
from crew_guard.core.events import Judged
from crew_guard.ports import RuntimeResult
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing import MemoryStore, ScriptedModel

KNOWN = "correct-horse-battery-staple-8812"


def work(_: Any) -> str:
    return "done"


def by_a_task(answer: Any) -> Any:
    return Crew([Agent(Role(name="ann", goal="x"))], [Task("x", name="a", verify=lambda *_: answer)])


def by_a_node(answer: Any) -> Any:
    return chain(node(work, verify=lambda _: answer))


def by_the_whole(answer: Any) -> Any:
    return Crew([Agent(Role(name="ann", goal="x"))], [Task("x", name="a")], verify=lambda *_: answer)


@pytest.mark.parametrize("job", [by_a_task, by_a_node, by_the_whole])
@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        (np.float64(0.9), True),
        (Verdict(passed=True, grade=np.float64(0.9)), True),
        (Verdict(passed=True, reason=None), True),  # type: ignore[arg-type]
        (Verdict(passed=False, reason="x", blames=None), False),  # type: ignore[arg-type]
        (Verdict(passed=False, reason="x", blames=3), False),  # type: ignore[arg-type]
        (Verdict(passed=False, reason="x", blames=["a"]), False),  # type: ignore[arg-type]
        (Verdict(passed=True, reason=7), False),  # type: ignore[arg-type]
        (Verdict(passed=True, source="human"), False),  # type: ignore[arg-type]
    ],
)
def test_a_run_goes_on_from_any_verdict(job: Any, answer: Any, passed: bool, tmp_path: Any):
    """And its journal says what was made of it."""
    store = SqliteStore(tmp_path / "runs.db")
    result = Supervisor(Policy(), model=ScriptedModel(["good"]), store=store).run(job(answer), run_id="r")
    assert result.status == ("done" if passed else "failed")
    assert [event.passed for event in store.read("r") if isinstance(event, Judged)] == [passed]
    store.close()


class Odd:
    """A runtime of a user's own, that says of its work what no journal can hold."""

    name = "odd"

    def members(self) -> tuple[str, ...]:
        return ()

    async def run(self, inputs: Any, gate: Any) -> RuntimeResult:
        gate.judged("ann", "a", Verdict(passed=True, source="me"))  # type: ignore[arg-type]
        return RuntimeResult("done")


def test_a_runtime_of_a_users_own_writes_no_odd_verdicts(tmp_path: Any):
    """It is a no, in the words that a verifier's would be."""
    store = SqliteStore(tmp_path / "runs.db")
    Supervisor(Policy(), store=store).run_runtime(Odd(), {}, name="odd", run_id="r").wait()
    told = next(event for event in store.read("r") if isinstance(event, Judged))
    assert (told.passed, "a Verdict whose source is 'me'" in told.reason) == (False, True)
    store.close()


def test_whom_a_verdict_blames_is_redacted(monkeypatch: pytest.MonkeyPatch):
    """On a node it may be any text."""
    monkeypatch.setenv("MY_API_KEY", KNOWN)
    store = MemoryStore()
    answer = Verdict(passed=False, blames=f"who knows {KNOWN}")
    Supervisor(Policy(), store=store).run(by_a_node(answer), run_id="r")
    assert [event.blames for event in store.read("r") if isinstance(event, Judged)] == ["who knows [redacted]"]
