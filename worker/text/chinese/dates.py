"""Years, dates and times of day."""

from worker.text.chinese.counters import COUNTER
from worker.text.chinese.numerals import cardinal, digits
from worker.text.rules import Match, rules

_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DASH = r" ?[-–—~～] ?"
_YEAR = r"(?:1[5-9]|20)\d\d"
_OF_YEAR = "届|屆|级|級|款|版|赛季|賽季|学年|學年|财年|財年|年度|春|夏|秋|冬|奥运|世界杯|欧洲杯"
_CLOCK = r"(?:[01]?\d|2[0-4])[:：][0-5]\d"
_HALVES = {"a": "上午", "p": "下午"}
_WEEKDAY = "[（(]?(?:周|週|星期|礼拜|日|号|圣诞|元旦|国庆)"


def _day(match: Match) -> str:
    """A date in numbers, if there is such a day."""
    year, month, day = match.groups()
    if not 1 <= int(month) <= 12 or not 1 <= int(day) <= _DAYS[int(month) - 1]:
        return match[0]
    words = f"{_number(month)}月{_number(day)}日"
    return f"{digits(year)}年{words}" if year else words


def _month(match: Match) -> str:
    return f"{digits(match[1])}年{_number(match[2])}月" if 1 <= int(match[2]) <= 12 else match[0]


def _number(number: str) -> str:
    return cardinal(str(int(number)))


def _time(match: Match) -> str:
    hour, minute, second, half = match.groups()
    words = f"{_HALVES[half.lower()] if half else ''}{_hour(hour)}点"
    if minute != "00" or second:
        words += f"{_below_sixty(minute)}分"
    return words + (f"{_below_sixty(second)}秒" if second else "")


def _hour(hour: str) -> str:
    return "两" if int(hour) == 2 else _number(hour)


def _below_sixty(number: str) -> str:
    return digits(number) if number[0] == "0" and number != "00" else _number(number)


def _half_day(match: Match) -> str:
    return f"{_HALVES[match[2].lower()]}{_hour(match[1])}点"


DATES = rules(
    (
        # Dates in numbers
        (r"(?<![\d.-])(\d{4})-(\d\d?)-(\d\d?)(?![\d-])[T ]?", _day),
        (r"(?<![\d./])(\d{4})/(\d\d?)/(\d\d?)(?![\d/])", _day),
        (r"(?<![\d.])(\d{4})\.(\d\d?)\.(\d\d?)(?![\d.]\d)", _day),
        (rf"(?<![\d./-])({_YEAR})[-/](0[1-9]|1[0-2])(?![\d./-])", _month),
        (
            rf"(?<![\d.])({_YEAR})\.(1[0-2]|0?[1-9]){_DASH}({_YEAR})\.(1[0-2]|0?[1-9])(?![\d.])",
            lambda m: f"{digits(m[1])}年{_number(m[2])}月到{digits(m[3])}年{_number(m[4])}月",
        ),
        (rf"(?<![\d./])()(\d\d?)/(\d\d?)(?={_WEEKDAY})", _day),
        (
            rf"(?<![\d./])()(1[0-2]|0?[1-9])/(1[3-9]|2\d|3[01])(?![\d/.%层樓楼]|{COUNTER})(?=[\u4e00-\u9fff（(，。]|$)",
            _day,
        ),
        (
            r"(?<![\d.])(\d{1,2})\.(\d{1,2})(?=劳动节|妇女节|儿童节|青年节|国庆|黄金周|大促|消费者)",
            lambda m: digits(m[1] + m[2]) if m[1] != "10" else f"十{digits(m[2])}",
        ),
        (r"(?<!\d)(\d{1,2})[·•](\d{1,2})(?!\d)", lambda m: digits(m[1] + m[2])),
        (
            rf"(?<![\d.])(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d|\.\d|[多余]|{COUNTER})",
            lambda m: digits(m[0]),
        ),
        # Years
        (
            rf"(?<![\d.])({_YEAR})年?(?:{_DASH}|至|到)({_YEAR})(?=年|{_OF_YEAR})",
            lambda m: f"{digits(m[1])}到{digits(m[2])}",
        ),
        (
            rf"(?<![\d.])({_YEAR}){_DASH}({_YEAR})(?!\d|\.\d|{COUNTER})",
            lambda m: f"{digits(m[1])}到{digits(m[2])}",
        ),
        (
            rf"(?<![\d.])({_YEAR})[-–/](\d\d)(?={_OF_YEAR})",
            lambda m: f"{digits(m[1])}到{digits(m[2])}",
        ),
        (r"(?<![\d.])([12]\d{3})(?=年(?!前|的?历史|的?歷史|来|來|以来|多))", lambda m: _year(m[1])),
        (rf"(?<![\d.])({_YEAR})(?={_OF_YEAR})", lambda m: digits(m[1])),
        (
            r"(?<![\d.了过過满滿近约約共])(0\d|[6-9][1-9])(?=年(?!的?历史|前|后|後|来|來|以|多|级|級|代|间|間))",
            lambda m: digits(m[1]),
        ),
        (
            r"(?<!\d[:：])(?<![\d.])((?:[05-9][05]|10))(?=[后後](?!天|面|来|續|续|期)|、\d\d[后後])",
            lambda m: digits(m[1]),
        ),
        # Times of day
        (rf"(?<=[:：]\d\d){_DASH}(?={_CLOCK})", "到"),
        (
            r"(?<!\d[:：])(?<![\d.])([01]?\d|2[0-4])[:：]([0-5]\d)(?:[:：]([0-5]\d))?"
            r"(?: ?([AaPp])\.?[Mm](?![A-Za-z])\.?)?(?!\d|[:：.]\d)",
            _time,
        ),
        (r"(?<!\d:)(?<![\d.])(1[0-2]|0?[1-9]) ?([AaPp])\.?[Mm](?![A-Za-z])\.?", _half_day),
        (r"(?<=[日月年号])[-–—~～](?=[零一二三四五六七八九十])", "到"),
        (
            r"(?<!\d)(\d{1,2})分(0\d)(?=秒)",
            lambda m: f"{m[1]}分{digits(m[2])}",
        ),
    )
)


def _year(number: str) -> str:
    """Digit by digit, but round thousands are durations."""
    return "一千" if number == "1000" else digits(number)
