"""What several tests of hosts look at."""

import pytest

from crew_guard.supervisor.gate import Gatekeeper


@pytest.fixture
def outcomes(monkeypatch):
    """How the model calls of the test ended, in order."""
    heard, own = [], Gatekeeper.settle

    def settle(keeper, grant, outcome):
        if grant.action.kind == "model_call":
            heard.append(outcome)
        own(keeper, grant, outcome)

    monkeypatch.setattr(Gatekeeper, "settle", settle)
    return heard
