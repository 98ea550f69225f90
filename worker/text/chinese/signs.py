"""Signs with a meaning: scores, ratios, ranges, arithmetic, minus."""

from worker.text.chinese.characters import HAN
from worker.text.chinese.numerals import cardinal, decimal, digits
from worker.text.rules import Match, rules

_N = r"\d{1,16}(?:\.\d{1,16})?"
_WON = (
    "战胜|戰勝|击败|擊敗|领先|領先|获胜|取胜|大胜|险胜|战平|落后|逆转|淘汰|不敌|负于|告负|力克|横扫|完胜|惜败|的?大?比分"
    "|胜|输|赢"
)
_MODELS = "歼轰直运苏舟娥征宫问旗浪鲨轻教"


def _score(match: Match) -> str:
    return f"{match[1]}{cardinal(match[2])}比{cardinal(match[3])}"


def _range(match: Match) -> str:
    """From less to more; the other way round it is a score, or the number of a door."""
    low, high = match.groups()
    return f"{low}到" if float(low) < float(high) else f"{low}比" if len(low + high) <= 4 else f"{low}杠"


def _power(match: Match) -> str:
    number, sign, power = match.groups()
    words = (
        "平方"
        if power == "2" and not sign
        else f"{'负' if sign else ''}{decimal(power) if power.isdigit() else power}次方"
    )
    return f"{number}的{words}" if number.isdigit() or words[-2:] != "平方" else number + words


SCORES = rules(
    (
        (r"((?:比分|战成|打成|总分)[^\d，。！？\n]{0,6})(\d{1,3})[:：∶\-–](\d{1,3})(?!\d)", _score),
        (rf"(?<!\d[:：-])(?<![\d.])()(\d{{1,3}})[:：∶\-–](\d{{1,3}})(?= ?(?:{_WON}))", _score),
    )
)
SIGNS = rules(
    (
        # Arithmetic
        (r"(?<=[A-Za-z])\+\+", "加加"),
        (r"(?<=(?<![A-Za-z])[CF])#", "井"),
        (
            r"(?<![A-Za-z\d.])(\d{1,3}(?:\.\d{1,9})?)[eE]([-+]?)(\d{1,3})(?![A-Za-z\d])",
            lambda m: f"{m[1]}乘十的{'负' if m[2] == '-' else ''}{decimal(m[3])}次方",
        ),
        (rf"(?<=\d) ?[-–] ?(?={_N} ?=)", "减"),
        (r"(?<![A-Za-z][a-z])(?<=[a-z]) ?[-–] ?(?=\d{1,6}[a-z]?(?:[ )）]?[-+=<>，。]|$))", "减"),
        (r"(?<![A-Za-z])([a-z]) ?- ?(?=[a-z](?![A-Za-z]))", r"\1减"),
        (rf"({_N}|[A-Za-z])\^(-?)(\d{{1,4}}|[a-z](?![A-Za-z]))", _power),
        (r"(?<=方) ?[-–] ?(?=[\da-z])", "减"),
        (r"(?<=[\dA-Za-z)）米分寸]) ?[×*] ?(?=[\d(（])|(?<=\d) ?[xX] ?(?=\d)| ?× ?", "乘"),
        (r"(?<=[\dA-Za-z]) ?÷ ?(?=\d)", "除以"),
        (r"(?<=[\dA-Za-z方根)）]) ?\+ ?(?=[\dA-Za-z(（√])", "加"),
        (r"(?<=[\d万千亿岁]) ?\+(?!\d)", "加"),
        (r"(?<![\dA-Za-z])\+(?=\d)", "加"),
        (r" ?(?:==|=) ?", "等于"),
        (r" ?(?:>=|≥) ?", "大于等于"),
        (r" ?(?:<=|≤) ?", "小于等于"),
        (r" ?(?:!=|≠) ?", "不等于"),
        (r" ?≈ ?", "约等于"),
        (r" ?± ?", "正负"),
        (r" ?√ ?", "根号"),
        (rf"(?<=[\dA-Za-z{HAN}]) ?< ?(?=[-\dA-Za-z百千负零])", "小于"),
        (rf"(?<=[\dA-Za-z{HAN}]) ?> ?(?=[-\dA-Za-z百千负零])", "大于"),
        (r"(?<![<>\d])([<>])(?= ?[\d百千负零])", lambda m: "小于" if m[1] == "<" else "大于"),
        # Ratios and ranges
        (r"(?<=\d) ?[:：∶] ?(?=\d)", "比"),
        (r"(?<=周[一二三四五六日1-7])-(?=周)|(?<=[月日号年天])[-–—~～](?=\d|周)", "到"),
        (r"(?<=\d) ?[—~～] ?(?=-?\d|零[上下])", "到"),
        (rf"([下负]{_N}) ?[-–] ?(?=\d)", r"\1到"),
        (r"(?<=[A-Za-z])(\d{1,2}\.\d{1,2})-(?=\d)", r"\1 "),
        (r"(?<=[A-Za-z])(\d{1,2})-(\d{3,6})", lambda m: digits(m[1] + m[2])),
        (r"(?<![\d.-])(\d{1,9}(?:\.\d{1,4})?) ?[-–] ?(?=(\d{1,9}(?:\.\d{1,4})?)(?![\d-]))", _range),
        (
            rf"(\d[{HAN}]{{1,2}}(?<![到至于])) ?[-–—] ?(?=\d)|(\d[{HAN}]{{1,6}}) ?[~～] ?(?=\d|零[上下])",
            lambda m: f"{m[1] or m[2]}到",
        ),
        (r"(?<=\d) ?[-–] ?(?=\d)", "杠"),
        # Minus
        (rf"(?<=[{_MODELS}风])-(?=\d)|(?<=[A-Za-z])-(?=\d)", ""),
        (r"(?<![\dA-Za-z])[-–](?=\d)(?=\d{1,3}(?:\.\d)?度)", "零下"),
        (r"(?<![\dA-Za-z])[-–] ?(?=\d)", "负"),
    )
)
