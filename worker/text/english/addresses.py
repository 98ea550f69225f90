"""Addresses of the web and of mail, tags, mentions, and paths of files: their marks are read by name."""

import re
from collections.abc import Mapping

from worker.text.rules import Match, rules

_TLD = "com|org|net|edu|gov|io|dev|ai|info|uk|de|fr|eu|us|ca|app|co|me|tv|cn|jp|au|nl|ch|it|es|se|xyz"
_DOMAIN = rf"(?:[a-z0-9-]{{1,63}}\.){{1,8}}(?:{_TLD})\b(?!\.\w)"
_NAMES: Mapping[str, str] = {
    ".": " dot ",
    "/": " slash ",
    "@": " at ",
    "-": " dash ",
    "_": " underscore ",
    ":": " colon ",
    "?": " question mark ",
    "=": " equals ",
    "&": " and ",
    "#": " hash ",
    "%": " percent ",
    "+": " plus ",
    "~": " tilde ",
    "\\": " backslash ",
}
_SCHEME = re.compile(r"^(?:https?|ftp|mailto)://", re.IGNORECASE)
_WWW = re.compile(r"^www\b", re.IGNORECASE)
_COUNTRY = re.compile(r"(?<=\.)[a-z]{2}(?=/|$)")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def _address(match: Match) -> str:
    """An address with its marks as words; "https" and a final slash are not read."""
    address = _WWW.sub("WWW", _SCHEME.sub("", match[0]).rstrip("/"))
    address = _COUNTRY.sub(lambda country: country[0].upper(), address)
    return " " + "".join(_NAMES.get(char, char if char.isalnum() else " ") for char in address) + " "


def _path(match: Match) -> str:
    return " " + "".join(_NAMES.get(char, char) for char in match[0].rstrip("/")) + " "


def _tag(match: Match) -> str:
    """A tag of people who talk: the words that it is made of."""
    return f" hashtag {_HUMP.sub(' ', match[1].replace('_', ' '))} "


RULES = rules(
    (
        (r"(?i)\b(?:https?|ftp)://[^\s\"<>]{0,2000}[\w/]", _address, ": /"),
        (r"(?i)(?<![\w.+-])[\w.+-]{1,64}@(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}\b", _address, "@"),
        (rf"(?i)(?<![\w.-]){_DOMAIN}(?:/[^\s\"<>]{{0,2000}}[\w/])?", _address),
        (r"(?<![\w\\])[A-Za-z]:\\[\w\\.-]{0,400}", _path, ": \\"),
        (r"(?<![\w/.])(?:(?:~|\.{1,2})(?:/[\w.-]{1,100}){1,40}|(?:/[\w.-]{1,100}){2,40})/?", _path, "/"),
        (r"(?<![\w&#])#(?![0-9a-fA-F]{6}\b|[A-Z]{1,5}\d)([A-Za-z]\w{1,60})\b", _tag, "#"),
        (r"_", " ", "_"),
    )
)
