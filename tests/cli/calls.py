"""Commands as a user types them."""

from __future__ import annotations

import json
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from crew_guard.cli.app import app


def run(*arguments: str, code: int = 0) -> Result:
    """What a command says; it must end with this code."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def told(*arguments: str, code: int = 0) -> Any:
    """The JSON object on stdout."""
    return json.loads(run(*arguments, "--json", code=code).stdout)
