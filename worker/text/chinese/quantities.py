"""Money, percentages, fractions and units: written as Han after the number, which is read later."""

from collections.abc import Mapping
from decimal import Decimal

from worker.text.chinese.characters import HAN
from worker.text.chinese.numerals import cardinal, decimal, digits, fraction, percent
from worker.text.rules import Match, rules

_N = r"\d{1,16}(?:\.\d{1,16})?"
_DASH = r" ?[-–—~～到至] ?"
UNITS: Mapping[str, str] = {
    "km/h": "公里每小时",
    "kph": "公里每小时",
    "m/s^2": "米每二次方秒",
    "m/s2": "米每二次方秒",
    "mph": "英里每小时",
    "rpm": "转每分",
    "r/min": "转每分",
    "fps": "帧每秒",
    "kbps": "千比特每秒",
    "Kbps": "千比特每秒",
    "Mbps": "兆比特每秒",
    "Gbps": "吉比特每秒",
    "KB/s": "KB每秒",
    "MB/s": "兆每秒",
    "GB/s": "GB每秒",
    "km": "公里",
    "m": "米",
    "dm": "分米",
    "cm": "厘米",
    "mm": "毫米",
    "μm": "微米",
    "nm": "纳米",
    **{
        f"{unit}{two}": name
        for two in ("2", "^2")
        for unit, name in {"km": "平方公里", "m": "平方米", "cm": "平方厘米", "mm": "平方毫米"}.items()
    },
    **{
        f"{unit}{three}": name for three in ("3", "^3") for unit, name in {"m": "立方米", "cm": "立方厘米"}.items()
    },
    "ha": "公顷",
    "kg": "千克",
    "Kg": "千克",
    "KG": "千克",
    "g": "克",
    "mg": "毫克",
    "μg": "微克",
    "t": "吨",
    "L": "升",
    "l": "升",
    "dL": "分升",
    "ml": "毫升",
    "mL": "毫升",
    "ML": "毫升",
    "ms": "毫秒",
    "s": "秒",
    "sec": "秒",
    "min": "分钟",
    "mins": "分钟",
    "h": "小时",
    "hr": "小时",
    "hrs": "小时",
    "Hz": "赫兹",
    "kHz": "千赫兹",
    "KHz": "千赫兹",
    "MHz": "兆赫兹",
    "GHz": "吉赫兹",
    "W": "瓦",
    "kW": "千瓦",
    "KW": "千瓦",
    "MW": "兆瓦",
    "GW": "吉瓦",
    "kWh": "千瓦时",
    "V": "伏",
    "kV": "千伏",
    "mA": "毫安",
    "mAh": "毫安时",
    "mmHg": "毫米汞柱",
    "Pa": "帕",
    "hPa": "百帕",
    "kPa": "千帕",
    "MPa": "兆帕",
    "dB": "分贝",
    "kcal": "千卡",
    "cal": "卡",
    "kJ": "千焦",
    "mol": "摩尔",
    "mmol": "毫摩尔",
    "ft": "英尺",
    "lb": "磅",
    "lbs": "磅",
    "oz": "盎司",
    "px": "像素",
    "°C": "摄氏度",
    "°c": "摄氏度",
    "°F": "华氏度",
    "°": "度",
}
_UNIT = "|".join(sorted(map(str, (unit.replace("^", r"\^") for unit in UNITS)), key=len, reverse=True))
_CURRENCIES: Mapping[str, str] = {
    "US$": "美元",
    "HK$": "港元",
    "NT$": "新台币",
    "A$": "澳元",
    "C$": "加元",
    "S$": "新加坡元",
    "$": "美元",
    "¥": "元",
    "€": "欧元",
    "£": "英镑",
    "₩": "韩元",
    "₹": "卢比",
}
_CODES: Mapping[str, str] = {
    "USD": "美元",
    "CNY": "元",
    "RMB": "元",
    "HKD": "港元",
    "EUR": "欧元",
    "GBP": "英镑",
    "JPY": "日元",
}
_SIGN = "|".join(sorted((sign.replace("$", r"\$") for sign in _CURRENCIES), key=len, reverse=True))
_CODE = "|".join(_CODES)
_SCALE = r"(?:百万|千万|[百千万亿萬億]{1,2})"
_MAGNITUDES = {"k": 1000, "m": 10**6, "b": 10**9, "bn": 10**9, "million": 10**6, "billion": 10**9}
_WHOLES: Mapping[str, str] = {"%": "百", "‰": "千"}
_SIGN_WORDS: Mapping[str, str] = {"": "", "-": "负", "+": "正"}
_BELOW_ZERO = r"(?<![\d%])-"


def _money(match: Match) -> str:
    """The sign goes behind the number and its scale; a coin's zeros are not read."""
    sign, number, size, scale = match.groups()
    name = _CURRENCIES[sign] if sign in _CURRENCIES else _CODES[sign]
    number = _plain(Decimal(number)) if "." in number else number
    return f"{_plain(Decimal(number) * _MAGNITUDES[size.lower()]) if size else number}{scale or ''}{name}"


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _thousands(match: Match) -> str:
    """``5.5k`` as 5500."""
    return _plain(Decimal(match[1]) * 1000)


def _percent(match: Match) -> str:
    sign, number, mark = match.groups()
    return _SIGN_WORDS[sign or ""] + percent(number, _WHOLES[mark])


def _percents(match: Match) -> str:
    first, last, mark = match.groups()
    return f"{percent(first, _WHOLES[mark])}到{percent(last, _WHOLES[mark])}"


def _minutes_or_feet(match: Match) -> str:
    """Nobody is ten feet tall, and no foot has twelve inches."""
    first, second = match.groups()
    feet = int(first) < 8 and int(second) < 12
    return f"{first}{'英尺' if feet else '分'}{second}{'英寸' if feet else '秒'}"


def _mixed(match: Match) -> str:
    return f"{cardinal(match[1])}又{fraction(match[2], match[3])}"


QUANTITIES = rules(
    (
        (
            rf"({_SIGN}|(?<![A-Za-z])(?:{_CODE})) ?({_N})"
            rf"(?: ?(k|K|m|M|bn|b|B|million|billion)(?![A-Za-z]))?({_SCALE}?)(?: ?[元圆])?",
            _money,
        ),
        (rf"({_N})({_SCALE}?) ?({_CODE})(?![A-Za-z])", lambda m: f"{m[1]}{m[2]}{_CODES[m[3]]}"),
        (rf"({_N})[%‰]?{_DASH}({_N})([%‰])", _percents),
        (rf"((?<![\dA-Za-z%])[-+])?({_N}) ?([%‰])", _percent),
        (r"(\d{2,3})/(\d{2,3}) ?(?=mmHg)", r"\1、\2"),
        (r"(?<![\d./])(-?\d{1,2})/(?=-?\d{1,2} ?°)", r"\1~"),
        (r"(?<![\d./])24/7(?![\d/])", "二十四七"),
        (r"(?<![\d./])(\d{1,4}) (\d{1,3})/(\d{1,3})(?![\d/])", _mixed),
        (r"(?<![\d./]) ?(\d{1,4})/(\d{1,4})(?![\d/])", lambda m: fraction(m[1], m[2])),
        (r"(?<![\d.])(\d)(\d)(?=折)", lambda m: digits(m[0])),
        (r"(?<=\d[米块塊秒])(\d\d)(?![\d.米厘公分毫])", lambda m: digits(m[1])),
        # Signs of temperatures
        (r"\+(?=\d{1,3}(?:\.\d{1,3})? ?°)", "零上"),
        (rf"{_BELOW_ZERO}(?=\d{{1,3}}(?:\.\d{{1,3}})?(?:{_DASH}-?\d{{1,3}}(?:\.\d{{1,3}})?)? ?°)", "零下"),
        # Units
        (
            r"(?<=°)( ?\d{1,2}(?:\.\d{1,4})?) ?['′](?: ?(\d{1,2}(?:\.\d{1,4})?) ?[\"″])?",
            lambda m: f"{m[1]}分{m[2]}秒" if m[2] else f"{m[1]}分",
        ),
        (r"(?<![\d.])(\d{1,2}) ?['′] ?(\d{1,2}) ?[\"″]", _minutes_or_feet),
        (r"(?<=\d) ?h(?=\d{1,2} ?m)", "小时"),
        (r"(?<=\d) ?″|(?<=\d)\"(?=电视|屏|显示|液晶|轮|蛋糕|披萨)", "英寸"),
        (r"(?<![A-Za-z\d.])(?<![A-Za-z] )(\d{1,4}(?:\.\d{1,2})?)w(?![A-Za-z\d])(?!快充)", r"\1万"),
        (r"(?<![A-Za-z\d.])(?<![A-Za-z] )(\d{1,4}(?:\.\d{1,2})?)W(?=\+|人|粉)", r"\1万"),
        (
            r"(?<![A-Za-z\d.])(?<![A-Za-z] )(\d{1,4}(?:\.\d{1,2})?)k(?![A-Za-z\d])"
            r"(?! ?(?:视频|屏|画质|分辨率|高清|电视))",
            _thousands,
        ),
        (rf"(?<![A-Za-z])(?<![A-Za-z] )({_N}) ?({_UNIT})(?![A-Za-z\d°])(?!\^)", lambda m: m[1] + UNITS[m[2]]),
        (
            rf"(?<=[{HAN}])/(?:(kg|g|L|l|mL|dL|m\^3|m3|m\^2|m2|km|h|s|min)(?![A-Za-z\d])|(?=平方米))",
            lambda m: "每" + UNITS.get(m[1] or "", ""),
        ),
        (r"(?<=\d)/(?=[月天年日次人周斤个件位片晚桌])", "每"),
        (rf"({_N}[多余几]?[万亿]?[{HAN}]{{1,3}})/(?=[{HAN}])", r"\1每"),
        (r"(?<![\d.])(\d{3,4})(?=[pP](?![A-Za-z\d]))", lambda m: digits(m[1])),
        (rf"(?<=分之)({_N})", lambda m: decimal(m[1])),
    )
)
