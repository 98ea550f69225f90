"""Words in capitals: acronyms are spelt ("U R L"), the others are words and become small ("hello").

An acronym is a word of the table below, or one that English could not pronounce.
"""

import re

_ACRONYMS = """
    ACL ADHD AI AIDS API APIS ASAP ATM AC AD BC BBC BMW CD CE CEO CFO CIA CLI CNN COO CPU CTO DC DIY DNA DVD
    EEG EKG ER ETA EU EV FAQ FBI GDP GMO GPA GPS GPU GUI HIV HR IBM ICU ID IDE IMF IO IP IPA IPO IQ IRA
    IRS ISO ISP IT IV LA LED LLM MBA MIT MRI NBA NFL NHL NSA NYC OCD OS PA PC PDF PE PIN PM PR PTA QA QR
    RNA ROI RPM RSVP SEO SSD SUV TA TTS TV UAE UFO UI UK UN URI URL US USA USB USD USDA USSR UTC UV UX
    VAT VIP VPN WHO WWW XML YMCA
"""
_TWO_LETTER_WORDS = """
    AH AM AN AS AT BE BY DO GO HA HE HI IF IN IS IT ME MY NO OF OH ON OR SO TO UP US WE
"""
_SPELT = frozenset(_ACRONYMS.split())
_ALSO_WORDS = frozenset({"AD", "AIDS", "AM", "IT", "LA", "LED", "PA", "PIN", "TA", "UN", "US", "WHO"})
"""Acronyms that in a text all in capitals are read as the words that they look like."""

_KNOWN = {"OK": "okay", "II": "two", "III": "three", "JSON": "jason", "JPEG": "jay peg"}
_TWO_LETTERS = frozenset(_TWO_LETTER_WORDS.split())

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
_WORD = re.compile(r"\b[A-Z]{2,}(?:'[A-Z]+)?(?![A-Za-z])|\b([A-Z]{2,})'?s\b")
_CAPITALS_SHARE = 0.7
"""A text with this share of capitals among its letters is shouted."""


def lower_capitals(text: str) -> str:
    """Spell or lower every word of two or more capitals; single capitals and mixed words stay."""
    letters = sum(map(str.isalpha, text))
    shouted = sum(map(str.isupper, text)) >= max(_CAPITALS_SHARE * letters, 6)
    return _WORD.sub(lambda match: _spoken(match, shouted), text)


def _spoken(match: re.Match[str], shouted: bool) -> str:
    words = _plural(match[1]) if match[1] else _word(match[0], shouted)
    before = match.string[max(match.start() - 2, 0) : match.start()]
    return words[0].upper() + words[1:] if before in ("", ". ", "? ", "! ") else words


def _plural(word: str) -> str:
    spoken = _word(word, shouted=False)
    return spoken + ("'s" if " " in spoken else "s")


def _word(word: str, shouted: bool) -> str:
    if word in _KNOWN and not (shouted and word in _ALSO_WORDS):
        return _KNOWN[word]
    acronym = word in _SPELT and not (shouted and word in _ALSO_WORDS)
    if not acronym and _is_word(word.lower()):
        return word.lower()
    return " ".join(word.replace("'", ""))


def _is_word(word: str) -> bool:
    """Whether English could pronounce it; of the pairs of letters only common words count."""
    if "'" in word:
        return True
    if len(word) == 2:
        return word.upper() in _TWO_LETTERS
    return _pronounceable(_RUNS.findall(word))


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
