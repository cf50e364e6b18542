"""The special functions against scipy's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special as oracle

from crew_guard.core.reliability.special import (
    betainc,
    betaincinv,
    digamma,
    gammainc,
    gammaincinv,
    normal_quantile,
    trigamma,
)

SHAPES = st.floats(-2, 5).map(lambda power: 10.0**power)
SHARES = st.floats(1e-6, 1 - 1e-6)


@given(a=SHAPES, b=SHAPES, x=SHARES)
def test_betainc_is_scipys(a: float, b: float, x: float) -> None:
    """To eight digits, tails included."""
    assert betainc(a, b, x) == pytest.approx(oracle.betainc(a, b, x), rel=1e-8, abs=1e-11)


@given(a=SHAPES, b=SHAPES, p=SHARES)
def test_the_quantile_of_beta_is_where_its_distribution_is_p(a: float, b: float, p: float) -> None:
    """By scipy's distribution, or by its quantile where that lies too near to an end for the first to tell."""
    x = betaincinv(a, b, p)
    near = x == pytest.approx(oracle.betaincinv(a, b, p), rel=1e-6, abs=1e-9)
    assert near or oracle.betainc(a, b, x) == pytest.approx(p, abs=1e-7)


@given(a=SHAPES, share=st.floats(0.05, 20))
def test_gammainc_is_scipys(a: float, share: float) -> None:
    """To nine digits around the mean and far from it."""
    assert gammainc(a, a * share) == pytest.approx(oracle.gammainc(a, a * share), rel=1e-9, abs=1e-10)


@given(a=SHAPES, p=SHARES)
def test_the_quantile_of_gamma_is_scipys(a: float, p: float) -> None:
    """To ten digits."""
    assert gammaincinv(a, p) == pytest.approx(oracle.gammaincinv(a, p), rel=1e-10, abs=1e-300)


@given(x=st.floats(-4, 8).map(lambda power: 10.0**power))
def test_digamma_and_trigamma_are_scipys(x: float) -> None:
    """From far below the recurrence to far into the asymptotic series."""
    assert digamma(x) == pytest.approx(oracle.digamma(x), rel=1e-12, abs=1e-12)
    assert trigamma(x) == pytest.approx(oracle.polygamma(1, x), rel=1e-12)


@given(p=st.floats(1e-12, 1 - 1e-12))
def test_the_normal_quantile_is_scipys(p: float) -> None:
    """To twelve digits."""
    assert normal_quantile(p) == pytest.approx(oracle.ndtri(p), rel=1e-9, abs=1e-12)


def test_the_ends_are_the_ends() -> None:
    """Nothing lies below 0 and everything below 1; quantiles of 0 and 1 are the ends of the range."""
    assert (betainc(2, 3, -1), betainc(2, 3, 0), betainc(2, 3, 1)) == (0, 0, 1)
    assert (betaincinv(2, 3, 0), betaincinv(2, 3, 1)) == (0, 1)
    assert (gammainc(2, 0), gammaincinv(2, 0)) == (0, 0)
    assert math.isclose(betaincinv(1, 1, 0.25), 0.25)
