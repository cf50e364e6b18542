"""What is nobody's failed trial: a provider that could not be used, whoever's error says so."""

import httpx2
import openai
import pytest

from crew_guard.errors import ModelError, RuntimeFailedError, is_fault

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1")


class StatusError(Exception):
    """As SDKs raise it."""

    def __init__(self, status):
        super().__init__(status)
        self.status_code = status


def caused(error, by):
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    "error",
    [
        *(ModelError("no", kind=kind) for kind in ("throttled", "unavailable", "unreachable", "broken")),
        *(ModelError("no", kind="rejected", status=status) for status in (401, 402, 403)),
        *(StatusError(status) for status in (401, 402, 403, 429, 503)),
        ConnectionRefusedError("no"),
        httpx2.ConnectTimeout("no"),
        httpx2.ConnectError("no"),
        openai.APITimeoutError(request=None),
        caused(RuntimeFailedError("the host failed"), ModelError("no", kind="unavailable")),
    ],
)
def test_an_outage_is_a_fault(error):
    """Whether it is ours or a client's, also behind a host's own error; a key that is refused is its operator's."""
    assert is_fault(error)


@pytest.mark.parametrize(
    "error",
    [
        *(ModelError("no", kind=kind) for kind in ("rejected", "malformed")),
        ModelError("no", kind="rejected", status=404),
        StatusError(400),
        ValueError("no"),
        RuntimeFailedError("the host failed"),
        caused(ModelError("no", kind="rejected"), ConnectionError("later")),
    ],
)
def test_whatever_else_fails_is_none(error):
    """A request that was refused, an answer that makes no sense, a bug."""
    assert not is_fault(error)


def test_a_circle_of_causes_ends():
    """Some frameworks build them."""
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert not is_fault(one)
