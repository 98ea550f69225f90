"""Markup of every kind, in any language: from Markdown, HTML, SSML and emoji to the text that a reader sees.

What stands between blocks (headings, paragraphs, rulers) becomes a blank line, items and rows
lines of their own, and ``<break>`` the pause that ``worker.text.parts`` knows. No pattern looks further than a
bounded number of characters, so that the time is linear in the text.
"""

import re
from html import unescape

from worker.text.edits import Edited
from worker.text.markdown import without_markdown
from worker.text.tags import tags

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_MARKED = re.compile(r"[<>&*_`$#~=|\[\]\\+:;^-]|[^\x00-\u2010]|\n|[xX]D")
"""What any markup is made of."""


def without_markup(text: str) -> tuple[Edited, str]:
    """The text that a reader sees, and the emoji that were left out, each once."""
    plain = Edited(text)
    if _MARKED.search(text) is None:
        return plain, ""
    plain = plain.sub(_EMOTICON, _emoticon)
    plain = plain.edited(tags(plain.text))
    plain = without_markdown(plain)
    plain = plain.sub(_ENTITY, lambda match: unescape(match[0]))
    emoji = dict.fromkeys(char for found in _EMOJI.findall(plain.text) for char in found if char not in _UNSEEN)
    return plain.sub(_EMOJI, " "), "".join(emoji)


# Emoticons and emoji

_HEART = r"(?:(?<=\bI)|(?<![^<]\d )(?<!^\d )(?<!\b[a-hj-z] )(?<![\w<]))(?:<|&lt;)3(?![\d=]|[.,]\d)"
_FACE = r"[*^°><◕╥•≧≦▽⌒~╯╰︶ಠლノヽ¬・´`;=@-]"
_EMOTICON = re.compile(
    r"(?=[<&¯╯ノヽლ\\(:;=>xX^oO0ಠTuU-])(?:"
    rf"(?P<heart>{_HEART})"
    r"|¯\\{0,3}_{0,2}\([^()\n]{1,3}\)_{0,2}/¯"
    rf"|[╯ノヽლ\\]?\({_FACE}(?:[^()\nA-Za-z0-9]{{0,8}}{_FACE})?\)[╯ノﾉ]?(?:[︵彡 ]{{0,3}}[┻┬━─]{{2,6}})?"
    r"|(?<!\S)(?:[:;=][-'^]?[()DPpOo3|*$]{1,4}|>?:'?-?[()/\\]{1,4}|[xX]D+|\^[_.]{0,3}\^|>[_.]{1,3}<|-_{1,3}-"
    r"|[oO0ಠ]_{1,3}[oO0ಠ]|T_T|[uU]w[uU]|</3|<\\3|[(]:|\\[oO]/)(?=[\s.,!?]|$)"
    r"|(?<=[a-z!?]):-?[()]{1,4}(?=\s|$)"
    r")"
)
_UNSEEN = frozenset("\u200d\ufe0f\u20e3 ")
_EMOJI = re.compile(
    "(?:[\U0001f000-\U0001f0ff\U0001f1e6-\U0001f64f\U0001f680-\U0001f6ff\U0001f7e0-\U0001f7ff\U0001f900-\U0001faff"
    "\u2600-\u2664\u2666-\u27bf\u2b05-\u2b55\u231a\u231b\u23e9-\u23fa\u200d\ufe0f\u20e3]"
    "(?<![\u2669-\u266f\u2713\u2714\u2605\u2606\u2764])){1,20}"
)
"""Pictures; signs that may carry a meaning (notes, ticks, stars, black hearts) are left to a language's rules."""


def _emoticon(match: re.Match[str]) -> str:
    """A heart may be a verb ("I <3 you")."""
    return "♥" if match["heart"] else " "
