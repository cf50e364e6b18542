"""The special functions that the bounds need, in plain Python: scipy is the tests' oracle, not a dependency."""

from __future__ import annotations


def betainc(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function: P(Beta(a, b) <= x)."""
    raise NotImplementedError


def betaincinv(a: float, b: float, p: float) -> float:
    """The quantile of Beta(a, b)."""
    raise NotImplementedError


def gammainc(a: float, x: float) -> float:
    """The regularised lower incomplete gamma function: P(Gamma(a, 1) <= x)."""
    raise NotImplementedError


def gammaincinv(a: float, p: float) -> float:
    """The quantile of Gamma(a, 1)."""
    raise NotImplementedError


def digamma(x: float) -> float:
    """The derivative of log Γ, for x > 0."""
    raise NotImplementedError


def trigamma(x: float) -> float:
    """The derivative of digamma, for x > 0."""
    raise NotImplementedError


def normal_quantile(p: float) -> float:
    """The quantile of the standard normal distribution."""
    raise NotImplementedError
