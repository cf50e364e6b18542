"""Every exception of crew_guard.

CrewGuardError
├── ConfigError            a role or policy file is wrong: file, line, key, what was expected
│   └── WorkflowError (also ValueError)  a workflow's definition is wrong: all that is
├── RefusedError           the guard said no; carries the Stop
│   ├── LimitExceededError     a cap: limit, scope, cap, used, asked
│   ├── PolicyDeniedError      a rule of the policy
│   └── ApprovalDeniedError    nobody approved an irreversible action
├── ModelError             a provider failed: kind, status, whether it may be tried again
├── RunFailedError         the run ended without a result
│   ├── RuntimeFailedError     the crew's host failed, cause kept
│   └── FallbackFailedError    the workflow failed, after the crew did
├── StoreError             the journal can't be read or written
│   ├── JournalConflictError   another supervisor owns this run
│   └── ReplayError            the crew diverged from its journal
└── MissingDependencyError (also ImportError)  names the extra to install

RunInterruptedError (a KeyboardInterrupt)  Ctrl-C ended the run; carries the run's Result

No message of ours says what a host retries on: no status codes, none of its key words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

from crew_guard.core.decisions import Stop
from crew_guard.core.result import Result


def _remade(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """An unpickled error: its message as it was made, whatever its class is made of."""
    error = kind.__new__(kind, *args)
    if isinstance(error, ImportError):
        error.msg = args[0]
    return error


class _Pickled(BaseException):
    """Its errors cross processes with all that they carry."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.args), self.__dict__ or None


class CrewGuardError(_Pickled, Exception):
    """The root of every exception that crew_guard raises on purpose."""


class ConfigError(CrewGuardError):
    """A file, an argument or a crew's definition is wrong."""

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> None:
        self.file = str(file) if file is not None else None
        self.line = line
        self.key = key
        self.message = message
        self.value: str | None = None
        """What stands at the key, where that is one value."""
        self.problems: tuple[ConfigError, ...] = ()
        """Where several things are wrong: each by itself, as far as this error speaks of a file."""
        place = ":".join(str(part) for part in (self.file, line) if part is not None)
        super().__init__(": ".join(part for part in (place, key, message) if part))


class WorkflowError(ConfigError, ValueError):
    """A workflow could not work as it is defined; `problems` has each thing that is wrong by itself."""


class RunInterruptedError(_Pickled, KeyboardInterrupt):
    """The caller was interrupted, and its run was ended tidily. A second interrupt meanwhile is a plain one."""

    def __init__(self, result: Result) -> None:
        self.result = result
        super().__init__(f"run {result.run_id} was ended: {result.stopped}")


class RefusedError(CrewGuardError):
    """The guard refused an action. The scope in `stop` answers the same from now on."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        super().__init__(f"refused by crew_guard: {stop}")


class LimitExceededError(RefusedError):
    """A cap left no room for the action."""


class PolicyDeniedError(RefusedError):
    """A rule of the policy forbids the action."""


class ApprovalDeniedError(RefusedError):
    """Nobody approved an irreversible action."""


ModelFailure = Literal["rejected", "throttled", "unavailable", "unreachable", "broken", "malformed"]


class ModelError(CrewGuardError):
    """A provider did not answer as it should.

    kind: rejected (a 4xx: trying again won't help), throttled (429, or another
    4xx that asks for another try), unavailable (5xx),
    unreachable (no connection was made), broken (the answer stopped half way), malformed
    (an answer that isn't one).
    """

    def __init__(
        self,
        message: str,
        *,
        kind: ModelFailure,
        status: int | None = None,
        retry_after: float | None = None,
        text: str = "",
    ) -> None:
        self.kind: ModelFailure = kind
        self.status = status
        self.retry_after = retry_after
        """Seconds that the provider asked us to wait."""
        self.text = text
        """What had arrived when the answer broke."""
        super().__init__(message)

    @property
    def charged(self) -> bool:
        """Whether the provider may bill tokens for it."""
        return self.kind in ("unavailable", "broken", "malformed")

    @property
    def retryable(self) -> bool:
        """Whether another attempt may succeed."""
        return self.kind != "rejected"


class RunFailedError(CrewGuardError):
    """The run ended without a result."""


class RuntimeFailedError(RunFailedError):
    """The crew's host raised an error of its own; it is the cause of this one."""


class FallbackFailedError(RunFailedError):
    """The workflow failed, after the crew did."""


class StoreError(CrewGuardError):
    """The journal can't be read or written. The message names the file and the way out."""


class JournalConflictError(StoreError):
    """Another supervisor writes this run's journal."""


class ReplayError(StoreError):
    """The crew diverged from its journal."""


class MissingDependencyError(CrewGuardError, ImportError):
    """A part of crew_guard needs a package that is not installed."""

    def __init__(self, what: str, extra: str, hint: str = "") -> None:
        self.extra = extra
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'crew-guard[{extra}]'{hint}")


_KINDS = ("throttled", "unavailable", "unreachable", "broken")
_NO_ENTRY = (401, 402, 403)
"""What a provider says to a key that it refuses, or whose account is empty: its operator's to mend."""
_OUTAGES = frozenset(
    {"TransportError", "APIConnectionError", "ConnectionError", "HTTPClientError", "ClientConnectionError"}
    | {"EventStreamError"}
)
"""Bases of what HTTP clients and SDKs raise where no connection stands; their packages need not be imported."""
_CLIENT_ERRORS, _TOO_MANY, _SERVER_ERRORS = 400, 429, 500
_STATUSES = range(400, 600)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error of an SDK carries, under the names that they have for it."""
    status = _looked_up(error, "status_code")
    if isinstance(status, int):
        return status
    response: Any = _looked_up(error, "response")  # of botocore, a dict
    told: Any = cast(Any, response).get("ResponseMetadata") if isinstance(response, dict) else None
    status = cast(Any, told).get("HTTPStatusCode") if isinstance(told, dict) else _looked_up(error, "code")
    known = isinstance(error, Exception) and isinstance(status, int)
    return status if known and status in _STATUSES else None  # a code may be any number


def _looked_up(error: BaseException, name: str) -> Any:
    try:
        return getattr(error, name, None)
    except Exception:  # noqa: BLE001  a property of a user's own error may raise what it likes
        return None


def is_fault(error: BaseException) -> bool:
    """Whether a provider that could not be used is behind an error, a host's client's own errors included.

    Infrastructure that failed is kept apart from what agents do: it is nobody's failed trial, and neither is a key that
    its provider refuses.
    """
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, ModelError):
            return link.kind in _KINDS or link.status in _NO_ENTRY
        status = status_of(link)
        if status is not None:
            # No error status: a stream that was begun well and ended with an error of the provider.
            own = status == _TOO_MANY or status in _NO_ENTRY
            return own or status >= _SERVER_ERRORS or status < _CLIENT_ERRORS
        if any(base.__name__ in _OUTAGES for base in type(link).__mro__):
            return True
        link = link.__cause__
    return False
