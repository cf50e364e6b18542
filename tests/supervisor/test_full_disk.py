"""A disk that fills up in the middle of a run: a real file that may not grow any more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from crew_guard.core.events import Admitted
from crew_guard.store.sqlite import SqliteStore

SCRIPT = """
import json, resource, signal, sys
from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, tool
from crew_guard.errors import StoreError
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing import Reply, ScriptedModel

@tool
async def look(query: str) -> str:
    "Look it up."
    return "found " * 500

asked = iter(range(10**6))
model = ScriptedModel(lambda request: Reply(tools=(("look", json.dumps({"query": f"{next(asked)} " * 300})),)))
store = SqliteStore(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
crew = Crew([Agent(Role(name="ann", goal="go on"), (look,))], [Task("go")])
policy = Policy.model_validate({"limits": {"max_seconds": 60}, "durability": sys.argv[2]})
try:
    said = str(Supervisor(policy, model=model, store=store).run(crew, run_id="r"))
except StoreError as error:
    said = str(error)
print(json.dumps({"said": said, "served": len(model.calls)}))
"""


@pytest.mark.parametrize("durability", ["write_ahead", "relaxed"])
def test_a_disk_that_fills_up_ends_the_run_and_says_so(tmp_path: Path, durability: str) -> None:
    """One clear error; what was recorded can be read, and written ahead nothing was done without its record."""
    file = tmp_path / "journal.db"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(file), durability], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "disk" in told["said"]
    assert str(file) in told["said"]
    store = SqliteStore(file)
    admitted = [event for event in store.read("r") if isinstance(event, Admitted) and event.kind == "model_call"]
    if durability == "write_ahead":
        assert 0 < told["served"] <= len(admitted)
    assert store.runs()[0].status == "running"
    store.close()
