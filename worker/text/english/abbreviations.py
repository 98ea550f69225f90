"""Abbreviations: titles, days, months, states, streets, firms, academic and everyday ones, initials.

Where one ends a sentence its full stop stays; else it goes.
"""

import re
from collections.abc import Mapping

from worker.text.english.numerals import MONTHS, pairs
from worker.text.english.patterns import BEGIN, END, after, alternatives, before, last_stop, stop
from worker.text.rules import Match, rules

_TITLES: Mapping[str, str] = {
    "Adm": "Admiral",
    "Amb": "Ambassador",
    "Assoc": "Associate",
    "Asst": "Assistant",
    "Atty": "Attorney",
    "Capt": "Captain",
    "Cmdr": "Commander",
    "Col": "Colonel",
    "Cpl": "Corporal",
    "Det": "Detective",
    "Fr": "Father",
    "Ft": "Fort",
    "Gen": "General",
    "Gov": "Governor",
    "Hon": "Honorable",
    "Insp": "Inspector",
    "Lt": "Lieutenant",
    "Maj": "Major",
    "Msgr": "Monsignor",
    "Mt": "Mount",
    "Mts": "Mountains",
    "Pfc": "Private First Class",
    "Pres": "President",
    "Pvt": "Private",
    "Rep": "Representative",
    "Reps": "Representatives",
    "Rev": "Reverend",
    "Sen": "Senator",
    "Sens": "Senators",
    "Sgt": "Sergeant",
    "Sr": "Sister",
    "Supt": "Superintendent",
}
_RANKS = "Capt|Cmdr|Cpl|Gov|Lt|Pvt|Sgt|Sen|Gen|Rev|Maj|Hwy"
"""Titles that are nothing else, and stand alone, too."""

_ANYWHERE: Mapping[str, str] = {
    "dr": "Doctor",
    "mr": "Mister",
    "mrs": "Missus",
    "messrs": "Messieurs",
    "prof": "Professor",
    "profs": "Professors",
    "jr": "Junior",
    "sr": "Senior",
    "vs": "versus",
    "approx": "approximately",
    "inc": "Incorporated",
    "ltd": "Limited",
    "corp": "Corporation",
    "dept": "department",
    "govt": "government",
    "gov't": "government",
    "nat'l": "national",
    "int'l": "international",
    "ass'n": "association",
    "sept": "September",
    "oct": "October",
    "nov": "November",
    "feb": "February",
}
"""With or without a full stop, in capitals or not."""

_STOPPED: Mapping[str, str] = {
    "anon": "anonymous",
    "assn": "association",
    "attn": "attention",
    "avg": "average",
    "ca": "circa",
    "cf": "compare",
    "cont": "continued",
    "ed": "edition",
    "eds": "editors",
    "esp": "especially",
    "excl": "excluding",
    "hwy": "highway",
    "incl": "including",
    "intl": "international",
    "max": "maximum",
    "min": "minimum",
    "misc": "miscellaneous",
    "natl": "national",
    "orig": "originally",
    "tel": "telephone",
    "temp": "temperature",
    "univ": "university",
    "viz": "namely",
    "bros": "brothers",
    "tbsp": "tablespoons",
    "tsp": "teaspoons",
    "lbs": "pounds",
    "oz": "ounces",
    "hrs": "hours",
    "yrs": "years",
    "mins": "minutes",
    "secs": "seconds",
    "ph": "phone",
}
"""Only with a full stop."""

_CAPITALIZED: Mapping[str, str] = {
    "Ms": "Miz",
    "Ave": "Avenue",
    "Blvd": "Boulevard",
    "Rd": "Road",
    "Hwy": "Highway",
    "Pkwy": "Parkway",
    "Dec": "December",
    "Aug": "August",
    "Apr": "April",
    "Tue": "Tuesday",
    "Tues": "Tuesday",
    "Thu": "Thursday",
    "Thur": "Thursday",
    "Thurs": "Thursday",
    "Fri": "Friday",
    "PhD": "P H D",
}
_EXACT = {**{word.upper(): name for word, name in _CAPITALIZED.items()}, **_CAPITALIZED, "Ms": "Miz"}
_DAYS = {day[:3]: day for day in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")}
_DATES = {**_DAYS, **{month[:3]: month for month in MONTHS}, "Weds": "Wednesday", "Sept": "September"}
_LANES: Mapping[str, str] = {
    "Ln": "Lane",
    "Ct": "Court",
    "Pl": "Place",
    "Sq": "Square",
    "Ter": "Terrace",
    "Cir": "Circle",
    "Fwy": "Freeway",
}
_PARTS: Mapping[str, str] = {
    "fig": "figure",
    "figs": "figures",
    "eq": "equation",
    "eqs": "equations",
    "pt": "part",
    "b": "born",
    "d": "died",
    "vol": "volume",
    "op": "opus",
    "pg": "page",
    "sect": "section",
    "ch": "chapter",
    "sec": "section",
    "p": "page",
    "pp": "pages",
    "art": "article",
    "ver": "version",
    "ext": "extension",
    "apt": "apartment",
    "ste": "suite",
    "est": "established",
    "no": "number",
    "nos": "numbers",
    "ca": "circa",
    "c": "circa",
    "tel": "telephone",
}
"""Before a number."""

_STATE_NAMES = """
    AL Alabama, AK Alaska, AZ Arizona, AR Arkansas, CA California, CO Colorado, CT Connecticut, DE Delaware,
    FL Florida, GA Georgia, HI Hawaii, ID Idaho, IL Illinois, IN Indiana, IA Iowa, KS Kansas, KY Kentucky, LA
    Louisiana, ME Maine, MD Maryland, MA Massachusetts, MI Michigan, MN Minnesota, MS Mississippi, MO
    Missouri, MT Montana, NE Nebraska, NV Nevada, NH New Hampshire, NJ New Jersey, NM New Mexico, NY New York,
    NC North Carolina, ND North Dakota, OH Ohio, OK Oklahoma, OR Oregon, PA Pennsylvania, RI Rhode Island, SC
    South Carolina, SD South Dakota, TN Tennessee, TX Texas, UT Utah, VT Vermont, VA Virginia, WA Washington,
    WV West Virginia, WI Wisconsin, WY Wyoming
"""
STATES = dict(state.strip().split(" ", 1) for state in _STATE_NAMES.split(","))
"""Of the United States, by their two letters."""

_SHORT_STATE_NAMES = """
    Ala Alabama, Ariz Arizona, Ark Arkansas, Calif California, Colo Colorado, Conn Connecticut, Del Delaware,
    Fla Florida, Ill Illinois, Ind Indiana, Kan Kansas, Mass Massachusetts, Md Maryland, Mich Michigan, Minn
    Minnesota, Miss Mississippi, Mo Missouri, Mont Montana, Neb Nebraska, Nev Nevada, Okla Oklahoma, Ore
    Oregon, Pa Pennsylvania, Penn Pennsylvania, Tenn Tennessee, Tex Texas, Va Virginia, Vt Vermont, Wash
    Washington, Wis Wisconsin, Wyo Wyoming
"""
_SHORT_STATES = dict(state.strip().split(" ", 1) for state in _SHORT_STATE_NAMES.split(","))
_INTERJECTIONS = "Yes|No|Well|Hey|Hi|So|Okay|Oh|And|But|Hello|Sure|Now|Or"
_COMPASS = {"N": "North", "S": "South", "E": "East", "W": "West"}
_STREETS = "St|Ave|Rd|Dr|Blvd|Ln|Ct|Pl|Street|Avenue|Road|Drive|Boulevard|Lane|Court|Way|Place"


def _street(match: Match) -> str:
    """ "Saint" before a name, unless a name comes before it as well; else "Street"."""
    saint = not _NAMED.search(before(match, 30)) and re.match(r" ?[A-Z]", after(match, 2))
    return "Saint " if saint else f"Street{stop(match)}"


_NAMED = re.compile(
    r"(?:\b(?!(?:The|In|On|At|To|From|By|And|But|When|While|If|As|For|Mount|Mt|Fort|Lake|Port|Cape|Point|Saint)\b)"
    r"[A-Z][\w']*[a-z]|\d(?:st|nd|rd|th)) ?$"
)


def _drive(match: Match) -> str:
    """ "Drive" behind the name of a street, where no name follows; else "Doctor"."""
    follows = re.match(r"\s+[A-Z][A-Za-z]", after(match, 20))
    street = _NAMED.search(before(match, 30)) and not follows
    return f"Drive{stop(match)}" if street else f"Doctor{last_stop(match)}"


def _lane(match: Match) -> str:
    return f"{match[1]} {_LANES[match[2]]}{stop(match)}"


def _titled(match: Match) -> str:
    return f"{_TITLES[match[1]]} "


def _rank(match: Match) -> str:
    return _TITLES.get(match[1], match[1]) + last_stop(match)


def _day_or_month(match: Match) -> str:
    """A day or a month by its first letters and a full stop."""
    return _DATES[match[1]] + stop(match)


def full_name(name: str) -> str:
    """A day or a month by its first letters."""
    return _DATES[name[:3]]


def _span_of_days(match: Match) -> str:
    return f"{full_name(match[1])} to {full_name(match[2])}{stop(match)}"


def _state(match: Match) -> str:
    return f"{match[1]}, {STATES[match[2]]}{',' if match[3] else ''}"


def _short_state(match: Match) -> str:
    return f"{match[1]}, {_SHORT_STATES[match[2]]}{stop(match)}"


def _part(match: Match) -> str:
    return f"{_PARTS[match[match.lastindex or 1].lower()]} "


def _word(match: Match) -> str:
    word = _STOPPED[match[1].lower()]
    return (word.capitalize() if match[1][0].isupper() else word) + last_stop(match)


def _initials(match: Match) -> str:
    if after(match, 2) == "'s":
        return f" {' '.join(match[0].replace('.', '').upper())}"
    ends = match[0].endswith(".") and _BEGINS_SENTENCE.match(after(match, 9))
    return f" {' '.join(match[0].replace('.', '').upper())}{'. ' if ends else last_stop(match)}"


_BEGINS_SENTENCE = re.compile(
    r" (?:The|They|He|She|It|We|I|You|This|That|There|But|And|In|On|At|When|If|As|For|So|After|Before|Then|Now|"
    r"What|Who|How|Why|My|Our|His|Her|Their|These|Those|A|An|No|Yes|Some|Many|Most|All|Here|Not|To|From|With)\b"
)


def _degree(match: Match) -> str:
    return f" {' '.join(match[0].replace('.', '').upper())}{stop(match)}"


def _house(match: Match) -> str:
    return f"{pairs(match[1])} "


_WEEK = "|".join(_DATES) + "|" + "|".join([*_DAYS.values(), *MONTHS, "Tues", "Thur", "Thurs"])

EARLY = rules(
    (
        (rf"(?i){BEGIN}e\. ?g{END}\.?", " for example ", "", ["e", "eg"]),
        (rf"(?i){BEGIN}i\. ?e{END}\.?", " that is ", "", ["i", "ie"]),
        (rf"{BEGIN}Ph\. ?D\.?'?s\b", " P H D's ", "", ["ph"]),
        (rf"{BEGIN}Ph\. ?D{END}\.?", lambda m: f" P H D{stop(m)}", "", ["ph"]),
        (rf"(?i){BEGIN}etc{END}\.?", lambda m: f"et cetera{stop(m)}", "", ["etc"]),
        (rf"{BEGIN}et al{END}\.?", lambda m: f"et al{stop(m)}", "", ["al"]),
        (rf"{BEGIN}[BM]\.? ?(?:Sc|Ed|Eng|Phil){END}\.?", _degree),
        (rf"(?i)\b({alternatives(_PARTS)})\. ?(?=\d)", _part, "0"),
        (r"\b([Ff]ig|[Ff]igs|[Vv]ol|pp) (?=\d)|\b(ca) (?=1\d{3}\b)", _part, "0"),
        (
            r"(?i)\b(vol|ch|pt|art|sec)\.[ .,:;]{0,9}(?=(?-i:[IVXL]{1,6}\b))",
            _part,
            "",
            ["vol", "ch", "pt", "art", "sec"],
        ),
        (rf"\b({_WEEK})\.? ?[-–] ?({_WEEK})\b\.?", _span_of_days, "-–"),
        (r"\bAD (?=\d{1,4}\b)", " A D ", "0", ["ad"]),
        (
            rf"(?=\d)(?<![\w.,-])(\d{{3,4}}) (?=(?:[NSEW]\.? )?(?:[A-Z][a-z]{{1,15}} ){{1,2}}(?:{_STREETS})\b)",
            _house,
            "0",
        ),
        (r"(?<=[\dy] )([NSEW])\.? (?=[A-Z][a-z])", lambda m: f"{_COMPASS[m[1]]} "),
    )
)
"""What stands before numbers, and what has a full stop inside."""

RULES = rules(
    (
        (rf"\b({'|'.join(_DATES)})\.(?! ?[A-Z][a-z]{{0,3}}\b [a-z])", _day_or_month, "", _DATES),
        (
            r"\b(Mon|Wed|Sat|Sun|Jan|Mar|Jun|Jul|Sep)(?=,? {1,3}\d|, {1,3}(?:[A-Z][a-z]{2}))",
            lambda m: _DATES[m[1]],
        ),
        (rf"(?<!\w)({alternatives(_TITLES)})\.? ?(?=[A-Z]\.)", _titled, "", _TITLES),
        (rf"(?<!\w)({alternatives(_TITLES)})\. ?(?=(?:Dr|Mr|Mrs|Ms|Prof)?\.? ?[A-Z])", _titled, "", _TITLES),
        (r"(?<!\w)(Mt|Ft|Sgt|Lt|Capt|Gov|Sen|Col|Rev) (?=[A-Z][a-z])", _titled, "", _TITLES),
        (rf"(?<!\w)({_RANKS})\.", _rank, "", _RANKS.split("|")),
        (rf"[Dd][rR](?<![A-Za-z]..){END}\.?", _drive, "", ["dr"]),
        (
            rf"(?i){BEGIN}({alternatives(_ANYWHERE)}){END}\.?",
            lambda m: _ANYWHERE[m[1].lower()] + last_stop(m),
            "",
            _ANYWHERE,
        ),
        (rf"{BEGIN}({alternatives(_EXACT)}){END}\.?", lambda m: _EXACT[m[1]] + last_stop(m), "", _EXACT),
        (rf"(?i)(?<![\w.])({alternatives(_STOPPED)})\.(?=\s*[a-z0-9,;:)(]|\s+[A-Z]|\s*$)", _word, "", _STOPPED),
        (rf"(\b[A-Z][a-z']{{1,20}}|\bthe) ({'|'.join(_LANES)})\b\.?", _lane, "", _LANES),
        (r"Co\.(?<=[A-Za-z&] ...)", lambda m: f"Company{stop(m)}", "", ["co"]),
        (r"(?<=[a-z.] )v\. (?=[A-Z])", "versus ", "", ["v"]),
        (rf"\b([DRI])-({'|'.join(_SHORT_STATES)})\.", lambda m: f"{m[1]}, {_SHORT_STATES[m[2]]}", "-"),
        (rf"{BEGIN}St{END}\.?", _street, "", ["st"]),
        (
            rf"\b(?!(?:{_INTERJECTIONS}),)([A-Z][a-z]{{2,20}}), ({'|'.join(STATES)})\b(?! [A-Z]{{2}})"
            r"( (?=\d{5}\b))?",
            _state,
        ),
        (rf"\b([A-Z][a-z]{{2,20}}), ({'|'.join(_SHORT_STATES)})\.", _short_state, "", _SHORT_STATES),
        (r"\b[Oo]k\b", "okay", "", ["ok"]),
        (rf"(?i){BEGIN}a\.?k\.?a{END}\.?", " A K A ", "", ["a", "aka"]),
        (rf"{BEGIN}(?:[A-Za-z]\.){{2,12}}(?:[A-Za-z](?![A-Za-z.]))?", _initials),
        (r"[A-Z]\. (?:(?<=[A-Z][a-z]{2} ...)(?=[A-Z][a-z])|(?<=[a-z]{3} [A-HJ-Z]..)(?=[A-Z]\. ))", _initials),
        (
            r"[A-HJ-Z]\. (?<![A-Z] ...)(?<![\w']...)(?=(?:[A-Z]\. ){0,3}[A-Z][a-z])(?<![a-z] ..)(?<![a-z] ...)",
            _initials,
        ),
        (r"(?<=\w)\.(?=[a-z])", " dot "),
    )
)
