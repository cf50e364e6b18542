"""`doctor`: real checks, real counts, no secrets."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from crew_guard.cli import doctor
from crew_guard.cli.app import app


def examined(code: int = 0) -> dict[str, dict]:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == code, result.output
    value = json.loads(result.stdout)
    assert value["ready"] is (code == 0)
    return {check["name"]: check for check in value["checks"]}


def test_what_works_is_really_tried(tmp_path, monkeypatch):
    """A search in FTS5, a count of tokens, a price, a journal in the directory: and nothing is left behind."""
    monkeypatch.setitem(doctor._HOSTS, "langgraph", ("langgraph-of-nobody", "langgraph"))
    checks = examined()
    assert checks["llama-index"]["works"]
    assert all(checks[name]["works"] for name in ("python", "sqlite", "journal", "token counting", "price table"))
    assert "tokens of a sentence" in checks["token counting"]["found"]
    assert "$0.40 in, $1.60 out" in checks["price table"]["found"]
    assert list(tmp_path.iterdir()) == []
    assert not checks["langgraph"]["works"]


def test_keys_are_named_and_never_shown(monkeypatch):
    """Set or not set is all that is said."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-value")
    result = CliRunner().invoke(app, ["doctor"])
    assert "OPENAI_API_KEY" in result.stdout
    assert "sk-very" not in result.output
    assert examined()["OPENAI_API_KEY"]["works"]


def test_a_directory_that_cannot_be_used_is_not_ready(monkeypatch, tmp_path):
    """Exit code 5, and the way out."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CREW_GUARD_HOME", str(tmp_path / "file" / "home"))
    journal = examined(5)["journal"]
    assert not journal["works"]
    assert "CREW_GUARD_HOME" in journal["fix"]
    text = CliRunner().invoke(app, ["doctor"]).stdout
    assert "Not ready: what is missing is journal" in text


def test_a_price_table_without_our_model_is_not_ready(monkeypatch):
    """The check asks the table, not whether it is installed."""
    monkeypatch.setattr("crew_guard.models.prices.rates_for", lambda name: None)
    assert "no price for openai:gpt-4.1-mini" in examined(5)["price table"]["found"]
