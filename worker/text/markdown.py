"""Markdown and its relatives: what the marks at the beginning of lines and those inside lines become."""

import re
from collections.abc import Iterator

from worker.text.edits import Edit, Edited
from worker.text.fences import FENCE, LINE, fenced

_HAN = re.compile(r"[\u3041-\u9fff]")

_RULER = re.compile(r"\s*+(?:[-=*_~#+|:>─━═┄┈—–.•·]\s?){1,400}+$")
_NOTHING_BUT_DOTS = re.compile(r"[\s.·•]*$")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+(?=\S)")
_HEADING_END = re.compile(r"\s+#{1,6}$")
_QUOTED = re.compile(r"\s{0,3}(?:>(?=$|[\s>A-Za-z\"'“‘*_`#\[!(]|[\u3041-\u9fff])[ \t]?){1,9}")
_ITEM = re.compile(r"\s{0,40}[-*+•‣▪◦●○►▶–—]\s+(?:\[[ xX]\]\s+)?(?=\S)")
_NUMBERED = re.compile(r"\s{0,40}\d{1,3}[.)]\s+(?=\S)")
_DEFINITION = re.compile(r"\s{0,3}\[(?!\^)[^\[\]\n]{1,100}\]:\s+\S{1,1000}(?:\s+[\"'(][^\n]{0,200})?$")
_FOOTNOTE = re.compile(r"\s{0,3}\[\^[^\[\]\n]{1,30}\]:\s*")
_ROW = re.compile(r"\s{0,40}\|.*\S.*$")
_CELLS = re.compile(r"\s*\|\s*")
_END_MARK = re.compile(r"[.!?。！？…,;:，；：、][\"'”’»」』)）\]*_]{0,4}$")


def without_markdown(text: Edited) -> Edited:
    """The text that a reader sees; between blocks stand blank lines."""
    lines = text.edited(_lines(text.text))
    return lines.sub(_IMAGE, lambda match: match[1]).sub(_INLINE, _inline)


def _lines(text: str) -> Iterator[Edit]:
    """The edits of each line: what its first marks say, and what its end needs then."""
    in_list = False
    code = iter(fenced(text))
    block = next(code, None)
    previous = 0
    for match in LINE.finditer(text):
        start, end = match.start(), match.end() - match[0].endswith("\n")
        line = text[start:end].rstrip()
        if block and start >= block[1]:
            block = next(code, None)
        if block and block[0] <= start:
            if FENCE.match(line) and (start == block[0] or match.end() >= block[1]):
                yield start, end, "\n"
            previous, in_list = end, False
            continue
        marks = _item(line)
        if marks and in_list and start and _lacks_mark(text[max(previous - 80, 0) : previous]):
            yield previous, previous, "，" if _HAN.search(text, max(previous - 80, 0), previous) else ","
        elif in_list and line and not marks and not line[0].isspace():
            yield start, start, "\n"
        if line or not in_list:
            in_list = bool(marks) or (in_list and line[:1].isspace())
        edits = list(_line(start, end, line, marks))
        yield from edits
        previous = max(start + len(line), *(stop for _, stop, _ in edits), 0)


def _item(line: str) -> int:
    """Length of the marks of an item of a list, 0 where it is none; of a number only blanks go."""
    if _RULER.match(line):
        return 0
    quoted = _QUOTED.match(line)
    begin = quoted.end() if quoted else 0
    item = _ITEM.match(line, begin)
    if item:
        return item.end()
    number = _NUMBERED.match(line, begin)
    return begin + len(line[begin:]) - len(line[begin:].lstrip()) if number else 0


def _lacks_mark(line: str) -> bool:
    return bool(line.strip()) and not line.endswith("\n") and _END_MARK.search(line.rstrip()) is None


def _line(start: int, end: int, line: str, marks: int) -> Iterator[Edit]:
    """What becomes of one line that starts at ``start``; ``marks`` make it an item."""
    if not line:
        return
    if _RULER.match(line) and not _NOTHING_BUT_DOTS.match(line):
        yield start, end, "\n"
    elif _DEFINITION.match(line):
        yield start, end, ""
    elif _ROW.match(line):
        cells = [cell for cell in _CELLS.split(line.strip().strip("|")) if cell.strip()]
        yield start, end, ", ".join(cell.strip() for cell in cells) + "."
    elif marks:
        yield start, start + marks, ""
    else:
        yield from _titled(start, end, line)


def _titled(start: int, end: int, line: str) -> Iterator[Edit]:
    quoted = _QUOTED.match(line)
    begin = quoted.end() if quoted else 0
    first = _HEADING.match(line, begin) or _FOOTNOTE.match(line, begin)
    if first and line[begin:].lstrip().startswith("#"):
        yield start, start + first.end(), "\n"
        closing = _HEADING_END.search(line, first.end())
        yield start + (closing.start() if closing else len(line)), end, "\n"
    elif first or quoted:
        yield start, start + (first.end() if first else begin), ""


_TARGET = r"\((?:[^()\s]|\([^()\s]{0,200}\)){0,1000}+(?:\s+[\"'][^\"'\n]{0,200}[\"'])?\)"
_IMAGE = re.compile(rf"!\[([^\[\]\n]{{0,300}}+)\]{_TARGET}")
_BB = "b|i|u|s|url|img|quote|code|color|size|center|spoiler|list"
_INLINE = re.compile(
    r"(?=[`\\\[<$=|*_~:])(?:"
    r"(?P<ticks>`{1,3})(?!`) ?(?P<code>[^`\n]{1,300}?) ?(?P=ticks)(?!`)"
    r"|(?P<tick>`+)"
    r"|\\(?P<escaped>[\\`*_{}\[\]()#+.!|~>-])"
    r"|(?:(?<=[.,;!?\"”)。，])|(?<=[a-z]{3}))(?:\[\d{1,3}\]){1,9}"
    rf"|\[(?P<link>(?:[^\[\]\n]|\n(?!\s*\n)){{1,300}}+)\](?:{_TARGET}|\[[^\[\]\n]{{0,100}}\])"
    r"|\[\[(?:[^\[\]|\n]{1,200}\|)?(?P<wiki>[^\[\]|\n]{1,200})\]\]"
    r"|\[\^[^\[\]\s]{1,30}\]"
    r"|<(?P<address>(?:https?://|mailto:)[^\s<>]{1,1000}|[\w.+-]{1,64}@[\w.-]{1,200})>"
    rf"|(?:\[/|(?<!\w)\[)(?:{_BB})(?:=[^\[\]\n]{{0,200}})?\]"
    r"|\${1,2}(?=[^\s$])(?P<math>[^$\n]{1,200})(?<=[^\s$])\${1,2}(?!\d)"
    r"|(?<![^\n])\$ (?=[a-z])"
    r"|==(?=\S)(?P<marked>[^=\n]{1,200})(?<=\S)=="
    r"|\|\|(?=\S)(?P<spoiler>[^|\n]{1,200})(?<=\S)\|\|"
    r"|(?P<stars>\*+)"
    r"|(?:(?<![^\W_])_{1,3}(?=[^\s_])|(?<=[^\s_])_{1,3}(?![^\W_]))"
    r"|~~"
    r"|(?<![\w:]):[a-z][a-z0-9_+-]{1,30}:(?![\w:])"
    r")"
)
_FORMULA = re.compile(r"[\\^_={]|^[A-Za-z]$")
_KEPT = ("code", "escaped", "link", "wiki", "address", "marked", "spoiler")


def _inline(match: re.Match[str]) -> str | None:
    if match["stars"]:
        return _stars(match)
    if match["math"]:
        return match["math"] if _FORMULA.search(match["math"]) else None
    kept = next((match[name] for name in _KEPT if match[name] is not None), "")
    return kept.removeprefix("mailto:").replace("**", "") if match["address"] or match["link"] else kept


def _stars(match: re.Match[str]) -> str | None:
    """Nothing for emphasis; an asterisk between two factors stays."""
    before, after = (
        match.string[max(match.start() - 2, 0) : match.start()],
        match.string[match.end() : match.end() + 2],
    )
    if before[-1:].isspace() and after[:1].isspace():
        return None
    factors = (before[-1:].isdigit() or before[-1:] == ")") and (after[:1].isalnum() or after[:1] == "(")
    factors = factors or (after[:1].isdigit() and before[-1:].isalnum())
    letters = before.strip().isalpha() and after.strip().isalpha() and len((before + after).strip()) == 2
    return None if len(match[0]) == 1 and (factors or letters) else ""
