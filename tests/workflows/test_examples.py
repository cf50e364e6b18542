"""The examples of the patterns run as they stand, offline, and come out as they say."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "patterns"
SAID = {
    "booking": [
        "paid 85 euros for train and hotel",
        "denied: pay was not approved by small_sums",
        "booked in the end: ['train']",
    ],
    "chaining": ["It rings. Hear it from across the street, trust it, ride on.", "2 model calls"],
    "hybrid": ["our zstd plan costs half.", "3 model calls, 2 tool calls"],
    "orchestrator": ["zstd suits it better: gzip is slow, zstd is fast.", "5 model calls"],
    "parallelization": ["Facts: There are others.\nTone: Boastful.\nLength: None.", "3 model calls"],
    "refinement": ["Es schüttet wie aus Eimern.", "4 model calls"],
    "routing": ["Order 4711 was delivered: a person will look at the refund.", "1 model calls, 1 tool calls"],
    "voting": ["vulnerable='yes'", "3 model calls", "4 model calls"],
}


def test_each_pattern_has_an_example():
    """And each example is known here."""
    assert {path.stem for path in FOLDER.glob("*.py")} - {"show"} == set(SAID)


@pytest.mark.parametrize("name", sorted(SAID))
def test_an_example_runs_as_it_stands(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """As `python examples/patterns/NAME.py` does where there is no key."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    monkeypatch.delitem(sys.modules, "show", raising=False)
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    monkeypatch.delitem(sys.modules, "show", raising=False)
    shown = capsys.readouterr().out
    assert [line for line in SAID[name] if line not in shown] == []
