"""What a policy says of reliability: in range, provable, at its tier, and only ever tightened."""

import pytest
from pydantic import ValidationError

from crew_guard.core.policy import Policy
from crew_guard.core.reliability.counts import straight_passes
from crew_guard.core.reliability_rules import MOST_PASSES, highest
from crew_guard.core.tightening import differences, faults, tightened, values_of


def of(**reliability):
    return Policy.model_validate({"reliability": reliability})


@pytest.mark.parametrize("given", [{"threshold": 1.2}, {"threshold": -0.1}, {"confidence": 1.0}, {"probes": 0}])
def test_what_is_out_of_range_is_an_error(given):
    """Shares and rates lie in [0, 1]; a confidence of 1 is nobody's."""
    with pytest.raises(ValidationError):
        of(**given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"threshold": 1}, "no number of straight passes proves it"),
        ({"threshold": 0.9999}, "29,956 straight passes"),
        ({"threshold": 0.999, "confidence": 0.99999}, "11,508 straight passes"),
        ({"agent_target": 0.99999}, "299,572 straight passes"),
    ],
)
def test_a_threshold_that_no_crew_could_prove_says_how_many_passes_it_takes(given, told):
    """And what to write instead."""
    with pytest.raises(ValidationError, match="no crew could prove") as caught:
        of(**given)
    assert told in str(caught.value)
    assert "expected at most" in str(caught.value)


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95, 0.999])
def test_the_highest_threshold_that_is_offered_is_accepted(confidence):
    """What an error tells to write is no error."""
    most = highest(confidence)
    assert straight_passes(most, confidence) <= MOST_PASSES
    assert of(threshold=most, confidence=confidence).reliability.least == most


@pytest.mark.parametrize(("tier", "least"), [("production", 0.95), ("internal", 0.85), ("pilot", 0.7)])
def test_a_threshold_is_not_below_its_tier(tier, least):
    """At the tier's bound it is fine; without a threshold the tier's own counts."""
    assert of(tier=tier, threshold=least).reliability.least == least
    assert of(tier=tier).reliability.least == least
    with pytest.raises(ValidationError, match=f"expected at least {least:g}"):
        of(tier=tier, threshold=least - 0.01)


def test_a_threshold_of_0_asks_for_nothing():
    """Every crew is good enough for it: nothing is decided, and another layer's threshold counts."""
    assert of(threshold=0).reliability.least is None
    assert tightened(of(threshold=0), of(threshold=0.9)).reliability.least == 0.9
    rules = of(threshold=0, unknown="shadow").reliability
    assert [idle.key for idle in rules.idle({"threshold", "unknown"})] == ["unknown"]


def test_nothing_is_decided_where_nothing_is_said():
    """The default policy has no section to speak of; its hash is the same as before there was one."""
    assert Policy().reliability.least is None
    assert not Policy().reliability.declared
    assert of(targets={"usd": "0.5"}).reliability.declared
    assert of().hash == Policy().hash


@pytest.mark.parametrize(
    ("key", "loose", "tight"),
    [
        ("threshold", 0.7, 0.9),
        ("tier", "pilot", "production"),
        ("confidence", 0.9, 0.99),
        ("unknown", "crew", "shadow"),
        ("unknown", "shadow", "workflow"),
        ("fallback", "never", "on_failure"),
        ("fallback", "on_failure", "on_reliability"),
        ("require_fallback", False, True),
        ("alarm_after", 10_000, 5_000),
        ("probes", 0.5, 0.1),
    ],
)
def test_a_layer_only_tightens(key, loose, tight):
    """Whichever layer says it, the tighter value counts; below it the looser one is told."""
    above, below = of(**{key: tight}), of(**{key: loose})
    for made in (tightened(above, below), tightened(below, above)):
        assert getattr(made.reliability, key) == tight
    assert [fault.key for fault in faults(above, below)] == [("reliability", key)]
    assert not faults(below, above)
    assert [one.change for one in differences(below, above)] == ["tighter"]


def test_a_threshold_below_the_tier_of_the_layer_above_is_told():
    """The tier stands in one file, the threshold in another."""
    (fault,) = faults(of(tier="production"), of(threshold=0.9))
    assert fault.key == ("reliability", "threshold")
    assert fault.expected == "at least 0.95"
    assert tightened(of(tier="production"), of(threshold=0.9)).reliability.least == 0.95


def test_a_confidence_that_puts_the_threshold_above_out_of_reach_is_told():
    """Each is fine by itself."""
    (fault,) = faults(of(threshold=0.9995), of(confidence=0.9999))
    assert fault.key == ("reliability", "confidence")
    assert "no crew could prove" in fault.message


@pytest.mark.parametrize(
    ("rules", "shown"),
    [({"threshold": 0.97, "tier": "production"}, 0.97), ({"threshold": 0}, 0.0), ({"tier": "pilot"}, 0.7), ({}, None)],
)
def test_the_threshold_that_counts_is_shown(rules, shown):
    """A tier's where no other stands there; 0 stays what it is, though it asks for nothing."""
    values = {value.key: value.value for value in values_of(Policy.model_validate({"reliability": rules}))}
    assert values["reliability", "threshold"] == shown
