"""Chinese shopping reviews made in code: `reviews(count, seed)`, or `python -m perf.reviews COUNT > reviews.txt`.

Their lengths are those of real ones: half have at most 31 characters, a quarter at most 18, a quarter 58 or more,
some a few hundred. They are for measuring speed; their labels are not known.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass

MEDIAN_CHARACTERS = 31
_AIM = 29.8  # a clause is only taken whole, which adds to the length
_SPREAD = 0.97  # of the logarithm of the length
_SHORTEST, _LONGEST = 6, 400


@dataclass(frozen=True)
class Goods:
    """A kind of goods: what it is called, what buyers praise, and what they complain about."""

    names: tuple[str, ...]
    praise: tuple[str, ...]
    complaints: tuple[str, ...]


GOODS = (
    Goods(
        ("连衣裙", "卫衣", "牛仔裤", "羽绒服", "衬衫"),
        ("面料柔软", "版型很正", "洗了{n}次也没变形", "颜色和图片一样", "很显瘦", "做工精细，没有线头"),
        ("掉色严重", "尺码偏小", "料子太薄", "才穿{n}天就起球", "线头很多", "和模特身上的完全不一样"),
    ),
    Goods(
        ("苹果", "车厘子", "芒果", "橙子", "猕猴桃"),
        ("个头很大", "汁多味甜", "皮薄肉厚", "新鲜得很", "一个坏果都没有", "老人小孩都爱吃"),
        ("坏了{n}个", "又小又酸", "都磕烂了", "一点水分也没有", "和描述的大小差太多", "还没熟就摘了"),
    ),
    Goods(
        ("手机", "平板", "耳机", "充电宝", "智能手表"),
        ("运行流畅", "屏幕清晰", "续航能用{n}天", "音质超出预期", "充电很快", "外观漂亮，手感也好"),
        ("发热严重", "用了{n}天就死机", "电池掉得飞快", "信号不好", "屏幕上有划痕", "连蓝牙老是断"),
    ),
    Goods(
        ("这本书", "这套绘本", "这本小说", "这本词典"),
        ("纸张厚实", "内容充实", "孩子看得津津有味", "翻译得很流畅", "印刷清楚", "{n}天就看完了"),
        ("错别字太多", "印刷模糊", "有几页是缺的", "内容空洞", "封面都压皱了", "纸薄得透字"),
    ),
    Goods(
        ("酒店", "房间", "民宿"),
        ("位置很方便，离地铁站{n}分钟", "前台热情", "床很舒服", "早餐品种多", "卫生做得好", "晚上很安静"),
        ("隔音太差", "空调开了{n}小时也不凉", "卫生间有异味", "毛巾发黄", "窗外就是工地", "退房等了{n}0分钟"),
    ),
    Goods(
        ("洗发水", "面霜", "洗面奶", "面膜"),
        ("味道好闻", "用完头发很顺", "不油不干", "敏感皮肤也能用", "泡沫丰富", "一瓶能用{n}个月"),
        ("用完脸上发红", "味道刺鼻", "感觉是假货", "瓶子漏了一半", "越用越干", "生产日期都看不清"),
    ),
    Goods(
        ("热水器", "电饭煲", "吸尘器", "洗衣机"),
        ("加热快", "操作简单", "声音很小", "师傅当天就来安装", "做饭很香", "省电，一天不到{n}度"),
        ("噪音太大", "安装费另收了{n}0元", "漏水", "用{n}次就坏了", "温度忽高忽低", "说明书看不懂"),
    ),
    Goods(
        ("盖饭", "炸鸡", "麻辣烫", "粥", "披萨"),
        ("送到还是热的", "分量足", "味道很正宗", "骑手提前{n}分钟到", "包装没有洒", "酱料给得大方"),
        ("等了{n}个小时", "全凉了", "太咸了", "少送了{n}样", "汤洒了一袋子", "肉少得可怜"),
    ),
)
COMMON_PRAISE = (
    "物流很快", "包装完好", "性价比高", "值得购买", "客服很有耐心", "质量不错", "第{n}次买了", "会再来的",
    "给妈妈买的，她很喜欢", "推荐给同事了", "和描述的一样", "价格也实惠", "五星好评", "快递小哥态度好", "超出预期",
)  # fmt: skip
COMMON_COMPLAINTS = (
    "物流太慢", "包装都破了", "客服不理人", "不值这个价", "退货很麻烦", "质量太差", "跟图片不符", "再也不买了",
    "等了{n}天才到", "说好的赠品也没有", "申请售后{n}次都没人管", "很失望", "刚买就降价{n}0块", "差评", "被坑了",
)  # fmt: skip
FILLERS = (
    "说实话", "昨天刚收到", "本来还有点担心", "用了一个星期来评价", "朋友推荐的", "双十一买的", "总的来说",
    "看了很多家才选的", "家里人都说", "其他的暂时没发现",
)  # fmt: skip
TURNS = ("但是", "不过", "就是", "可惜", "只是")
ENDS = ("。", "。", "！", "！！", "~", "…", "")


def reviews(count: int, seed: int) -> list[str]:
    """`count` reviews, one line each; the same seed gives the same ones."""
    chance = random.Random(seed)  # noqa: S311 - texts, no secrets
    return [_review(chance) for _ in range(count)]


def _review(chance: random.Random) -> str:
    wanted = chance.lognormvariate(math.log(_AIM), _SPREAD)
    wanted = min(max(wanted, _SHORTEST), _LONGEST)
    goods = chance.choice(GOODS)
    pleased = chance.random() < 0.5
    clauses = _clauses(goods, pleased, chance)
    text = chance.choice(goods.names) if chance.random() < 0.4 else ""
    while True:
        clause = next(clauses).replace("{n}", str(chance.randint(2, 9)))
        # the clause that crosses the wanted length stays when most of it lies before it
        if text and len(text) + len(clause) / 2 > wanted:
            return text.rstrip("，。！ ") + chance.choice(ENDS)
        text += clause + chance.choices("，。！ ", (12, 4, 1, 1))[0]


def _clauses(goods: Goods, pleased: bool, chance: random.Random) -> Iterator[str]:
    """Clauses without an end: mostly of one mind, each once before any comes again."""
    own, others = (goods.praise, goods.complaints) if pleased else (goods.complaints, goods.praise)
    common = COMMON_PRAISE if pleased else COMMON_COMPLAINTS
    while True:
        pool = [*own, *chance.sample(common, 8)]
        chance.shuffle(pool)
        for clause in pool:
            yield f"{chance.choice(FILLERS)}，{clause}" if chance.random() < 0.08 else clause
            if chance.random() < 0.08:
                yield chance.choice(TURNS) + chance.choice(others)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    print("\n".join(reviews(count, seed=0)))


if __name__ == "__main__":
    main()
