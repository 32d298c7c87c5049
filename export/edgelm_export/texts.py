"""Real-looking inputs for verification when a user gives none: written for edgelm, in Chinese and English."""

from __future__ import annotations

from collections.abc import Sequence

COUNT = 36

REVIEWS = {
    "zh": (
        "物流很快，质量也好",
        "包装破了，客服一直不回复",
        "电池只能用半天，充电还很慢",
        "味道不错，就是分量少了点",
        "给妈妈买的，她很喜欢",
        "尺码偏小，退货还要自己出运费",
        "屏幕清晰，拍照也漂亮，值这个价",
        "用了一个星期就坏了，再也不会买了",
        "水果很新鲜，个头也大",
        "房间很吵，隔音太差，一晚上没睡好",
        "面料柔软，洗了几次也没有变形",
        "和图片上的颜色完全不一样",
        "送餐的小哥很有礼貌，饭菜还是热的",
        "说明书看不懂，装了两个小时也没装好",
        "第二次买了，一如既往的好",
        "说是正品，我看不像",
        "孩子每天都要听，故事讲得生动",
        "洗衣机声音太大，脱水的时候像要散架",
        "服务周到，下次还来",
        "一般般吧，没有想象中好",
    ),
    "en": (
        "It arrived on time and works perfectly.",
        "The zipper broke after two days.",
        "Soft fabric, true to size, and the colour is lovely.",
        "I waited three weeks and nobody answered my emails.",
        "Great value for the money!",
        "The battery barely lasts an hour, so it went straight back to the store.",
        "My kids play with it every day.",
        "Too small, and the seams look cheap.",
        "The sound is clear and the bass is surprisingly strong.",
        "Do not buy this, the screen flickers all the time.",
        "Easy to clean and easy to store.",
        "The instructions are useless and two screws were missing.",
        "I have had it for a year and it still looks new.",
        "It smells of plastic even after several washes.",
        "Exactly what I was looking for.",
        "The handle gets so hot that you cannot hold it.",
        "Fits well under my desk and makes no noise.",
        "A dull story with flat characters.",
        "The staff were friendly and the coffee was excellent.",
        "It is okay, but I expected more at this price.",
    ),
}

ATTRIBUTES = {
    "zh": (
        "类型: 裙; 颜色: 白色; 风格: 简约",
        "类型: 上衣; 版型: 宽松; 颜色: 蓝色; 图案: 条纹",
        "类型: 裤; 材质: 牛仔布; 裤型: 直筒裤",
        "标题: 真皮男士商务手提包大容量",
        "类型: 裙; 裙长: 长裙; 图案: 碎花; 裙领型: v领",
        "标题: 儿童保温杯吸管不锈钢",
        "类型: 上衣; 材质: 羊毛; 衣样式: 毛衣; 颜色: 红色",
        "标题: 北欧实木餐桌椅组合小户型",
        "类型: 裤; 风格: 休闲; 裤长: 九分裤; 颜色: 黑色",
    ),
    "en": (
        "name: aurora 14; type: laptop; pricerange: moderate; batteryrating: good",
        "name: lumen 42; type: television; screensize: 42 inch; hdmiport: 3",
        "name: Silent Harbour; genres: adventure, puzzle; platforms: PC; release_year: 2014",
        "name: tecra nova; type: laptop; weight: 1.2 kg; isforbusinesscomputing: true",
        "name: bella 55; type: television",
        "name: Iron Meadow; genres: strategy; has_multiplayer: yes; rating: good",
        "name: pegasus 12; type: laptop; memory: 8 gb; driverange: large; weightrange: light weight",
        "name: opal 32; type: television; resolution: 1080p; powerconsumption: 32 watt",
        "name: Star Drift; genres: racing",
    ),
}

ODD = (
    "ＦＵＬＬ　ＷＩＤＴＨ　１２３，ｏｋ！",
    "Tre\u0300s joli de\u0301cor, mais trop che\u0300re",
    "👍🏽 love it 😀❤️ 👨‍👩‍👧",
    "\n\nGood.\n\n\t Bad  spaces.\r\n",
    "质量👍，性价比 100%！it's ok…",
    "A",
)
ODD_VALUES = ("ＦＵＬＬ １２３", "de\u0301cor tre\u0300s", "👍🏽 😀❤️", "质量 100%", "it's  two spaces")
ODD_SPECIAL = 4  # of the special tokens, each typed into a text of its own
LONGEST = 1024  # tokens of a context that a text of more is read for: half a second in a small model


def verification_inputs(task: str, languages: Sequence[str]) -> list[str]:
    """``COUNT`` inputs for a served task in the languages that we have texts in, from one sentence to a long text."""
    source = ATTRIBUTES if task == "description" else REVIEWS
    pools = [source[language] for language in languages if language in source] or [source["en"]]
    make = _attributes if task == "description" else _review
    return [make(pools[index % len(pools)], index // len(pools)) for index in range(COUNT)]


def _review(pool: Sequence[str], turn: int) -> str:
    """A single sentence in the first turns, more and more of them later."""
    return " ".join(pool[(turn * 7 + step) % len(pool)] for step in range(1 + turn // 4))


def _attributes(pool: Sequence[str], turn: int) -> str:
    """One product's attributes, and when each had its turn, those of another with them."""
    away, first = divmod(turn, len(pool))
    return "; ".join([pool[first], pool[(first + away) % len(pool)]] if away else [pool[first]])


def odd_texts(task: str, special: Sequence[str], context: int) -> list[str]:
    """Made texts for what readers trip over: typed special tokens, full width, loose accents, emoji, empty lines.

    ``special`` are the added tokens of the tokenizer. One text is longer than ``context`` tokens, unless that is 0, or
    too long to be read in a moment.
    """
    if task == "description":
        return [f"name: {odd}; type: {other}" for odd, other in zip(ODD_VALUES, reversed(ODD_VALUES), strict=True)]
    first, second = REVIEWS["en"][:2]
    typed = [f"{first} {token} {second}" for token in special[:: max(1, len(special) // ODD_SPECIAL)][:ODD_SPECIAL]]
    long = [" ".join(REVIEWS["en"] * (1 + context // 150))] if 0 < context <= LONGEST else []
    return [*ODD, *typed, *long]


def paired(text: str) -> tuple[str, str]:
    """A text in two parts, for a model that reads pairs: a half of its words in each, a single word twice."""
    half = len(text) // 2
    place = text.find(" ", half) if " " in text[half:] else half
    first, second = text[:place].strip(), text[place:].strip()
    return first or text, second or text
