"""Money: signs and codes of currencies, hundredths, words of scale, and what it is paid per."""

from collections.abc import Mapping

from worker.text.english.numerals import cardinal, decimal
from worker.text.english.patterns import NUMBER, SIGNS, START, after, alternatives, before
from worker.text.english.units import PER, PER_NAMES
from worker.text.rules import Match, rules

Coin = tuple[str, str, str, str]
"""One and many of the coin and of its hundredth; a coin without hundredths has empty names."""


def _dollar(of: str) -> Coin:
    return f"{of} dollar", f"{of} dollars", "cent", "cents"


_EURO: Coin = ("euro", "euros", "cent", "cents")
_POUND: Coin = ("pound", "pounds", "penny", "pence")
_YEN: Coin = ("yen", "yen", "", "")
_RUPEE: Coin = ("rupee", "rupees", "paisa", "paise")
_WON: Coin = ("won", "won", "", "")
_RUBLE: Coin = ("ruble", "rubles", "kopek", "kopeks")
_SIGNS: Mapping[str, Coin] = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": _POUND,
    "€": _EURO,
    "¥": _YEN,
    "₹": _RUPEE,
    "₩": _WON,
    "₽": _RUBLE,
    "₺": ("lira", "lira", "kurush", "kurush"),
    "₫": ("dong", "dong", "", ""),
    "₱": ("peso", "pesos", "centavo", "centavos"),
    "₪": ("shekel", "shekels", "", ""),
    "₦": ("naira", "naira", "kobo", "kobo"),
    "฿": ("baht", "baht", "", ""),
    "₴": ("hryvnia", "hryvnia", "", ""),
    "US$": _dollar("U S"),
    "C$": _dollar("Canadian"),
    "CA$": _dollar("Canadian"),
    "A$": _dollar("Australian"),
    "AU$": _dollar("Australian"),
    "NZ$": _dollar("New Zealand"),
    "HK$": _dollar("Hong Kong"),
    "S$": _dollar("Singapore"),
    "NT$": _dollar("Taiwan"),
    "R$": ("real", "reais", "centavo", "centavos"),
}
_CODES: Mapping[str, Coin] = {
    "USD": _dollar("U S"),
    "CAD": _dollar("Canadian"),
    "AUD": _dollar("Australian"),
    "NZD": _dollar("New Zealand"),
    "HKD": _dollar("Hong Kong"),
    "SGD": _dollar("Singapore"),
    "EUR": _EURO,
    "GBP": _POUND,
    "JPY": _YEN,
    "INR": _RUPEE,
    "KRW": _WON,
    "RUB": _RUBLE,
    "CNY": ("yuan", "yuan", "", ""),
    "RMB": ("yuan", "yuan", "", ""),
    "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"),
    "SEK": ("Swedish krona", "Swedish kronor", "", ""),
    "NOK": ("Norwegian krone", "Norwegian kroner", "", ""),
    "DKK": ("Danish krone", "Danish kroner", "", ""),
    "PLN": ("zloty", "zloty", "", ""),
    "MXN": ("Mexican peso", "Mexican pesos", "centavo", "centavos"),
    "BRL": ("real", "reais", "centavo", "centavos"),
    "BTC": ("bitcoin", "bitcoin", "", ""),
    "ETH": ("ether", "ether", "", ""),
}
_COINS = {**_SIGNS, **_CODES}
LONE_SIGNS = {sign: many for sign, (_, many, _, _) in _SIGNS.items() if len(sign) == 1}
"""What a sign without an amount is called."""

_SCALES = {"k": "thousand", "m": "million", "mn": "million", "mm": "million", "bn": "billion", "b": "billion"}
_SCALES |= {"t": "trillion", "tn": "trillion"}
_SCALE = r"(?:[ -]?(thousand|million|billion|trillion)\b|\s?(k|K|mn|m|M|MM|bn|b|B|tn|T)(?![A-Za-z0-9]))?"
_SIGN = rf"(?<![A-Za-z])({alternatives(_SIGNS)}|(?:{alternatives(_CODES)})(?= ?\d))"
_CODE = rf"({alternatives([*_CODES, *LONE_SIGNS])})(?![A-Za-z0-9])"
_PER = rf"(?: ?/ ?({PER}|[a-z]{{3,15}})(?![A-Za-z0-9]))?"
_NOT_AN_ADJECTIVE = [
    "for",
    "in",
    "to",
    "of",
    "and",
    "or",
    "a",
    "an",
    "per",
    "each",
    "is",
    "was",
    "are",
    "were",
    "from",
    "by",
    "on",
    "at",
    "as",
    "with",
    "more",
    "less",
    "total",
    "i",
    "he",
    "she",
    "we",
    "you",
    "they",
    "it",
    "out",
    "off",
    "back",
    "than",
    "that",
    "which",
    "if",
    "when",
    "but",
    "so",
    "cash",
]


def money(sign: str, amount: str, scale: str | None = None) -> str:
    """``$25.99`` as "twenty-five dollars and ninety-nine cents", ``$3.5 million`` as "... million dollars"."""
    one, many, small, smalls = _COINS[sign]
    whole, _, part = amount.partition(".")
    if scale is not None:
        return f"{decimal(amount)} {scale} {many}"
    if part and (len(part) > 2 or not small):
        return f"{decimal(amount)} {many}"
    hundredths = str(int(part.ljust(2, "0") or 0))
    spoken = [] if hundredths != "0" and not whole.strip("0") else [_count(whole, one, many)]
    if hundredths != "0":
        spoken.append(_count(hundredths, small, smalls))
    return " and ".join(spoken)


def _count(number: str, one: str, many: str) -> str:
    return f"{cardinal(number)} {one if number == '1' else many}"


def _scale(word: str | None, letters: str | None) -> str | None:
    return word or (letters and _SCALES[letters.lower()])


def _amount(match: Match) -> str:
    sign, number, word, letters, per = match.groups()
    scale = _scale(word, letters)
    if per is None and "." not in number.rstrip("0") * (scale is None) and _is_adjective(match):
        return f" {' '.join(filter(None, (decimal(number), scale, _COINS[sign][0])))} "
    return f" {money(sign, number, scale)} {per_words(per)} "


def _is_adjective(match: Match) -> bool:
    """Whether it says what kind of thing follows: "a $20 bill"."""
    following = after(match, 20).split(" ", 2)
    noun = following[1] if len(following) > 1 and not following[0] else ""
    article = before(match, 6).lower().endswith((" a ", " an ", " the ")) or before(match, 6) in (
        "a ",
        "A ",
        "The ",
    )
    return article and noun[:1].islower() and noun.strip(".,;:!?") not in _NOT_AN_ADJECTIVE


def per_words(unit: str | None) -> str:
    """ "per month", or nothing."""
    return f"per {PER_NAMES.get(unit, unit)}" if unit else ""


def _range(match: Match) -> str:
    """ "ten to fifteen dollars" """
    sign, low, word, letters, high, other, others = match.groups()
    one, two = _scale(word, letters), _scale(other, others)
    return f" {' '.join(filter(None, (decimal(low), one, 'to', decimal(high), two, _COINS[sign][1])))} "


def _behind(match: Match) -> str:
    number, word, letters, sign, per = match.groups()
    return f" {money(sign, number, _scale(word, letters))} {per_words(per)} "


def _continental(match: Match) -> str:
    return match[1].replace(".", "").replace(" ", "") + "." + match[2]


_WHOLE = r"\d{1,3}(?:,\d{3}){1,5}|\d{1,15}"
RULES = rules(
    (
        (rf"{START}(\d{{1,3}}(?:[. ]\d{{3}}){{0,5}}),(\d\d)(?= ?(?:€|EUR\b))", _continental, "0"),
        (r"(?<=[€]) ?(\d{1,3}(?:\.\d{3}){1,5}),(\d\d)(?!\d)", _continental, "0 €"),
        (
            rf"{_SIGN} ?({_WHOLE}){_SCALE} ?[-–] ?(?:{alternatives(_SIGNS)})?({_WHOLE}){_SCALE}(?![\d.,]\d)",
            _range,
            "-–",
        ),
        (rf"(?<=[\dkKMmBbn]) ?[-–] ?(?={SIGNS}\d)", " to ", "0 -–"),
        (rf"{_SIGN} ?({NUMBER}){_SCALE}{_PER}", _amount),
        (rf"{START}({NUMBER}){_SCALE} ?{_CODE}{_PER}", _behind),
    )
)
