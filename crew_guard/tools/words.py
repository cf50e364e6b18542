"""Words: identifiers taken apart, and what else a thing may be called.

A user asks for a directory's size where a name says getsize(dir): both are cut to the same words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LOWER = re.compile(r"[a-z]{2,}")

SHORTEST_SQUASHED = 6
"""Letters; shorter names are not taken apart."""
COMMON = 12
"""How often a text must use a word before a name is taken apart at it."""

# One row is one meaning. English and the trade's own shorthand: no row names what a module holds.
_SYNONYMS = """
add insert append
appear occur
archive compress
arguments parameters options
ask prompt
async asynchronous coroutine
average mean
begin start
big large size
biggest largest
block wait
build make create construct
calculate compute
configuration config settings
catch handle
change modify
check test verify validate
choose pick select
clone copy
column field
combine merge join concatenate
command program executable
compare comparison
components parts
concurrently parallel simultaneously
contents data
convert turn transform
count tally
current now
cut slice
date datetime
decode decompress
default fallback missing
delete remove erase
diff difference
dict dictionary mapping
digest hash checksum
dir directory folder
dump write save serialize
elapsed duration
element item
empty blank
end finish terminate
environment environ env
error exception
evaluate eval
executable command
exit termination quit
expensive slow
extension suffix ext
extract unpack
fast quick
fetch download retrieve
file filename
filename pathname path
fill wrap
find search locate
float floating
fold wrap
func function callable
generate make create
ignore suppress
indent indentation whitespace
info information
int integer
iterate iterator loop
kill terminate
launch start
length size
limit maximum
line row
list sequence
load read
log logging
loop iterable
match pattern
max maximum
min minimum
mock fake
name identifier
nested recursive
number numeric
often frequency
open connect
order sort
pair tuple
parse read convert
password secret
pause sleep delay wait
permission mode
position index
print display show
random secure
recursive tree
regex regexp regular
rename move
repeat cycle
replace substitute
reverse reversed
rotate roll
run execute call invoke
safe safely
several multiple
sign signature
smallest least
space whitespace
speed time
stack traceback
stop cancel
str string text
symlink link
temp temporary
thread threading
time clock
timeout timed
unique distinct
url web http
value result
verbose debug
wait join
width columns
word token
""".strip()


def _table(rows: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for row in rows.splitlines():
        words = row.split()
        for word in words:
            found.setdefault(word, []).extend(other for other in words if other != word)
    return {word: tuple(dict.fromkeys(others)) for word, others in found.items()}


SYNONYMS = _table(_SYNONYMS)


def synonyms(word: str) -> tuple[str, ...]:
    """What else a word may be called, its plural included."""
    return SYNONYMS.get(word) or SYNONYMS.get(word.removesuffix("s")) or SYNONYMS.get(f"{word}s") or ()


def identifier_parts(name: str) -> list[str]:
    """The words of an identifier: check_output and checkOutput both give check and output."""
    return [part.lower() for chunk in re.split(r"[\W_]+", name) for part in _CAMEL.findall(chunk)]


def vocabulary(texts: Iterable[str]) -> dict[str, int]:
    """The words that occur often enough in these texts for a name to be taken apart at them."""
    counts = Counter(word for text in texts for word in _LOWER.findall(text.lower()))
    return {word: count for word, count in counts.items() if count >= COMMON}


def squashed_parts(word: str, known: Mapping[str, int]) -> list[str]:
    """The words of a name written without a break: makedirs gives make and dirs.

    Args:
        known: words and how often they occur
    Returns:
        two or three words; none where the name is a more usual word itself, or no such cut exists
    """
    if len(word) < SHORTEST_SQUASHED or not word.isalpha():
        return []
    cuts = [[word[:at], word[at:]] for at in range(2, len(word) - 1)]
    cuts = [cut for cut in cuts if all(part in known for part in cut)] or [
        [word[:first], word[first:second], word[second:]]
        for first in range(2, len(word) - 3)
        if word[:first] in known
        for second in range(first + 2, len(word) - 1)
        if word[first:second] in known and word[second:] in known
    ]
    # The best cut has no very short piece; of equals the one with the more usual words.
    if not cuts:
        return []
    best = max(cuts, key=lambda cut: (min(map(len, cut)), min(known[part] for part in cut)))
    return best if min(known[part] for part in best) > known.get(word, 0) else []
