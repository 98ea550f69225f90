"""Signs that carry meaning: minus, ranges, comparisons, powers, ratios, fractions, "or", and what has a name."""

import re
from collections.abc import Mapping

from worker.text.english.money import LONE_SIGNS
from worker.text.english.numerals import cardinal, date, fraction, pairs, read_number
from worker.text.english.patterns import NUMBER, SIGNS, START, after, before
from worker.text.rules import Match, rules

_EQUATION_AFTER = re.compile(r"[\d\s.,+*/x×÷^()-]{0,40}=")
_EQUATION_BEFORE = re.compile(r"=[\d\s.,+*/x×÷^()-]{0,40}$")


def _in_equation(match: Match) -> bool:
    return bool(_EQUATION_AFTER.match(after(match)) or _EQUATION_BEFORE.search(before(match)))


def _dash(match: Match) -> str:
    """Between two numbers: minus in an equation, else a range or a score."""
    return " minus " if _in_equation(match) else " to "


def _spaced_dash(match: Match) -> str:
    """``10 - 4`` is a difference, ``10 - 15 people`` a range."""
    if _in_equation(match):
        return f"{match[1]} minus "
    low, high = match[1], re.match(r"[\d.,]{1,12}", after(match, 12))
    rises = high is not None and _float(low) < _float(high[0])
    names = high is not None and re.match(r" ?[A-Za-z%$°]", after(match)[high.end() :])
    return f"{low} {'to' if rises and (names or '–' in match[0]) else 'minus'} "


def _float(number: str) -> float:
    plain = number.replace(",", "").strip(".")
    return float(plain) if re.fullmatch(r"\d{1,15}(?:\.\d{1,15})?", plain) else 0.0


def _power(match: Match) -> str:
    sign, exponent = match[1], match[2]
    if not sign and exponent in ("2", "3"):
        return " squared " if exponent == "2" else " cubed "
    minus = "minus " if sign else ""
    return f" to the power of {minus}{read_number(exponent) if exponent[0].isdigit() else exponent} "


def _scientific(match: Match) -> str:
    minus = "minus " if match[2] == "-" else ""
    return f" {read_number(match[1])} times ten to the power of {minus}{cardinal(str(int(match[3])))} "


def _mixed(match: Match) -> str:
    """A whole number and a fraction: "two and a half"."""
    part = fraction(match[2], match[3])
    return f" {cardinal(match[1])} and {'a' + part[3:] if match[2] == '1' else part} "


def _as_date(month: int, day: int) -> str | None:
    """A day of the year, of what is hardly a fraction: ``11/28``, ``12/3``, ``31/12``."""
    if 12 < month <= 31 and 10 <= day <= 12:
        return date(day, month)
    return date(month, day) if 20 < day <= 31 or (10 <= month <= 12 and day < 10) else None


_OUT_OF = re.compile(r"(?i)(?:rated?|rating|scored?|gave(?: it)?|gets?|got|is|:)(?: it)?(?: a| an)? ?$")


def _fraction(match: Match) -> str:
    """A part of something, or points out of as many as there are."""
    top, bottom = match[1], match[2]
    if top.isdigit() and (day := _as_date(int(top), int(bottom))) and not _in_equation(match):
        return f" {day} "
    rated = after(match, 9).startswith((" stars", " points")) or (
        bottom in ("5", "10", "100") and _OUT_OF.search(before(match, 12))
    )
    if (rated or (bottom in ("5", "10", "100") and top == bottom)) and float(top) <= float(bottom):
        return f" {read_number(top)} out of {cardinal(bottom)} "
    words = fraction(top, bottom) if "." not in top else " over "
    return f" {read_number(top)} over {bottom} " if " over " in words else f" {words} "


def _serial(match: Match) -> str:
    """Hyphens of names like "GPT-4", "X7-99B" and "B-52" are not read; "Q1-Q3" is a range."""
    first, _, last = match[0].partition("-")
    if re.fullmatch(r"([A-Z])\d{1,3}-\1\d{1,3}", match[0]):
        return f"{first} to {last}"
    if re.fullmatch(r"[A-Z]{1,3}-\d{3,4}", match[0]):
        return f"{first} {pairs(last)}"
    return match[0].replace("-", " ")


def _spaced(match: Match) -> str:
    return f" {match[1] or match[3]} {match[2] or match[4]} "


def _angles(match: Match) -> str:
    return f" {'less' if match[1] == '<' else 'greater'} than "


def _stars(match: Match) -> str:
    count = match[0].count("★")
    return f" {cardinal(str(count))} star{'' if count == 1 else 's'} "


_WORDS: Mapping[str, str] = {
    "&": "and",
    "@": "at",
    "#": "hash",
    "+": "plus",
    "=": "equals",
    "/": "slash",
    "%": "percent",
    "‰": "per mille",
    "°": "degrees",
    "¢": "cents",
    "μ": "mu",
    "Ω": "omega",
    "×": "times",
    "≤": "less than or equal to",
    "≥": "greater than or equal to",
    "≠": "not equal to",
    "≈": "about",
    "±": "plus or minus",
    "→": "to",
    "−": "minus",
}
"""What a sign that no other rule has read is called."""

_OR = {
    "he": "she",
    "she": "he",
    "his": "her",
    "her": "his",
    "him": "her",
    "yes": "no",
    "true": "false",
    "pass": "fail",
}
_OR |= {
    "himself": "herself",
    "mr": "mrs",
    "boy": "girl",
    "he's": "she's",
    "win": "lose",
    "s": "he",
}


def _or(match: Match) -> str:
    first, second = match[1].lower(), match[2].lower()
    if first == "s" and second == "he":
        return "she or he"
    if first == "either":
        return f"{match[1]} {match[2]}"
    return f"{match[1]} or {match[2]}" if _OR.get(first) == second or _OR.get(second) == first else match[0]


EARLY = rules(
    (
        (r"(?<![\d~])~ ?(?=[$£€]?\d)", " about ", "0 ~"),
        (r"(?<![\w.,/])24x7(?!\w)", " twenty-four seven ", "0"),
        (r"\bf/(?=\d)", "f ", "0 /"),
        (
            r"(?<=\b[Tt]ype )(AB|A|B|O)([+−-])(?!\w)|\b(AB|A|B|O)([+−-])(?= (?:blood|donor)\b)",
            lambda m: f"{' '.join(m[1] or m[3])} {'positive' if (m[2] or m[4]) == '+' else 'negative'} ",
            "+-−",
        ),
        (r"(?i)\b(grade:? (?:of )?[A-F])-(?!\w)", r"\1 minus ", "-"),
        (r"(?i)\band/or\b", "and or", "/"),
        (r"(?i)\bw/o(?:ut)?\b", "without ", "/"),
        (r"(?<!\w)&c\.?(?!\w)", "et cetera", "&"),
        (r"(?i)\bc/o\b", "care of ", "/"),
        (r"(?i)\bb/c\b", "because ", "/"),
        (r"(?i)\bw/ ?(?=[a-z ])", "with ", "/"),
        (r"\b([A-Za-z]{1,7})/([A-Za-z]{2,7})\b(?!/)", _or, "/"),
        (
            r"/(?:(?<=\b[A-Z].)(?=[A-Z]\b)|(?<=\b[A-Z]{2}.)(?=[A-Z]{2}\b)|(?<=\b[A-Z]{3}.)(?=[A-Z]{2,4}\b))",
            " ",
            "/",
        ),
        (r"(?<![\w.,/])24/7(?![\d/])", " twenty-four seven ", "0 /"),
        (r"(?<![\w.,/-])50[/-]50(?![\d/-])", " fifty-fifty ", "0 -/"),
        (r"(?<![\w.,/])9/11(?![\d/])", " nine eleven ", "0 /"),
        (r"(?<=\b[a-z])\(([a-z])\)", r" of \1 ", "( )"),
        (r"\) ?\* ?(?=[\w(])|(?<=\w) ?\* ?\(", lambda m: f" {m[0].strip('* ')} times ", ")*"),
        (r"\) ?/ ?(?=[\w(])", ") divided by ", ") /"),
        (r"\) ?[-–−] ?(?=[\d(])", ") minus ", ") -–−"),
        (r"\bT-(?=\d)", "T minus ", "0 -"),
        (r"(?<=[a-z]{2})\(s\)", "s", "( )"),
        (r"[★]{1,10}☆{0,10}", _stars, "★"),
        (r"[♥❤](?:(?<=\b[Ww]e .)|(?<=\bI .)|(?<=\bI.)|(?<=\b[Yy]ou .)|(?<=\b[Tt]hey .))", " love ", "♥❤"),
        (r"[♥❤]", " ", "♥❤"),
        (r"<([A-Za-z][A-Za-z _-]{0,30})>", r" \1 ", "< >"),
    )
)
"""What dates, brackets and abbreviations would take for something else."""

COMPARISONS = rules(
    (
        (r"&&", " and ", "&"),
        (r"(?<=\w) \|\| (?=\w)", " or ", "|"),
        (r"\$(?=[A-Za-z_{])", " dollar ", "$"),
        (r"<=>|<->|↔", " to ", "<↔"),
        (r"-{1,2}>|=>|[→⇒➔➜]", " to ", "=>→⇒➔➜"),
        (r"<=|=<|≤", " less than or equal to ", "<=≤"),
        (r">=|≥", " greater than or equal to ", ">≥"),
        (r"!=|=/=|≠", " not equal to ", "!=≠"),
        (r"={2,3}(?=[^=])", " equals ", "="),
        (r"≈|~=", " about ", "~≈"),
        (r"(?<=[A-Za-z0-9.)°%]) ?([<>]) ?(?=[$-]?[\d.])", _angles, "<>"),
        (r"(?<=[\d)°%]) ?([<>]) ?(?=[A-Za-z(])", _angles, "<>"),
        (r"(?<=\b[A-Za-z]) ?([<>]) ?(?=[A-Za-z]\b)", _angles, "<>"),
        (r"(?<![<>])<(?= ?[$€£-]?[\d.])", " less than ", "<"),
        (r"(?<![<>])>(?= ?[$€£-]?[\d.])", " more than ", ">"),
        (r"(?<=[A-Za-z]) > (?=[A-Z])", ", ", ">"),
        (r"(?<=[a-z]) ([<>]) (?=[a-z])", _angles, "<>"),
        (r"±", " plus or minus ", "±"),
        (rf"(?<![\w.%°)-])[-–](?={SIGNS}\.?\d)", " minus ", "0 -– $£¥฿₦₩₪₫€₱₴₹₺₽"),
    )
)
SERIALS = rules(
    (
        (
            r"\b(?=[A-Z0-9]{0,20}[A-Z])(?=[A-Z0-9]{0,20}\d{5})[A-Z0-9]{8,24}\b",
            lambda m: f" {' '.join(m[0])} ",
            "0",
        ),
        (r"#(?=\d{0,5}[A-Fa-f])([0-9A-Fa-f]{6})\b", lambda m: f" hash {' '.join(m[1])} ", "#"),
        (r"\b0x([0-9A-Fa-f]{1,16})\b", lambda m: f" zero x {' '.join(m[1])} ", "0"),
        (
            r"(?<![A-Za-z])([A-Z])([A-Z])(?=\d)|(?<=\d)(?!GB|MB|TB|KB|PB|MW|GW|AM|PM|BC|AD|CE)([A-Z])([A-Z])(?![A-Za-z])",
            _spaced,
            "0",
        ),
        (
            r"(?<![\w-])(?=[A-Z0-9-]{0,20}[A-Z])(?=[A-Z0-9-]{0,20}\d)[A-Z0-9]{1,12}(?:-[A-Z0-9]{1,12}){1,4}(?=s?\b)",
            _serial,
            "0 -",
        ),
    )
)
RANGES = rules(
    (
        (rf"{START}({NUMBER})[eE]([+-]?)(\d{{1,3}})(?![\w.])", _scientific, "0"),
        (r"(?<=\d) ?[x×·] ?(?=10\^)", " times ", "0 ^"),
        (r"\^\(?([−–-]?)(\d{1,6}(?:\.\d{1,6})?|[a-z])\)?(?![A-Za-z])", _power, "^"),
        (r"−", " minus ", "−"),
        (r"(?<=\d) ?~ ?(?=\d)", " to ", "0 ~"),
        (r"(\b[\d.,]{1,15}) +[-–] +(?=\d)", _spaced_dash, "0 -–"),
        (rf"(?<=[\d%°C]) ?[-–] ?(?={SIGNS}?\.?\d)", _dash, "0 -–"),
        (rf"(?<![\w.%°)-])[-–](?={SIGNS}?\.?\d)", " minus ", "0 -–"),
        (r"(?<=[\w)]) ?[-–](?=\d+ ?=)", " minus ", "0 = -–"),
        (r"-(?:(?<=[=+*/(<>].)|(?<=[=+*/(<>] .))(?=[a-z]\b)", " minus ", "- (*+/<=>"),
        (r" [-–] (?<=\b[a-z]...)(?=[a-z0-9]\b)|-(?<=\b[a-hj-z].)(?=\d\b)", " minus ", "-–"),
        (r"-(?:(?<=\b[A-F].)(?= (?:grade|in|on|for|student|average)\b)|(?<=\ba [A-F].)(?= ))", " minus ", "-"),
        (r"(?<![\w.,;)-])-(?=[a-cnxyz]\b)", " minus ", "-"),
        (r"(?<=\s)--(?=[a-z]{2})", " dash dash ", "-"),
        (r"(?<=[a-z] )-(?=[a-z]\b)", " dash ", "-"),
        (r"[-–](?<=[A-Za-z].)(?=\d)", " ", "0 -–"),
    )
)
_IN_SUM = re.compile(r"[=+−-] ?\d{1,9}$")
QUANTITIES = rules(
    (
        (r"(?<=\d) ?[x×] ?(?=\d+ ?=)", " times ", "0 ="),
        (r"(?<=\d)[x×](?=\d)|(?<=\d) x (?=\d)", " by ", "0"),
        (r"(?<=\d) × (?=\d)", " times ", "0 ×"),
        (r"(?<=\d)[x×](?![A-Za-z0-9])", lambda m: " x " if _IN_SUM.search(before(m, 12)) else " times ", "0"),
        (r"(?<=[a-z\"]) x (?=\d)", " by ", "0"),
        (r"(?=\d)(?<![\w.,/])(\d{1,4}) +(\d{1,2})/(\d{1,3})(?![\d/])", _mixed, "0 /"),
        (r"(?<=\d) / (?=\d)|(?<=\d\d)/(?=\d{1,9} ?=)", " divided by ", "/"),
        (r"(?=\d)(?<![\w.,/])(\d{1,4}(?:\.\d)?)/(\d{1,4})(?![\d/]|\.\d)", _fraction, "0 /"),
    )
)
NUMBERED = rules(
    (
        (r"(?<=\d) ?: ?(?=\d)", " to ", "0 :"),
        (
            r"(?<=[\w)]) ?\* ?(?=[\w(])",
            lambda m: " times " if m[0].strip() == "*" and _is_product(m) else " ",
            "*",
        ),
        (r"#(?=\d)", " number ", "0 #"),
        (r"~(?= ?\d)", " about ", "0 ~"),
        (r"(?<=[A-Za-z])\+(?=\+)", " plus ", "+"),
    )
)
_SINGLE_BEFORE, _SINGLE_AFTER = (
    re.compile(r"(?:^|[\W_])(?:[A-Za-z]|\d+)\)?$"),
    re.compile(r"\(?(?:[A-Za-z]|\d+)(?![A-Za-z])"),
)


def _is_product(match: Match) -> bool:
    """Whether both sides are numbers or single letters; else the asterisk hides a letter, or is a mark."""
    return bool(_SINGLE_BEFORE.search(before(match, 18)) and _SINGLE_AFTER.match(after(match, 18)))


LATE = rules(
    (
        (r"(?<=(?<![A-Za-z])[A-G])#", " sharp ", "#"),
        (r"(?<=\b[A-G])♯", " sharp ", "♯"),
        (r"(?<=\b[A-G])♭", " flat ", "♭"),
        *((re.escape(sign), f" {many} ") for sign, many in LONE_SIGNS.items()),
        *((re.escape(mark), f" {words} ") for mark, words in _WORDS.items()),
        (r" [-–]+ |--+", ", ", "-–"),
        (r"–", "-", "–"),
        (r"[^A-Za-z .,?!';:-]", " "),
    )
)
"""Names of what is left."""
