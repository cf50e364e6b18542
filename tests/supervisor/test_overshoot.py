"""The benchmark's scenarios as a test: a cap that doesn't hold fails the suite, not only a table."""

from tests.benchmarks.overshoot import line, rows


def test_no_cap_is_passed_and_little_is_left_over() -> None:
    """0 over in every scenario; unused below what the refused call needed."""
    assert not [line(row) for row in rows() if not row.holds]
