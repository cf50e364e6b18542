"""Where data is kept, and which values are secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crew_guard.config import data_dir, environment, secrets


def test_the_data_directory_can_be_moved(monkeypatch):
    """CREW_GUARD_HOME overrides the folder in the working directory."""
    monkeypatch.delenv("CREW_GUARD_HOME", raising=False)
    assert data_dir() == Path(".crew_guard")
    monkeypatch.setenv("CREW_GUARD_HOME", "")
    assert data_dir() == Path(".crew_guard")
    monkeypatch.setenv("CREW_GUARD_HOME", "/some/where")
    assert data_dir() == Path("/some/where")


def test_the_environment_is_a_snapshot_that_cannot_be_changed(monkeypatch):
    """What changes later doesn't show, and nobody writes through it."""
    monkeypatch.setenv("CG_A", "1")
    seen = environment()
    monkeypatch.setenv("CG_A", "2")
    assert seen["CG_A"] == "1"
    with pytest.raises(TypeError):
        seen["CG_A"] = "3"  # type: ignore[index]
    assert os.environ["CG_A"] == "2"


def test_secrets_are_the_values_of_variables_named_like_keys(monkeypatch):
    """By the ending of their name, long enough not to redact ordinary words, the longest first."""
    for name in list(os.environ):
        if name.upper().endswith(("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-12345678")
    monkeypatch.setenv("my_token", "sk-12345678-longer")
    monkeypatch.setenv("A_SECRET", "short")
    monkeypatch.setenv("KEYBOARD", "not-a-secret")
    assert secrets() == ("sk-12345678-longer", "sk-12345678")
