"""Counting tokens without the network, and bounds of whole prompts."""

import gzip
import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew_guard.core.messages import Message, ToolRequest, ToolSpec
from crew_guard.models import counting
from crew_guard.models.counting import Counter, PromptBound, counter_for, encoding_for, utf8_length

DATA = Path(os.environ.get("CREW_GUARD_DATA", Path(__file__).parents[2] / "../shared/data"))
SPECIAL = "<|endoftext|> <|im_start|>user<|im_end|> <|fim_prefix|>"


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("openai:gpt-4.1-mini", "o200k_base"),
        ("openai:gpt-4o-2024-08-06", "o200k_base"),
        ("openai:ft:gpt-4o-mini:org::id", "o200k_base"),
        ("openai:gpt-5-nano", "o200k_base"),
        ("openai:o3-mini", "o200k_base"),
        ("openai:chatgpt-4o-latest", "o200k_base"),
        ("openrouter:openai/gpt-4.1", "o200k_base"),
        ("openai:gpt-4", "cl100k_base"),
        ("openai:gpt-4-0613", "cl100k_base"),
        ("openai:gpt-3.5-turbo-0125", "cl100k_base"),
        ("openai:gpt-6", None),
        ("openai:gpt-40", None),
        ("openai:something", None),
        ("openrouter:anthropic/claude-sonnet-4", None),
        ("openai-compatible:gpt-4o", None),
        ("ollama:gpt-oss", None),
        ("anthropic:claude-sonnet-4-5", None),
        ("google:gemini-2.5-pro", None),
        ("gpt-4o", None),
        ("", None),
    ],
)
def test_which_vocabulary_fits(name: str, encoding: str | None) -> None:
    """Only OpenAI's own names have OpenAI's vocabulary; everything else is bounded by bytes."""
    assert encoding_for(name) == encoding
    assert counter_for(name).kind == ("bytes" if encoding is None else "quicktok")


@pytest.mark.parametrize("name", ["openai:gpt-4.1", "openai:gpt-4", "anthropic:claude-x"])
def test_special_tokens_and_broken_text_are_counted(name: str) -> None:
    """Marks count as text, lone surrogates as three bytes, nothing raises, and only nothing counts nothing."""
    counter = counter_for(name)
    assert counter(SPECIAL) > 12
    assert counter("\ud800") >= 1
    assert counter("a\ud800b\udfff") >= 3
    assert counter("\x00") == 1
    assert counter("") == 0


@settings(max_examples=300, deadline=None)
@given(st.text(min_size=1))
def test_bytes_are_never_below_a_vocabulary(text: str) -> None:
    """For any text: 1 ≤ tokens ≤ bytes."""
    for name in ("openai:gpt-4.1", "openai:gpt-4"):
        assert 1 <= counter_for(name)(text) <= utf8_length(text)


def test_counting_is_linear() -> None:
    """A megabyte counts in well under a second, whatever it holds."""
    counter = counter_for("openai:gpt-4.1")
    counter("load")
    for text in ("hello world " * 80_000, "a" * 1_000_000, " " * 1_000_000, "日本語" * 100_000):
        start = time.thread_time()
        assert counter(text) > 0
        assert time.thread_time() - start < 1


def test_the_vocabulary_loads_only_when_it_counts() -> None:
    """Asking for a counter and its kind imports no tokenizer."""
    code = (
        "import sys; from crew_guard.models.counting import counter_for\n"
        "print(counter_for('openai:gpt-4.1').kind, 'quicktok' in sys.modules, 'tiktoken' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["quicktok", "False", "False"]


@pytest.fixture
def no_quicktok(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As on a machine without quicktok, with an empty cache of tiktoken."""
    find = importlib.util.find_spec
    monkeypatch.setattr(counting.importlib.util, "find_spec", lambda name: None if name == "quicktok" else find(name))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_tiktoken_is_never_made_to_download(no_quicktok: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its file, with a damaged one, or with caching off, bytes are the bound and tiktoken isn't asked."""
    import tiktoken.load

    monkeypatch.setattr(tiktoken.load, "read_file", lambda path: pytest.fail(f"download of {path}"))
    for encoding, (name, _) in counting._TIKTOKEN_FILES.items():
        assert Counter(encoding).kind == "bytes"
        (no_quicktok / name).write_bytes(b"damaged")
        assert Counter(encoding).kind == "bytes"
        assert (no_quicktok / name).exists()
        assert Counter(encoding)("hé") == 3
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    assert Counter("o200k_base").kind == "bytes"


def test_tiktokens_own_file_is_used(no_quicktok: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache file with the right content makes tiktoken count; marks count as text there too."""
    import tiktoken.load
    import tiktoken.registry

    ranks = "".join(f"{_base64(bytes([byte]))} {byte}\n" for byte in range(256)) + f"{_base64(b'ab')} 256\n"
    name, _ = counting._TIKTOKEN_FILES["o200k_base"]
    (no_quicktok / name).write_text(ranks)
    digest = hashlib.sha256(ranks.encode()).hexdigest()
    monkeypatch.setitem(counting._TIKTOKEN_FILES, "o200k_base", (name, digest))
    monkeypatch.setattr(tiktoken.load, "check_hash", lambda *_: True)
    monkeypatch.setattr(tiktoken.load, "read_file", lambda path: pytest.fail(f"download of {path}"))
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    counter = Counter("o200k_base")
    assert counter.kind == "tiktoken"
    assert counter("abab") == 2
    assert counter("<|endoftext|>") == 13
    assert counter("\ud800") == 3


def test_the_names_of_tiktokens_files_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and digests agree with what the installed tiktoken would look for."""
    import tiktoken_ext.openai_public as public

    asked: dict[str, tuple[str, str]] = {}

    def note(address: str, expected_hash: str) -> dict[bytes, int]:
        name = hashlib.sha1(address.encode()).hexdigest()  # noqa: S324 - tiktoken's own naming
        asked[address.rpartition("/")[2].removesuffix(".tiktoken")] = (name, expected_hash)
        return {}

    monkeypatch.setattr(public, "load_tiktoken_bpe", note)
    public.o200k_base()
    public.cl100k_base()
    assert asked == counting._TIKTOKEN_FILES


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


SEARCH = ToolSpec("search", "Find passages.", {"type": "object", "properties": {"query": {"type": "string"}}})


def test_tools_are_counted_once() -> None:
    """The same tuple and schema are known again; others, and the same content in a new tuple, are counted."""

    class Counting(Counter):
        counted = 0

        def __call__(self, text: str) -> int:
            Counting.counted += 1
            return super().__call__(text)

    prompt, tools, schema = PromptBound(Counting("o200k_base")), (SEARCH,), {"type": "object"}
    first = prompt.bound_request(tools, schema)
    before = Counting.counted
    assert [prompt.bound_request(tools, schema) for _ in range(3)] == [first] * 3
    assert Counting.counted == before
    assert prompt.bound_request((SEARCH, SEARCH), schema) > first
    assert prompt.bound_request([SEARCH], schema) == first
    for number in range(200):
        prompt.bound_request((SEARCH,), {"type": "object", "title": str(number)})
    assert len(prompt._known) <= 64


def test_bounds_without_a_vocabulary_hold_for_a_template_that_talks() -> None:
    """Bytes, indented schemas and a generous frame: more than any vocabulary says of the same prompt."""
    exact, rough = PromptBound(counter_for("openai:gpt-4.1")), PromptBound(counter_for("ollama:llama3"))
    messages = [
        Message("user", "Find the <best> 日本語 text & more"),
        Message("assistant", "", (ToolRequest("c", "search", '{"query":"日本"}'),)),
        Message("tool", "result\n" * 9, (), "c"),
    ]
    for message in messages:
        assert rough.bound(message) > exact.bound(message)
        assert rough.bound(message) >= utf8_length(message.text) + 24
    assert rough.bound_request((SEARCH,), None) > exact.bound_request((SEARCH,), None) + 500
    assert exact.bound_request((), None) == 3


def recorded() -> Iterator[tuple[str, dict[str, Any], int]]:
    """(model, request, prompt tokens) of OpenAI calls that crewAI's own tests recorded."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    archive = DATA / "crewai_cassettes/cassettes.tar.xz"
    with tarfile.open(archive) as tar:
        for member in tar:
            opened = tar.extractfile(member) if member.name.endswith(".yaml") else None
            content = opened.read() if opened else b""
            if b"chat/completions" not in content or b"openrouter" in content:
                continue
            for exchange in yaml.load(content, loader)["interactions"]:  # noqa: S506 - a safe loader
                yield from _exchange(exchange)


def _exchange(exchange: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], int]]:
    if "chat/completions" not in exchange["request"]["uri"]:
        return
    body = exchange["response"]["body"].get("string", "")
    if isinstance(body, bytes):
        body = (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).decode()
    lines = [line[5:] for line in body.splitlines() if line.startswith("data: {")] or [body]
    chunks = [json.loads(line) for line in lines if line.strip().startswith("{")]
    usages = [chunk["usage"]["prompt_tokens"] for chunk in chunks if chunk.get("usage")]
    if usages:
        model = next(chunk["model"] for chunk in chunks if chunk.get("model"))
        yield model, json.loads(exchange["request"]["body"]), usages[-1]


def _text(content: Any) -> str | None:
    if isinstance(content, list):
        only_text = all(isinstance(part, dict) and part["type"] == "text" for part in content)
        return "".join(part["text"] for part in content) if only_text else None
    return content or ""


def _bound(model: str, request: dict[str, Any]) -> tuple[int, bool] | None:
    """(the bound of a recorded request, whether it is only text); None where it holds pictures."""
    prompt = PromptBound(counter_for(f"openai:{model}"))
    assert prompt.counter.kind == "quicktok"
    texts = [_text(message.get("content")) for message in request["messages"]]
    if None in texts:
        return None
    total = 0
    for message, text in zip(request["messages"], texts, strict=True):
        calls = tuple(
            ToolRequest(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or ()
        )
        total += prompt.bound(Message(message["role"], text or "", calls))
    functions = [tool["function"] for tool in request.get("tools") or ()]
    tools = tuple(ToolSpec(one["name"], one.get("description", ""), one.get("parameters", {})) for one in functions)
    schema = ((request.get("response_format") or {}).get("json_schema") or {}).get("schema")
    plain = not tools and schema is None and not any(message.get("tool_calls") for message in request["messages"])
    return total + prompt.bound_request(tools, schema), plain


def test_no_recorded_prompt_of_openai_was_longer_than_its_bound() -> None:
    """Over 800 real calls with tools, schemas and parallel calls: never below; exact to a token where all is text."""
    if not (DATA / "crewai_cassettes/cassettes.tar.xz").exists():
        pytest.skip(f"recorded calls are not at {DATA}: set CREW_GUARD_DATA")
    pytest.importorskip("yaml")
    checked, below, loose = 0, [], []
    for model, request, tokens in recorded():
        found = _bound(model, request)
        if found is None:
            continue
        checked += 1
        bound, plain = found
        if bound < tokens:
            below.append((model, tokens, bound))
        if plain and bound > tokens + 1:
            loose.append((model, tokens, bound))
    assert checked > 800
    assert below == []
    assert loose == []


def test_bytes_bound_the_same_recorded_prompts() -> None:
    """What is used for servers of unknown tokenizers is a bound for these too."""
    if not (DATA / "autogen_recorded_sessions").exists():
        pytest.skip(f"recorded calls are not at {DATA}: set CREW_GUARD_DATA")
    prompt, checked = PromptBound(counter_for("openai-compatible:any")), 0
    for path in sorted((DATA / "autogen_recorded_sessions").glob("*.json.gz")):
        for call in json.load(io.BytesIO(gzip.decompress(path.read_bytes()))):
            usage = call.get("response", {}).get("usage") if isinstance(call.get("response"), dict) else None
            if not usage:
                continue
            texts = [_text(message["content"]) for message in call["messages"]]
            if None in texts:
                continue
            total = sum(prompt.bound(Message("user", text or "")) for text in texts) + prompt.bound_request((), None)
            checked += 1
            assert total >= usage["prompt_tokens"]
    assert checked > 5
