"""What the documentation shows runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from crew_guard import Task, load_policy
from tests.guardrails.running import Ran

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/guardrails.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_policy_of_the_docs_loads(tmp_path):
    """Each guardrail by its key."""
    file = tmp_path / "p.yaml"
    file.write_text(blocks("yaml")[0])
    content = load_policy(file).content
    assert [check.chosen[0] for check in content.outputs] == ["length", "citations", "judge"]


def test_the_guardrail_of_the_docs_works():
    """It rejects, fixes and passes."""
    names: dict[str, object] = {}
    exec(blocks("python")[0], names)  # noqa: S102  our own documentation
    task = names["task"]
    assert isinstance(task, Task)
    ran = Ran(["It is clean", "I recommend it"], task)
    assert ran.result.output == "I recommend it."
    assert "say whether you recommend it" in ran.seen()


def test_the_example_runs():
    """And prints what each guardrail did."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/guardrails.py")],
        capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "Call [phone]." in done.stdout
    assert "[untrusted " in done.stdout
    assert "the answer:     Clean: I recommend it." in done.stdout
    assert "outputs: has_a_verdict reject: say whether you recommend it" in done.stdout
