"""Every test: no network beyond loopback, no journal in the checkout, no keys of the machine."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("OTEL_SDK_DISABLED", "true")
# A shell that starts the tests in the background has Ctrl-C ignored, which children inherit: tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A property holds or it doesn't: how fast a machine finds out is no part of it.
settings.register_profile("crew_guard", deadline=None)
settings.load_profile("crew_guard")

_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0", "::ffff:127.")  # noqa: S104  names, not a bind


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    return str(address[0]).startswith(_LOOPBACK) or address[0] == ""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection beyond loopback, or a look-up of a name, fails the test that makes it."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded(self: socket.socket, address: Any) -> None:
        if not _is_local(address):
            raise OSError(f"tests have no network: {address}")
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        if not _is_local(address):
            raise OSError(f"tests have no network: {address}")
        return connect_ex(self, address)

    def looked_up(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name and not str(name).startswith(_LOOPBACK):
            raise socket.gaierror(socket.EAI_NONAME, f"tests have no network: {name}")
        return getaddrinfo(host, *args, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)
    monkeypatch.setattr(socket, "getaddrinfo", looked_up)


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Journals go to a folder of the test's own; keys of the machine are not seen."""
    monkeypatch.setenv("CREW_GUARD_HOME", str(tmp_path / "home"))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENROUTER_API_KEY", "CREW_GUARD_ORG_POLICY"):
        monkeypatch.delenv(name, raising=False)
