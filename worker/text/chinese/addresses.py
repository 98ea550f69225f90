"""Addresses of pages, mail and files, their marks as Chinese words."""

import re
from collections.abc import Mapping

from worker.text.chinese.characters import HAN
from worker.text.chinese.numerals import digits
from worker.text.rules import Match, rules

_TLD = "com|org|net|edu|gov|io|dev|ai|cn|tv|cc|me|app|info|uk|de|fr|eu|us|jp|hk|tw"
_FILE = (
    "json|ya?ml|txt|pdf|docx?|xlsx?|pptx?|py|js|ts|html?|css|csv|md|zip|rar|exe|apk|mp[34]|wav|jpe?g|png|gif|log"
    "|sh|ini"
)
_DOMAIN = rf"(?:[a-z0-9-]{{1,63}}\.){{1,8}}(?:{_TLD})(?![a-z])"
_PATH = r"(?::\d{1,5})?(?:[/?#][\w/.~%&=?#+:@-]{0,2000})?(?<![.,:?])"
ADDRESS = re.compile(
    r"(?ai)(?:https?|ftp)://[\w/.~%&=?#+:@-]{1,2000}(?<![.,:?])"
    r"|(?<![\w.+-])[\w.+-]{1,64}@(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}(?![a-z])"
    rf"|(?<![\w.-]){_DOMAIN}{_PATH}|(?<![\w.-])[a-z][\w-]{{0,63}}\.(?:{_FILE})(?![a-z])"
)
"""Matches an address."""

_MARKS: Mapping[str, str] = {
    ".": "点",
    "/": "斜杠",
    "@": "艾特",
    "-": "杠",
    "_": "下划线",
    ":": "冒号",
    "?": "问号",
    "=": "等于",
    "&": "和",
    "#": "井号",
    "%": "百分号",
    "+": "加",
    "~": "波浪线",
}


def _spelt(match: Match) -> str:
    """The address with its marks as words; "https" and a final slash are not read."""
    address = re.sub(r"^(?:https?|ftp)://", "", match[0], flags=re.IGNORECASE).rstrip("/")
    return "".join(digits(char) if char.isdecimal() else _MARKS.get(char, char) for char in address)


ADDRESSES = rules(
    (
        (ADDRESS.pattern, lambda m: f" {_spelt(m)} "),
        # The figures of all numbers
        (rf"(?<=[{HAN}]) +(?=\d)|(?<=\d) +(?=[{HAN}])", ""),
        (r"(?<![\d.,])\d{1,3}(?:,\d{3}){1,6}(?![\d,])", lambda m: m[0].replace(",", "")),
    )
)
