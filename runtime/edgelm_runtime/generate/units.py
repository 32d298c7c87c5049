"""Units of measure, counting words and currencies that may stand beside a number, in Chinese and English."""

from __future__ import annotations

import re

CURRENCIES = "¥$€£₩₹₽₺₫฿"

# Whole ones. What begins a longer one below is looked at again with its next character.
_CHINESE = (
    "元角块万亿千百折斤克吨米升寸尺码度瓦伏安年月天日岁周件个只双支瓶包片盒层位档倍级秒里亩匹磅粒枚根条张台套款种项页杯碗桶袋罐卷"
    "箱串组株颗滴次遍场顿餐口人名间座栋辆架艘艇头尾朵束捆块股"
)
_CHINESE_WORDS = """
英寸 英尺 英里 英镑 英亩 英石 毫米 毫升 毫克 毫安 毫瓦 毫秒 厘米 厘升 分米 分钟 分贝 微米 微升 微克 纳米 千克 千米
千瓦 千卡 千焦 公斤 公里 公分 公升 公顷 公尺 公吨 平方 平米 立方 小时 钟头 星期 季度 世纪 摄氏 华氏
美元 美金 美分 欧元 日元 日圆 韩元 韩币 港元 港币 台币 新币 人民币 卢布 法郎 澳元 加元
像素 马力 兆赫 兆瓦 兆帕 赫兹 流明 盎司 加仑 品脱 夸脱 大卡 卡路里 焦耳 帕斯卡 牛顿 欧姆 克拉 比特 字节 海里 光年
"""
UNITS_ZH = frozenset((*_CHINESE, *_CHINESE_WORDS.split(), "%", "‰", "°"))
UNIT_BEGINNINGS_ZH = frozenset(unit[:end] for unit in UNITS_ZH for end in range(1, len(unit) + 1))

_ENGLISH = """
inch inches in ft foot feet yd yard yards mile miles mi cm mm m km dm nm um micron microns meter meters metre metres
centimeter centimeters centimetre centimetres millimeter millimeters millimetre millimetres kilometer kilometers
kilometre kilometres
kg g mg mcg lb lbs oz gram grams kilo kilos kilogram kilograms milligram milligrams ton tons tonne tonnes ounce ounces
pound pounds stone carat carats karat karats ct gsm
ml cl dl l litre litres liter liters milliliter milliliters millilitre millilitres gallon gallons gal quart quarts pint
pints cup cups tbsp tsp tablespoon tablespoons teaspoon teaspoons cc
gb tb mb kb pb gib mib tib byte bytes gigabyte gigabytes terabyte terabytes megabyte megabytes kilobyte kilobytes bit
bits gbit mbit gbps mbps kbps
hz khz mhz ghz hertz w kw mw watt watts kilowatt kilowatts wh kwh v kv volt volts mv ma mah ah amp amps ampere amperes
ohm ohms lumen lumens lm lux nits nit db decibel decibels rpm dpi ppi fps btu psi bar kpa mpa hp horsepower newton
newtons nm joule joules
kcal cal calorie calories kj
hour hours hr hrs h minute minutes min mins second seconds sec secs s ms day days night nights week weeks month months
year years yr yrs decade decades
degree degrees celsius fahrenheit kelvin c f
mp megapixel megapixels pixel pixels px
dollar dollars usd cent cents euro euros eur gbp pence rmb cny yuan yen jpy won krw rupee rupees inr aud cad hkd
percent pct star stars pack packs piece pieces pcs pair pairs set sets count ply sheet sheets roll rolls
serving servings capsule capsules tablet tablets pill pills bottle bottles can cans bag bags box boxes seat
seats person persons people player players speed speeds
gear gears core cores thread threads port ports mph kph knots acre acres sqft sqm
"""
UNITS_EN = frozenset(_ENGLISH.split())
UNIT_BEGINNINGS_EN = frozenset(unit[:end] for unit in UNITS_EN for end in range(1, len(unit) + 1))
# Those that common words begin with: whether they are units is known when they end.
_BEGIN_WORDS = """
in foot mile mi meter micron min second sec star pack count pair set bar bit cup can cal ton stone gal gear amp core
seat port person won cent sheet roll player speed thread box bag mb mg mm ma mp ms ml mw mv um nm dm km ct cc cl cm
db dl eur gram hr inr kilo lm lux newton night nit pint ply pill quart yen yard cad aud ah hp ohm px serving tablet
bottle capsule people carat
"""
PLAIN_UNITS_EN = frozenset(unit for unit in UNITS_EN if len(unit) > 1) - frozenset(_BEGIN_WORDS.split())

# Whole, and begun in one place: nothing is read twice, so that time is linear in the text.
_BEGIN, _NUMBER = r"(?<![a-z0-9.,])", r"[0-9]++(?:[.,][0-9]++)*+"
NUMBER_WITH_UNIT = re.compile(rf"{_BEGIN}({_NUMBER})[ \-(]?([a-z]+|[%‰°]|[^\x00-\x7f]{{1,3}})?")
_SIGNS = re.escape(CURRENCIES)
PRICE = re.compile(rf"([{_SIGNS}])\s?({_NUMBER})|{_BEGIN}({_NUMBER})\s?([{_SIGNS}])")


def forms(unit: str) -> set[str]:
    """A unit, and its singular or plural: an answer may say "12-hour" of "12 hours"."""
    if len(unit) < 3 or unit not in UNITS_EN:
        return {unit}
    others = {f"{unit}s", f"{unit}es", unit.removesuffix("s"), unit.removesuffix("es")}
    return {unit, *(other for other in others & UNITS_EN if len(other) > 2)}
