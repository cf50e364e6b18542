"""What a model costs where the policy, its layers and the price table each say something."""

from __future__ import annotations

from decimal import Decimal

import pytest

from crew_guard import Policy, Supervisor
from crew_guard.models.prices import rates_for

CHEAP = {"prices": {"openai:gpt-4.1": {"input": 0, "output": 0}}}


def test_a_policy_alone_says_what_a_model_costs():
    """A price of one's own contract comes before the price table, lower or not."""
    rates = Supervisor(Policy.model_validate({**CHEAP, "limits": {"max_usd": 1}})).price_of("openai:gpt-4.1")
    assert rates is not None
    assert rates.input.base == 0
    assert Supervisor(Policy()).price_of("openai:gpt-4.1") is None


def test_no_price_of_a_team_stretches_the_organisations_dollars(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Below a layer with a dollar cap the dearer of price and price table counts; a dearer price stays."""
    org = tmp_path / "org.yaml"
    org.write_text("limits:\n  max_usd: 5\n")
    monkeypatch.setenv("CREW_GUARD_ORG_POLICY", str(org))
    table = rates_for("openai:gpt-4.1")
    assert table is not None
    rates = Supervisor(Policy.model_validate(CHEAP)).price_of("openai:gpt-4.1")
    assert rates is not None
    assert (rates.input.base, rates.output.base) == (table.input.base, table.output.base)
    dear = {"prices": {"openai:gpt-4.1": {"input": Decimal(900), "output": Decimal(900)}}}
    rates = Supervisor(Policy.model_validate(dear)).price_of("openai:gpt-4.1")
    assert rates is not None
    assert rates.output.base == 900 * 10**9
