"""A conversation that outgrows its model's window is made shorter: what is old becomes a summary.

The summary is a model call of the agent itself, through the gate, with a bounded length. The agent's brief and the
latest exchanges stay whole; a tool's request is never parted from its result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from crew_guard.core.messages import Message, ModelRequest, ToolSpec, Transcript
from crew_guard.errors import ModelError
from crew_guard.ports import CallTerms, Gate, Model

BRIEF = 2
"""Messages at the start that are never summarised: who the agent is, and its task."""
_ANSWER = 1_024
"""Tokens kept free for an answer where the agent's role doesn't say how long it may be."""
_SUMMARY = 1_024
_LEAST = 200
"""Characters that every message keeps."""
_SYSTEM = (
    "You keep the record of an agent's work short. Write down what the record says that the agent needs to go on: "
    "facts found, with their sources; what was tried and failed; what is decided; what is still open. No more."
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What all requests of one loop have in common."""

    specs: tuple[ToolSpec, ...]
    overhead: int
    """An upper bound of the tokens that a request adds to its messages."""
    window: int | None
    terms: CallTerms
    output: str = "output"
    """What the answer's schema is called."""

    @property
    def fits(self) -> int:
        """The longest prompt, in tokens, that leaves room for an answer; only asked where there is a window."""
        window = self.window or 0
        return window - min(self.terms.max_tokens or _ANSWER, window // 4)


@dataclass(frozen=True, slots=True)
class _Author:
    """Who writes a summary, and pays for it."""

    agent: str
    model: Model
    gate: Gate


async def compacted(agent: str, model: Model, gate: Gate, transcript: Transcript, shape: Shape) -> Transcript:
    """The same conversation, shorter; as it is where nothing can be left out.

    Args:
        agent: whose conversation it is, and who pays for the summary
        transcript: too long for the model's window; it is not changed
    Raises:
        RefusedError: the agent's scope was closed meanwhile
    """
    room = shape.fits - shape.overhead
    parts = list(zip(transcript.messages, transcript.bounds, strict=True))
    longest = max(64, min(_SUMMARY, room // 8))
    since = _kept_from(parts, (room - sum(bound for _, bound in parts[:BRIEF]) - longest) // 2)
    head, older, latest = parts[:BRIEF], parts[BRIEF:since], parts[since:]
    if older:
        after = sum(bound for _, bound in (*head, *latest)) + longest + shape.overhead
        text = await _summary(
            _Author(agent, model, gate), [message for message, _ in (head[-1], *older)], longest, after
        )
        said = f"[{len(older)} earlier messages were left out here: they do not fit.]"
        if text:
            said = f"[{len(older)} earlier messages were left out here. What they say, in short:]\n{text}"
        note = Message("user", said)
        head.append((note, model.bound(note)))
    return _cut_to(model, [*head, *latest], room)


def _kept_from(parts: Sequence[tuple[Message, int]], room: int) -> int:
    """Where the latest exchanges begin that fit into this many tokens; the last one is always kept."""
    starts = [place for place in range(BRIEF, len(parts)) if _begins(parts, place)]
    since, kept, end = len(parts), 0, len(parts)
    for place in reversed(starts):
        kept += sum(bound for _, bound in parts[place:end])
        if kept > room and since < len(parts):
            break
        since = end = place
    return since


def _begins(parts: Sequence[tuple[Message, int]], place: int) -> bool:
    """Whether an exchange begins here: with what the agent says, and in a conversation with what others do."""
    message, before = parts[place][0], parts[place - 1][0]
    return message.speaker == "assistant" or (message.speaker == "user" and before.speaker in ("user", "assistant"))


async def _summary(by: _Author, messages: Sequence[Message], longest: int, after: int) -> str | None:
    """What these messages say, in short; None where there is no budget for it, or the provider fails.

    Args:
        messages: the task first, then what is to be summarised
        longest: tokens of the summary
        after: tokens of the prompt that the agent goes on with: a summary must not eat what that call needs
    """
    model = by.model
    record = "\n".join(_as_record(messages))
    least = min(64, longest)
    overhead = model.bound_request((), None)
    whole = [Message("system", _SYSTEM), Message("user", record)]
    bounds = [model.bound(message) for message in whole]
    if model.window is not None:
        short = _cut_to(model, list(zip(whole, bounds, strict=True)), model.window - longest - overhead)
        whole, bounds = short.messages, short.bounds
    prompt = sum(bounds) + overhead
    too_long = model.window is not None and prompt + longest > model.window
    if too_long or not _affordable(by, (prompt, after), longest):
        return None
    request = ModelRequest(tuple(whole), prompt_tokens=prompt)
    try:
        reply = await by.gate.call_model(by.agent, model, request, CallTerms(longest, least))
    except ModelError:
        return None
    text = reply.text.strip()
    return f"{text} […]" if text and reply.finish == "length" else text


def _affordable(by: _Author, prompts: tuple[int, int], longest: int) -> bool:
    left, rates = by.gate.remaining(by.agent), by.model.rates
    money = 0
    if rates is not None:
        for prompt in prompts:
            prompt_cost, rate, fixed = rates.bound(prompt)
            money += prompt_cost + fixed - (-longest * rate // 1_000_000)
    return left.steps >= len(prompts) and left.tokens >= sum(prompts) + 2 * longest and left.nano_usd >= money


def _as_record(messages: Sequence[Message]) -> Iterable[str]:
    for place, message in enumerate(messages):
        if message.text:
            yield f"{'task' if place == 0 else message.speaker}: {message.text}"
        for request in message.tool_requests:
            yield f"{message.speaker} asked for {request.name}({request.arguments})"


def _cut_to(model: Model, parts: list[tuple[Message, int]], room: int) -> Transcript:
    """The messages, the longest of them cut with a notice until all fit; as near to it as can be."""
    for _ in range(2 * len(parts)):
        over = sum(bound for _, bound in parts) - room
        cuttable = [place for place, (one, _) in enumerate(parts) if place and len(one.text) > 2 * _LEAST]
        if over <= 0 or not cuttable:
            break
        place = max(cuttable, key=lambda one: parts[one][1])
        message, bound = parts[place]
        parts[place] = _shortened(model, message, bound, bound - over)
    shorter = Transcript()
    for message, bound in parts:
        shorter.append(message, bound)
    return shorter


def _shortened(model: Model, message: Message, bound: int, wanted: int) -> tuple[Message, int]:
    """A message cut in its middle to this many tokens, or to the least that a message keeps."""
    text = message.text
    keep = max(_LEAST, int(len(text) * max(0, wanted) / bound * 0.95))
    while True:
        notice = f"\n[… {len(text) - keep:,} characters were left out here: they do not fit …]\n"
        cut = replace(message, text=f"{text[: keep - keep // 4]}{notice}{text[len(text) - keep // 4 :]}")
        tokens = model.bound(cut)
        if tokens <= wanted or keep <= _LEAST:
            return cut, tokens
        keep = max(_LEAST, keep * 3 // 4)
