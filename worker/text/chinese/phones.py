"""Numbers that are names: telephones, documents, trains, rooms; read digit by digit."""

from worker.text.chinese.counters import COUNTER
from worker.text.chinese.numerals import digits, telephone
from worker.text.rules import Match, rules

_DOCUMENT = (
    "(?:订单|訂單|账|帳|卡|证|證|编|編|学|學|工|单|單|序|序列|流水|手机|手機|电话|電話|身份证|房|门牌|車牌|车牌|会议|會議|取件|取餐|批|会员|客户|档案|合同|座"
    "|微信|QQ群?)(?:号码|號碼|号|號)|QQ群?|号码|號碼|身份证|邮政编码|邮编|郵編|验证码|驗證碼|取件码|密码|密碼|口令|尾号|尾號|编码|代码|代碼|航班|车次|机号"
)
_CALL = r"拨打|拨|撥打|致电|致電|呼叫|热线|熱線|专线|电话|電話|手机|手機|传真|打(?=1[12]\d|1\d{4})"
_LINK = r"(?:号码|號碼|号|號)?[是为為：: ]{0,3}"


def _called(match: Match) -> str:
    return match[1] + telephone(match[2])


def _abroad(match: Match) -> str:
    return f"加{digits(match[1])}，{telephone(match[2])}"


PHONES = rules(
    (
        (
            r"(?<![\d.-])(?=(?:\d{1,9}-){2,6}\d)(?=[\d-]{0,60}\d{5})\d{1,9}(?:-\d{1,9}){2,6}(?![\d-])",
            lambda m: telephone(m[0]),
        ),
        (
            rf"((?:{_DOCUMENT})[是为為：: ]{{0,3}}[A-Za-z]{{0,4}})"
            r"(\d[\d-]{1,30}\d(?: \d{3,4}){0,5})(?![\d年月日点:：]|\.\d|分|到)",
            _called,
        ),
        (r"\+(\d{1,3})[ -]((?:\d{2,11}[ -]?){1,5}\d)(?!\d)", _abroad),
        (r"\+(86)(1[3-9]\d{9})(?!\d)", _abroad),
        (r"(?<![\d.])(?:86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![\d.]\d|\d)", lambda m: telephone(m[0])),
        (r"(?<![\d.])[(（]?0\d{1,3}[)）\- ]{1,2}\d{3,4}[ -]?\d{4}(?!\d)", lambda m: telephone(m[0])),
        (r"(?<![\d.])[48]00[ -]\d{3,4}[ -]\d{3,4}(?!\d)", lambda m: telephone(m[0])),
        (rf"((?:{_CALL}){_LINK})(\d{{3,5}}(?:[ -]?\d{{2,5}}){{0,4}})(?!\d|\.\d|{COUNTER})", _called),
        (rf"(?<![\d.])(?:12306|12315|10086|10010|955\d\d)(?!\d|\.\d|{COUNTER})", lambda m: telephone(m[0])),
        (r"(转|轉|分机|分機)(\d{3,5})(?=[。，,）)]|$)", _called),
        (r"(?<![A-Za-z\d])([GDCZTKYS])(\d{1,4})(?=次|列车|高铁|动车|号列车)", _called),
        (r"(?<=[\u4e00-\u9fff][A-Z])·?(\d[A-Z0-9]{3}\d)(?![\dA-Z])", lambda m: _plate(m[1])),
        (r"(?<![A-Za-z\d])([GDC])(\d{4})(?!\d)", _called),
        (r"(?<![\d.])(\d{3,4})(?=号?(?:室|房|教室|寝室|宿舍|包厢|包间|病房))", lambda m: telephone(m[1])),
        (r"(?<=单元)(\d{3,4})(?!\d)", lambda m: telephone(m[1])),
        (r"(?<![\d.])(\d{3})(?=路|医院|国道|省道|县道|高速|大[楼樓厦])", lambda m: digits(m[1])),
        (r"(?<![\d.])0\d{2,9}(?![\d.])", lambda m: digits(m[0])),
    )
)


def _plate(number: str) -> str:
    return "".join(telephone(char) if char.isdigit() else char for char in number)
