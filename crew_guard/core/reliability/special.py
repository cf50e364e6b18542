"""The special functions that the bounds need, in plain Python: scipy is the tests' oracle, not a dependency.

Series and continued fractions give the functions to some 1e-12; quantiles are bracketed and then polished by
Newton's steps, so that they end wherever they begin.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_TINY = 1e-300
_EPSILON = 1e-15
_MOST = 10_000
"""Terms, or steps: reached for shapes beyond a hundred million only."""
_LARGE = 8.0
"""From here on the asymptotic series of digamma and trigamma are exact to 1e-13."""


def betainc(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function: P(Beta(a, b) <= x), for a, b > 0."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    front = math.exp(log_front)
    # The fraction converges fast on the near side of the mean only.
    if x < (a + 1) / (a + b + 2):
        return min(1.0, front * _beta_fraction(a, b, x) / a)
    return max(0.0, 1.0 - front * _beta_fraction(b, a, 1.0 - x) / b)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Lentz's evaluation of the continued fraction."""
    c, d = 1.0, 1.0 / _away(1.0 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, _MOST):
        step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / _away(1.0 + step * d)
        c = _away(1.0 + step / c)
        result *= c * d
        step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 / _away(1.0 + step * d)
        c = _away(1.0 + step / c)
        result *= c * d
        if abs(c * d - 1.0) < _EPSILON:
            break
    return result


def betaincinv(a: float, b: float, p: float) -> float:
    """The quantile of Beta(a, b), for a, b > 0 and p in [0, 1]."""
    if p <= 0:
        return 0.0
    if p >= 1:
        return 1.0
    log_norm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)

    def density(x: float) -> float:
        if not 0.0 < x < 1.0:  # rounded to an end: there the root is halved in
            return 0.0
        return math.exp(min(700.0, log_norm + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x)))

    return _solved(lambda x: betainc(a, b, x) - p, density, (0.0, 1.0), a / (a + b))


def gammainc(a: float, x: float) -> float:
    """The regularised lower incomplete gamma function: P(Gamma(a, 1) <= x), for a > 0."""
    if x <= 0:
        return 0.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1.0 / a
        for n in range(1, _MOST):
            term *= x / (a + n)
            total += term
            if term < total * _EPSILON:
                break
        return min(1.0, front * total)
    return max(0.0, 1.0 - front * _gamma_fraction(a, x))


def _gamma_fraction(a: float, x: float) -> float:
    b = x + 1.0 - a
    c, d = 1.0 / _TINY, 1.0 / b
    result = d
    for n in range(1, _MOST):
        step = -n * (n - a)
        b += 2.0
        d = 1.0 / _away(step * d + b)
        c = _away(b + step / c)
        result *= c * d
        if abs(c * d - 1.0) < _EPSILON:
            break
    return result


def gammaincinv(a: float, p: float) -> float:
    """The quantile of Gamma(a, 1), for a > 0 and p in [0, 1)."""
    if p <= 0:
        return 0.0
    z = normal_quantile(p)
    # Wilson and Hilferty; for small shapes the leading term of the series.
    start = a * (1 - 1 / (9 * a) + z / (3 * math.sqrt(a))) ** 3 if a > 0.5 else 0.0  # noqa: PLR2004  where the first is the better start
    if start <= 0:
        start = math.exp((math.log(p) + math.lgamma(a + 1)) / a)
    if start < _TINY:
        return 0.0
    high = max(2 * start, a + 1.0)
    while gammainc(a, high) < p:
        high *= 2

    def density(x: float) -> float:
        return math.exp(min(700.0, (a - 1) * math.log(x) - x - math.lgamma(a)))

    return _solved(lambda x: gammainc(a, x) - p, density, (0.0, high), start)


def _solved(
    value: Callable[[float], float], slope: Callable[[float], float], bracket: tuple[float, float], start: float
) -> float:
    """The root of a rising function: Newton's steps, halving wherever one would leave the bracket."""
    low, high = bracket
    x = start
    for _ in range(200):
        error = value(x)
        if error == 0:
            return x
        low, high = (low, x) if error > 0 else (x, high)
        rise = slope(x)
        after = x - error / rise if rise > 0 else low
        if not low < after < high:
            # Geometric where the root may lie many magnitudes below: quantiles of small shapes do.
            after = math.sqrt(low * high) if low > 0 and high > 4 * low else (low + high) / 2
            if low == 0:
                after = high / 16
        if abs(after - x) <= 1e-15 * abs(after) or after < _TINY:
            return after
        x = after
    return x


def digamma(x: float) -> float:
    """The derivative of log Γ, for x > 0."""
    shift = 0.0
    while x < _LARGE:
        shift -= 1.0 / x
        x += 1.0
    t = 1.0 / (x * x)
    series = t * (1 / 12 - t * (1 / 120 - t * (1 / 252 - t * (1 / 240 - t * (1 / 132 - t * (691 / 32760 - t / 12))))))
    return shift + math.log(x) - 0.5 / x - series


def trigamma(x: float) -> float:
    """The derivative of digamma, for x > 0."""
    shift = 0.0
    while x < _LARGE:
        shift += 1.0 / (x * x)
        x += 1.0
    t = 1.0 / (x * x)
    series = t * (1 / 6 - t * (1 / 30 - t * (1 / 42 - t * (1 / 30 - t * (5 / 66 - t * (691 / 2730 - t * 7 / 6))))))
    return shift + (1.0 + 0.5 / x + series) / x


def normal_quantile(p: float) -> float:
    """The quantile of the standard normal distribution, for p in (0, 1)."""
    if p > 0.5:  # noqa: PLR2004  by symmetry, where erfc keeps its digits
        return -normal_quantile(1.0 - p)
    t = math.sqrt(-2 * math.log(p))
    # Hastings' approximation is right to 4.5e-4; each of Halley's steps triples the digits.
    z = (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))) - t
    for _ in range(2):
        error = 0.5 * math.erfc(-z / math.sqrt(2)) - p
        step = error * math.sqrt(2 * math.pi) * math.exp(z * z / 2)
        z -= step / (1 + z * step / 2)
    return z


def _away(value: float) -> float:
    """Not zero: what Lentz divides by."""
    return value if abs(value) > _TINY else _TINY
