"""Words in capitals: initialisms are spelt ("U R L"), the others are words and become small ("hello").

``words.txt`` holds words whose letters alone do not tell that they are words, ``initialisms.txt`` what is spelt
though it may look like a word. What is in neither is a word if it has five letters or more and English could
pronounce it.
"""

import re
from pathlib import Path

from worker.text.english.patterns import after, before
from worker.text.rules import Match, rules


def _listed(name: str) -> frozenset[str]:
    lines = Path(__file__).with_name(name).read_text(encoding="ascii").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


_WORDS = _listed("words.txt")
_SPELT = _listed("initialisms.txt")
_TWO_LETTER_WORDS = """
    ah am an as at be by do go ha he hi if in is it me my no of oh on or so to up us we ox ad
"""
_TWO_LETTERS = frozenset(_TWO_LETTER_WORDS.split())
_ALSO_WORDS = (_SPELT & _WORDS) | {"ad", "am", "id", "it", "la", "pa", "ta", "un", "us"}
"""Initialisms that in a text all in capitals are read as the words that they look like."""

_KNOWN_NAMES = """
    wav midi posix gif yaml toml sars mers fifa uefa ikea nafta darpa yolo fomo nimby yuppie jira bios voip
    wifi lidar sonar swat taser zip pin sim ram rom laser radar scuba gulag gestapo epcot hud crud ajax basic
    cobol fortran perl lisp aids sids cern nasa nato unesco opec osha fema unicef asean norad navi simd cuda
    rocm ansi ascii emoji meme
"""
_ACRONYMS = frozenset(_KNOWN_NAMES.split())
"""Acronyms that are words."""

_KNOWN = {"OK": "okay", "JSON": "jason", "JPEG": "jay peg", "JPG": "jay peg", "MPEG": "em peg", "BBQ": "barbecue"}

_ONSET = re.compile(
    "|sch|scr|shr|spl|spr|squ|str|thr|bl|br|ch|cl|cr|dr|dw|fl|fr|gh|gl|gn|gr|kn|ph|pl|pr|qu|rh|sc|sh|sk|sl|sm|sn|sp|"
    "st|sw|th|tr|tw|wh|wr|[b-df-hj-np-tv-z]"
)
_CODA = re.compile(
    "|(?:gh|xth|ng|ngth|nth|lfth|mpt|ght|rld|rd|rk|rm|rn|rp|rst|rt|rth|rv|lt|ld|lk|lm|lp|ll|mp|mb|nd|nk|nt|nst|pt|ct|ck|sk|"
    "st|sp|sm|ft|xt|th|sh|ch|tch|nch|rch|ff|ss|zz|[b-df-hj-np-tvwxz])s?"
)
"""Clusters of consonants that begin and end English syllables; none is one, too."""

_RUNS = re.compile("[aeiouy]+|[^aeiouy]+")
_MOST_VOWELS, _MOST_CONSONANTS = 4, 6
_WORD = re.compile(r"(?<![A-Za-z'])[A-Z]{2,}(?:'[A-Z]+)?(?![A-Za-z])|(?<![A-Za-z'])([A-Z]{2,})'?s\b")
_CAPITALS_SHARE = 0.7
"""A sentence with this share of capitals among its letters is shouted."""

_SENTENCE = re.compile(r"[^.!?;:]+[.!?;:]*")
_SHORTEST_UNLISTED = 5


def _joined(match: Match) -> str:
    first, second = " ".join(match[1]), " ".join(match[2])
    return f" {first} and {second}{chr(39) + 's' if match[3] else ''} "


JOINED = rules(
    (
        (r"(?<![A-Za-z])([A-Z]{1,3})&([A-Z]{1,3})(?:'?(s))?(?![A-Za-z&])", _joined, "&"),
        (r"(?=[A-Z]{2,5}s?(?![A-Za-z]))(?:(?<=[a-z]{2})|(?<=\b[A-Z][a-z])|(?<=(?<![A-Za-z])[a-z]))", " "),
        (r"\bIPv(?=\d)", "I P V ", "0"),
        (r"\bTL;? ?DR\b", "T L D R", "", ["tl", "tldr"]),
        (r"\bPhD('?s)?\b", lambda m: "P H D" + ("'s" if m[1] else "")),
    )
)
"""Initialisms with "&" inside, and those that words end with ("ChatGPT")."""


def lower_capitals(text: str) -> str:
    """Spell or lower every word of two or more capitals; single capitals and mixed words stay."""
    return _SENTENCE.sub(_sentence, text)


def _sentence(match: Match) -> str:
    letters = sum(map(str.isalpha, match[0]))
    shouted = sum(map(str.isupper, match[0])) >= max(_CAPITALS_SHARE * letters, 6)
    return _WORD.sub(lambda word: _spoken(word, shouted, word.start() <= 1), match[0])


def _spoken(match: Match, shouted: bool, starts: bool) -> str:
    shouted = shouted or _SHOUTED_BEFORE.search(before(match, 16)) is not None
    if match[0] == "AM" and not shouted and not _AM.search(before(match, 9) + "AM" + after(match, 3)):
        return "A M"
    words = _plural(match[1]) if match[1] else _word(match[0], shouted)
    return words[0].upper() + words[1:] if starts else words


_AM = re.compile(r"(?i)\b(?:i|who|what|where|how|why) AM| AM I\b|[^A-Za-z ]\s?AM$")
_SHOUTED_BEFORE = re.compile(r"\b(?:I|DO|NOT|VERY|ALL|LOVE|HATE|NO|STOP|GO|TO|THE|OF|FOR|AND|IS|IN|ABOUT|WITH) $")


def _plural(word: str) -> str:
    spoken = _word(word, shouted=False)
    return spoken + ("'s" if " " in spoken or word.lower() in _ACRONYMS else "s")


def _word(word: str, shouted: bool) -> str:
    known = _KNOWN.get(word)
    if known:
        return known
    small, _, rest = word.lower().partition("'")
    spelt = small in _SPELT and not (shouted and small in _ALSO_WORDS)
    if not spelt and (rest or _is_word(small)):
        return word.lower()
    letters = " ".join(word.partition("'")[0])
    return f"{letters}'{rest}" if rest else letters


_LONG_DRAWN, _VOWEL = re.compile(r"(.)\1\1"), re.compile("[aeiouy]")
"""Letters that are drawn out: "NOOO"."""


def _is_word(word: str) -> bool:
    """Whether it is a listed word, or one that English could pronounce and that is long enough."""
    if len(word) == 2:
        return word in _TWO_LETTERS
    if word in _WORDS or word in _ACRONYMS:
        return True
    if len(word) > 3 and _LONG_DRAWN.search(word) and _VOWEL.search(word):
        return True
    return len(word) >= _SHORTEST_UNLISTED and _pronounceable(_RUNS.findall(word))


def _pronounceable(runs: list[str]) -> bool:
    """Whether runs of vowels and of consonants, in turn, can be syllables."""
    if len(runs) == 1:
        return "y" in runs[0] and len(runs[0]) <= _MOST_VOWELS  # "you", "eye"
    last = len(runs) - 1
    return all(
        len(run) <= _MOST_VOWELS if run[0] in "aeiouy" else _fits(run, first=at == 0, last=at == last)
        for at, run in enumerate(runs)
    )


def _fits(run: str, *, first: bool, last: bool) -> bool:
    """Whether consonants are an onset, a coda, or between vowels both of them."""
    if len(run) > _MOST_CONSONANTS:
        return False
    if first or last:
        return (_ONSET if first else _CODA).fullmatch(run) is not None
    return any(_CODA.fullmatch(run[:cut]) and _ONSET.fullmatch(run[cut:]) for cut in range(len(run) + 1))
