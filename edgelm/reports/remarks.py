"""What the numbers of a report mean: a card for each of the main ones, and one sentence on what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from edgelm_runtime.profile.report import Advice, Report, Steady, Throughput

from .chinese import sentence
from .layout import number, size
from .words import FEW, Both, duration, first_answer, share

# Milliseconds: what feels immediate, and what interrupts a thought (Nielsen, Usability Engineering, 1993).
_IMMEDIATE, _INTERRUPTS = 100, 1000


@dataclass(frozen=True)
class Tile:
    """A number with what it is, and how good that is."""

    value: str
    what: Both
    hint: Both


def tiles(report: Report) -> Iterator[Tile]:
    """The cards of a page, those that the report has numbers for."""
    if report.steady is not None:
        yield from _waits(report.steady)
    if report.generation is not None:
        yield Tile(
            number(report.generation.tokens_per_second.p50), Both("tokens a second", "每秒词元数"),
            Both("people read about 4 words a second", "人每秒约读 4 个词"),
        )  # fmt: skip
    if report.cold is not None:
        yield Tile(
            duration(first_answer(report.cold)), Both("from a cold start to the first answer", "从冷启动到首个回答"),
            Both("once, when the program starts", "只在程序启动时有一次"),
        )  # fmt: skip
    yield from _work(report)
    if report.ceiling is not None:
        yield Tile(
            share(report.ceiling.share), Both("of what this machine could do", "已达到本机极限的比例"),
            Both("the rest is what better code could gain at most", "其余是更好的代码最多能得到的"),
        )  # fmt: skip


def _waits(found: Steady) -> Iterator[Tile]:
    total = found.total
    if total.p50 <= _IMMEDIATE:
        hint = Both("good: below 100 ms feels immediate", "好：100 毫秒以内感觉不到等待")
    elif total.p50 <= _INTERRUPTS:
        hint = Both("noticed; below 1 s interrupts no thought", "能察觉；1 秒以内不打断思路")
    else:
        hint = Both("long: from 1 s on, show that it works", "偏长：超过 1 秒应显示进度")
    yield Tile(duration(total.p50), Both("half of the answers take less", "一半的回答比这快"), hint)
    few = total.count < FEW
    value = total.max if few else total.p99
    what = Both(f"the slowest of {total.count} answers", f"{total.count} 次回答中最慢的一次")
    times = number(value / total.p50) if total.p50 > 0 else "n/a"
    yield Tile(
        duration(value), what if few else Both("99 of 100 answers take less", "100 次中有 99 次比这快"),
        Both(f"{times} times the usual wait: nearer to 1 is better", f"是通常等待的 {times} 倍：越接近 1 越好"),
    )  # fmt: skip


def _work(report: Report) -> Iterator[Tile]:
    """Texts a second, memory, and energy."""
    offline = None if report.scenarios is None else report.scenarios.offline
    if offline is not None:
        alone = report.steady.rounds.p50 if report.steady is not None else 0
        rate = number(1000 / alone) if alone > 0 else "n/a"
        yield Tile(
            number(offline.texts_per_second.p50),
            Both(f"texts a second, all there at once ({offline.batch} in a call)",
                 f"每秒文本数（一次给出 {offline.batch} 条）"),
            Both(f"one after the other: {rate}", f"逐条回答：{rate}"),
        )  # fmt: skip
    if report.memory is not None:
        part = share(report.memory.peak / report.machine.memory) if report.machine.memory > 0 else "n/a"
        yield Tile(
            size(report.memory.peak), Both("memory at most", "内存峰值"),
            Both(f"{part} of this machine's memory", f"占本机内存的 {part}"),
        )  # fmt: skip
    if report.energy is not None:
        joules = report.energy.joules_per_answer
        yield Tile(
            f"{number(joules)} J", Both("energy an answer", "每次回答的能耗"),
            Both(f"{number(joules / 3.6)} Wh for 1,000 answers", f"每千次回答 {number(joules / 3.6)} 瓦时"),
        )  # fmt: skip


def what_to_do(report: Report) -> Both | None:
    """One sentence; None where nothing was tried. A NOISY report says nothing but to measure again."""
    if report.trust is not None and report.trust.verdict != "VALID":
        return Both(
            "Measure again on a quiet machine before you decide anything.",
            "做任何决定之前，请在空闲的机器上重新测量。",
        )
    if report.advice:
        best = max(report.advice, key=_gain)
        text = sentence(best.text)
        figures, unit = f"{number(best.before)} → {number(best.after)}", sentence(best.unit)
        return Both(
            f"Most is gained by: {text.en} ({figures} {unit.en}).",
            f"收益最大的做法：{text.zh}（{figures} {unit.zh}）。",
        )
    if report.tried:
        return Both("Nothing that was tried was faster.", "试过的做法都没有更快。")
    return None


def _gain(one: Advice) -> float:
    """How many times better, whether more or less of its unit is."""
    low, high = sorted((one.before, one.after))
    return high / low if low > 0 else inf


def other_threads(report: Report) -> Both | None:
    """Which number of threads did clearly more in a second than the profile's own, with as many texts in a call.

    Clearly is beyond both intervals. None where none did.
    """
    found = report.throughput or ()
    own = {one.batch: one.texts_per_second for one in found if one.threads == report.subject.threads}
    better = [one for one in found if one.batch in own and one.texts_per_second.low > own[one.batch].high]
    if not better:
        return None
    best: Throughput = max(better, key=lambda one: one.texts_per_second.p50)
    new, old = number(best.texts_per_second.p50), number(own[best.batch].p50)
    return Both(
        f"More was done with threads: {best.threads}, {best.batch} in a call: {new} texts a second instead of {old}.",
        f"线程数为 {best.threads}、每次 {best.batch} 条时更快：每秒 {new} 条，而不是 {old} 条。",
    )
