"""HTML and SSML: what becomes of tags, entities and of what nobody sees.

Blocks become lines of Markdown (``<h1>`` a heading, ``<li>`` an item, ``<td>`` a cell), which
``worker.text.markdown`` reads; ``<break>`` becomes the pause that ``worker.text.parts`` knows.
"""

import re
from collections.abc import Iterator, Mapping

from worker.text.edits import Edit
from worker.text.fences import fenced

_BLOCK_NAMES = """
    address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption figure
    footer form head header hgroup hr html legend main nav ol option p paragraph pre section speak summary table
    tbody tfoot thead ul voice
"""
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_INLINE_NAMES = """
    a abbr acronym amazon:effect audio b base bdi bdo big blink br break button canvas cite code col colgroup
    data datalist del dfn em embed emphasis font frame frameset h1 h2 h3 h4 h5 h6 i iframe img input ins kbd
    label lang lexicon li link map mark marquee meta meter mstts:express-as noframes noscript object optgroup
    output param phoneme picture progress prosody q rb rp rt ruby s samp say-as script select small source span
    strike strong style sub sup svg td template textarea th time title token tr track tt u var video w wbr
"""
_INLINE_TAGS = frozenset(_INLINE_NAMES.split())
_TAGS_BECOME: Mapping[str, str] = {
    "br": "\n",
    "/li": "",
    "tr": "\n| ",
    "/tr": "\n",
    **dict.fromkeys(("/td", "/th"), " | "),
    **{block: "\n\n" for name in _BLOCKS for block in (name, f"/{name}")},
    **{f"h{level}": "\n\n# " for level in range(1, 7)},
    **{f"/h{level}": "\n\n" for level in range(1, 7)},
    "title": "\n\n# ",
    "/title": "\n\n",
    "li": "\n- ",
}
_ATTRIBUTE = (
    r"\s++[A-Za-z_@:][\w:@.-]{0,60}+(?:\s*+=\s*+(?:\"[^\"]{0,1000}+\"|'[^']{0,1000}+'|[^\s\"'<>]{1,500}+))?+"
)
_TAG = re.compile(
    r"(?P<code>(?P<ticks>`{1,3})(?!`)[^`\n]{1,300}(?P=ticks)(?!`))"
    r"|(?P<until><!--|<!\[CDATA\[|<\?xml|<(?:script|style)\b[^<>]{0,300}>)"
    r"|<!DOCTYPE[^<>]{0,200}>"
    r"|<sub\s+alias\s*=\s*(?P<quote>[\"'])(?P<alias>[^\"'<>]{1,200})(?P=quote)\s*>[^<>]{0,200}</sub\s*>"
    r"|<say-as\b(?P<how>[^<>]{1,200})>(?P<said>[^<>]{0,200})</say-as\s*>"
    r"|<sup>(?P<power>[-−+]?\d{1,3})</sup>"
    rf"|<(?P<name>/?[A-Za-z][\w:.-]{{0,40}}+)(?P<attributes>(?:{_ATTRIBUTE}){{0,40}}+)\s*+/?>",
    re.IGNORECASE,
)
_UNTIL = {"<!--": "-->", "<![": "]]>", "<?x": "?>", "<sc": "</script>", "<st": "</style>"}
_CLOSING = re.compile(r"</([A-Za-z][\w:.-]{0,40})\s*>")
_SUPERSCRIPTS = str.maketrans("0123456789-−+", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻⁺")
_TIME = re.compile(r"\btime\s*=\s*[\"']?\+?(\d{0,5}(?:\.\d{1,3})?)(ms|s)\b", re.IGNORECASE)
_STRENGTH = re.compile(r"\bstrength\s*=\s*[\"']?([a-z-]{4,8})", re.IGNORECASE)
_STRENGTHS = {"none": 0.0, "x-weak": 0.1, "weak": 0.2, "medium": 0.4, "strong": 0.7, "x-strong": 1.2}
_LONGEST_BREAK = 10.0
_ALT = re.compile(r"\balt\s*=\s*(?:\"([^\"<>]{1,300})\"|'([^'<>]{1,300})')", re.IGNORECASE)


def tags(text: str) -> Iterator[Edit]:
    """What becomes of tags and of what nobody sees; code between back-ticks stays."""
    names = {name.lower() for name in _CLOSING.findall(text)}
    code = iter(fenced(text))
    block = next(code, None)
    at = last = 0
    unclosed: set[str] = set()
    while match := _TAG.search(text, at):
        while block and block[1] <= match.start():
            block = next(code, None)
        if block and block[0] <= match.start():
            at = block[1]
            continue
        at = match.end()
        if match["until"]:
            stop = _until(text, match, unclosed)
            written = _cdata(text[at:stop]) if match["until"][:3] == "<![" else " "
            yield match.start(), stop, written
            at = last = stop
        elif not match["code"] and (words := _tag(match, names)) is not None:
            yield _from(text, last, match.start()) if words.startswith("\n") else match.start(), at, words
            last = at


def _from(text: str, last: int, start: int) -> int:
    """Where the white space before a block begins, after the last tag."""
    while start > last and text[start - 1].isspace():
        start -= 1
    return start


def _until(text: str, match: re.Match[str], unclosed: set[str]) -> int:
    """The end of a comment, a script and the like; without one only its beginning goes, and it is noted."""
    mark = _UNTIL[match[0][:4].lower() if match[0][:4] == "<!--" else match[0][:3].lower()]
    end = -1 if mark in unclosed else text.find(mark, match.end())
    if end < 0:
        unclosed.add(mark)
        return match.end()
    return end + len(mark)


def _cdata(text: str) -> str:
    return text.removesuffix("]]>")


def _tag(match: re.Match[str], names: set[str]) -> str | None:
    """What stands for a tag; None where it is none."""
    if match["alias"]:
        return match["alias"]
    if match["said"] is not None:
        return _said(match["how"].lower(), match["said"])
    if match["power"]:
        return match["power"].translate(_SUPERSCRIPTS)
    if match["name"] is None:  # a document type
        return "\n\n"
    name, attributes = match["name"].lower(), match["attributes"]
    bare = name.lstrip("/")
    if not (_is_tag(bare, attributes) or bare in names):
        return None
    if name == "break":
        return f"[pause:{_seconds(attributes):g}s]"
    if name == "img":
        alt = _ALT.search(attributes)
        return f" {alt[1] or alt[2]} " if alt else " "
    return _TAGS_BECOME.get(name, "")


def _is_tag(name: str, attributes: str) -> bool:
    """Whether it is a tag that people write, and not a comparison ("a <b and c> d") or a gap ("<name>")."""
    if attributes.strip() and "=" not in attributes:
        return False
    return name in _BLOCKS or name in _INLINE_TAGS or "=" in attributes or ":" in name


def _seconds(attributes: str) -> float:
    """Of a pause that ``<break>`` asks for."""
    time, strength = _TIME.search(attributes), _STRENGTH.search(attributes)
    if time and time[1].strip("."):
        return min(float(time[1]) / (1000 if time[2].lower() == "ms" else 1), _LONGEST_BREAK)
    return _STRENGTHS.get(strength[1].lower() if strength else "medium", _STRENGTHS["medium"])


def _said(how: str, text: str) -> str:
    """``<say-as>``: letters and digits one by one, ordinals; the rest says itself."""
    if any(kind in how for kind in ("characters", "spell-out", "verbatim", "digits")):
        return " ".join(filter(str.isalnum, text))
    if "ordinal" in how and text.strip().isascii() and text.strip().isdecimal():
        number = text.strip()
        return number + ("th" if number[-2:-1] == "1" else {"1": "st", "2": "nd", "3": "rd"}.get(number[-1], "th"))
    return text
