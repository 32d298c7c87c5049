"""What a report says in two languages, and numbers with their units."""

from __future__ import annotations

from dataclasses import dataclass

from edgelm_runtime.profile.report import ColdStart, Report

from .layout import number, scaled

FEW = 100  # answers: below, there is no 1 in 100
_LONG = 80
_CHINESE_UNITS = {"s": "秒", "ms": "毫秒", "µs": "微秒"}


@dataclass(frozen=True)
class Both:
    """The same in English and in Chinese."""

    en: str
    zh: str


PARTS = {
    "cold": Both("cold start", "冷启动"),
    "steady": Both("answers one after the other", "连续回答"),
    "generation": Both("generation", "文字生成"),
    "scenarios": Both("scenarios", "负载场景"),
    "throughput": Both("throughput", "吞吐量"),
    "memory": Both("memory", "内存"),
    "energy": Both("energy", "能耗"),
    "operators": Both("operators", "算子"),
    "ceiling": Both("distance to the ceiling", "距上限的距离"),
    "advice": Both("advice", "建议"),
    "trust": Both("verdict", "可信度"),
}
STAGES = {
    "tokenize": Both("tokenize", "分词"),
    "infer": Both("infer", "推理"),
    "decode": Both("decode", "得出结果"),
    "sample": Both("sample", "采样"),
    "detokenize": Both("detokenize", "还原文字"),
    "interpreter": Both("interpreter", "启动解释器"),
    "imports": Both("imports", "导入库"),
    "verification": Both("verification", "校验文件"),
    "session": Both("session", "建立会话"),
    "goldens": Both("golden answers", "核对标准答案"),
    "first_answer": Both("first answer", "首个回答"),
    "exit": Both("exit", "退出"),
}


def stage(name: str) -> Both:
    """The words for a stage; an unknown one's name, in both languages."""
    return STAGES.get(name) or Both(plain(name), plain(name))


def plain(text: str, most: int = _LONG) -> str:
    """A text from outside on one line: what cannot be printed is replaced, and the middle of a long one cut out."""
    if len(text) > most:
        text = f"{text[: most * 2 // 3]}…{text[-(most // 3) :]}"
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def whole(value: float) -> str:
    """A number of things."""
    return f"{value:,.0f}" if abs(value) < 1e9 else number(value)


def duration(ms: float) -> str:
    """Milliseconds; seconds from 1,000 on, microseconds below 0.1."""
    if abs(ms) >= 1000:
        return f"{number(ms / 1000)} s"
    return f"{number(ms)} ms" if ms == 0 or abs(ms) >= 0.1 else f"{number(ms * 1000)} µs"


def rate(per_second: float) -> str:
    """A large number a second, without its unit: 13.2 G."""
    return scaled(per_second, "").strip()


def share(part: float) -> str:
    """A part of 1 as per cent, two digits: nobody decides on the third."""
    return f"{float(f'{100 * part:.2g}'):,g} %"


def source(name: str) -> Both:
    """Where the texts come from: the bundle's golden texts, or a file."""
    if name == "goldens":
        return Both("the bundle's own", "模型包自带")
    return Both(plain(name), plain(name))


def first_answer(found: ColdStart) -> float:
    """Milliseconds from nothing to the first answer: a cold start's total but the program's end."""
    exits = found.stages.get("exit")
    return max(0.0, found.total.p50 - (exits.p50 if exits is not None else 0.0))


def headline(report: Report) -> Both:
    """How long a customer waits, in one sentence."""
    if report.steady is None:
        return Both("The profile was ended before an answer was measured.", "尚未测得任何回答，测量就已结束。")
    total = report.steady.total
    waits, zh_waits = _unbroken(duration(total.p50)), _in_chinese(total.p50)
    if report.generation is not None:
        first = report.generation.time_to_first_token.p50
        waits += f" for a text, {_unbroken(duration(first))} for its first word"
        zh_waits += f"得到整段文字，{_in_chinese(first).lstrip()} 看到第一个词"
    if total.count < FEW:
        slowest, zh_slowest = _unbroken(duration(total.max)), _in_chinese(total.max)
        return Both(
            f"A customer waits {waits}; the slowest of {total.count} answers took {slowest}.",
            f"顾客等待{zh_waits}；{total.count} 次回答中最慢的一次用了{zh_slowest}。",
        )
    return Both(
        f"A customer waits {waits}; {_unbroken('1 in 100')} waits longer than {_unbroken(duration(total.p99))}.",
        f"顾客等待{zh_waits}；每 100 次中有 1 次超过{_in_chinese(total.p99)}。",
    )


def _in_chinese(ms: float) -> str:
    count, _, unit = duration(ms).partition(" ")
    return f" {_unbroken(count + ' ' + _CHINESE_UNITS[unit])}"


def _unbroken(text: str) -> str:
    return text.replace(" ", "\N{NO-BREAK SPACE}")
