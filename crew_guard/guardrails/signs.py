"""What instructions to a model look like inside of data, by kind.

They are matched against small letters with single spaces: ignoring case costs several times as much.
"""

from __future__ import annotations

import re

_OF_BEFORE = (
    r"(?:all |any |every |the |your |my |these |those |of |previous(?:ly)? |prior |above |earlier |preceding |other "
    r"|given |original |initial |system ){1,5}"
)
_ORDERS = (
    r"(?:instructions?|prompts?|rules?|directions?|guidelines?|directives?|commands?|constraints?|polic(?:y|ies)"
    r"|training|programming)"
)
_A_MODEL = r"(?:ai|llm|gpt|chatgpt|claude|gemini|language model|ai assistant|assistant|agent|bot)s?"

_OVERRIDES = (
    (
        r"\b(?:ignore|disregard|forget|do not follow|don't follow|stop following)[ ,]+"
        rf"{_OF_BEFORE}{_ORDERS}"
    ),
    (
        r"\b(?:ignore|disregard|forget) (?:everything|all|anything|what) (?:that )?(?:is |was |has been |you were |i )?"
        r"(?:we )?(?:said |told |written )?(?:above|before|prior|previous)"
    ),
    (
        rf"\b(?:override|bypass|overrule) (?:all )?(?:of )?(?:your|my|previous|prior|earlier|existing|system|safety) "
        rf"(?:\w+ )?{_ORDERS}"
    ),
    r"\bthe (?:above|previous) (?:instructions?|prompts?) (?:are|is|were) (?:void|null|obsolete|cancel)",
    r"\b(?:ignoriere|vergiss|missachte)\b.{0,30}\b(?:anweisungen|instruktionen|vorgaben)",
    r"\b(?:ignore[zr]?|oublie[zr]?)\b.{0,25}\b(?:instructions|consignes)\b.{0,15}(?:précédentes|ci-dessus|antérieures)",
    r"\b(?:ignora|olvida)\b.{0,25}\binstrucciones\b",
    r"(?:忽略|无视|忘记).{0,8}(?:指令|提示|说明)",
)
_NEW_PART = (
    r"\byou are (?:now|no longer) (?:a|an|the|in|my|bound|restricted|dan)\b",
    r"\bfrom now on,? you (?:are|will|must|shall|should)\b",
    (
        r"\b(?:pretend|act|behave|respond) (?:as if you|as though you|like you) (?:are|were|have)\b.{0,40}"
        r"\b(?:no|without|unrestricted|not bound)\b"
    ),
    r"\b(?:enable|enter|activate|switch to) (?:developer|dan|god|jailbreak|admin) mode\b",
    (
        r"\b(?:new|updated|revised|real|actual) (?:system )?(?:instructions?|prompt|objective)s?"
        r"(?: for you| from (?:the )?(?:user|system|developer|admin))? ?[:=]"
    ),
)
_SPEAKS = (
    (
        r"\b(?:attention|important|message|instructions?|warning|urgent)\b.{0,40}\b(?:to|for) (?:you,? )?"
        rf"(?:the |any |all )?{_A_MODEL}\b.{{0,60}}(?:[:,!]|\bmust\b|\bplease\b)"
    ),
    rf"\b(?:if you are|as) an? {_A_MODEL},? (?:you must|please|you should|reading this)\b",
    (
        r"\bbefore (?:you )?(?:can )?(?:solv|finish|complet|answer|continu|proceed|respond)\w* (?:\w+ ){0,8}"
        r"(?:task|request|question)\b.{0,60}\b(?:you (?:must|need to|have to)|please|do the following)\b"
    ),
    (
        r"\b(?:reveal|print|repeat|show|output|leak|send)\b.{0,25}\b(?:your|the) "
        r"(?:system prompt|hidden prompt|initial instructions|instructions above)"
    ),
    r"\bdo not (?:tell|inform|mention (?:this|it) to|alert|notify)\b.{0,15}\bthe (?:user|human|operator)\b",
)
_MARKUP = (
    r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id|begin_of_text)\|?>",
    r"\[/?inst\]|<</?sys>>",
    r"</?(?:system|system_prompt|assistant|instructions?|information|tool_result|tool_response|function_results?)>",
    r"(?:^|\n)#{2,4} ?(?:system|instruction|assistant|human)s?(?: prompt| message)?:? ?(?:\n|$)",
    (
        r"(?:^|\n)(?:system|assistant)(?: prompt| message| override)? ?: ?"
        r"(?:you|ignore|disregard|please|now|call|send|i will|i'll)\b"
    ),
)
_TOOL_CALLS = (
    (
        r'\{ ?"(?:name|tool|tool_name|function|recipient_name)" ?: ?"[\w.-]{1,80}" ?, ?'
        r'"(?:arguments|parameters|args|input|tool_input)" ?:'
    ),
    r'"(?:tool_calls|function_call|tool_use)" ?: ?[\[{]',
    r"</?(?:tool_call|function_calls?|invoke|tool_use)(?: name=[^>]{1,80})?>",
    r"(?:^|\n)action: ?\w[\w .-]{0,60}\naction input:",
)


def _any(*signs: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{sign})" for sign in signs))


IN_SENTENCES = {
    "overrides instructions": _any(*_OVERRIDES),
    "gives a model a new part": _any(*_NEW_PART),
    "speaks to a model": _any(*_SPEAKS),
    "imitates a tool call": _any(*_TOOL_CALLS[:-1]),
}
"""Looked for with the lines joined."""
IN_LINES = {
    "imitates the markup of a conversation": _any(*_MARKUP),
    "imitates a tool call": _any(_TOOL_CALLS[-1]),
}
