"""The sentences that a measurement writes, in Chinese. One that is not known here stays English."""

from __future__ import annotations

import re

from .words import PARTS, Both, plain

MOST = 300
_SENTENCES = (
    ("other programs took {} of the {} usable cores, during {} {} (accepted: {})",
     "其他程序占用了 {1} 个可用核心的 {0}，其中测{2}时占 {3}（允许 {4}）"),
    ("other programs took {} of the {} usable cores (accepted: {})",
     "其他程序占用了 {1} 个可用核心的 {0}（允许 {2}）"),
    ("the host of this virtual machine took {} of its CPU time (accepted: {})",
     "宿主机占用了本虚拟机 {0} 的 CPU 时间（允许 {1}）"),
    ("the CPU quota of a control group stopped programs for {} of the time; give fewer --threads",
     "CPU 配额使程序在 {0} 的时间里被暂停；请减小 --threads"),
    ("the clock went from {} to {} MHz (accepted: {})",
     "CPU 频率从 {0} 变为 {1} MHz（允许 {2}）"),
    ("heat slowed the processor {} times",
     "处理器因过热降频 {0} 次"),
    ("no answers were measured one after the other",
     "没有测到连续的回答"),
    ("too few runs: {} of each text (at least {}); give more --seconds",
     "次数太少：每条文本 {0} 次（至少 {1} 次）；请增大 --seconds"),
    ("the 95 % interval of the median is {} wide after {} rounds (accepted: {}); give more --seconds",
     "{1} 轮之后，中位数的 95 % 区间宽度为 {0}（允许 {2}）；请增大 --seconds"),
    ("answers became {} slower from the first half to the second (accepted: {})",
     "后半段回答比前半段慢 {0}（允许 {1}）"),
    ("answers became {} faster from the first half to the second (accepted: {})",
     "后半段回答比前半段快 {0}（允许 {1}）"),
    ("the first answers to every text, which warm up",
     "每条文本的首批回答（用于预热）"),
    ("reading the bundle from the disk: its files are in the system's cache, also in cold starts",
     "从磁盘读取模型包：其文件已在系统缓存中，冷启动时也是如此"),
    ("what a program does besides edgelm: reading its input, the command line, printing",
     "edgelm 之外的工作：读取输入、命令行、打印"),
    ("of memory's growth the first half of the answers: buffers settle for the first thousands, so it may end",
     "内存增长中前一半的回答：最初几千次回答时缓冲区仍在调整，增长之后可能停止"),
    ("{} of {} texts, for which the time was too short; give more --seconds",
     "{1} 条文本中的 {0} 条（时间不够）；请增大 --seconds"),
    ("that texts differ, in the interval of the median: it is of means over all {} texts",
     "文本之间的差异（对中位数区间而言）：区间取自全部 {0} 条文本的平均值"),
    ("this machine exposes no energy counter of its processor ({})",
     "本机没有可读的处理器能耗计数器（{0}）"),
    ("{} cannot be read: Linux gives it to root alone",
     "无法读取 {0}（Linux 只允许 root 读取）"),
    ("its growth takes {} answers and {} s once buffers have settled, which are {} of {} answers; give more --seconds",
     "其增长的测量在缓冲区稳定（{3} 次回答中的前 {2} 次）后还需要 {0} 次回答和 {1} 秒；请增大 --seconds"),
    ("asked for", "按要求"),
    ("this system does not tell how much memory a process holds",
     "本系统不提供进程的内存占用"),
    ("the time was over before {}",
     "时间已到，未测：{0}"),
    ("the time is too short to try {}",
     "时间不够，未试：{0}"),
    ("server: an answer takes {} ms, and {} s are too short for arrivals; give more --seconds",
     "服务器：每次回答需 {0} 毫秒，{1} 秒不足以模拟到达；请增大 --seconds"),
    ("a try of {} arrivals: its p99 is the slowest of them, {} are wanted",
     "该次试验只有 {0} 次到达，p99 即最慢的一次（应有 {1} 次）"),
    ("the time was over with the rate between {} and {}", "时间结束时，速率介于 {0} 与 {1} 之间"),
    ("{} texts in a call instead of one by one",
     "每次调用 {0} 条文本，而不是逐条调用"),
    ("answers of at most {} tokens: all are cut by their limit now",
     "回答最多 {0} 个词元：目前全部因上限被截断"),
    ("{} instead of {}; edgelm tune finds and remembers it",
     "用 {0} 代替 {1}；edgelm tune 会找到并记住"),
    ("threads that give way, and sleep between runs instead of spinning",
     "让出处理器的线程，在两次运行之间休眠而不是自旋"),
    ("prompt lookup", "提示词查找（prompt lookup）"),
    ("no prompt lookup", "不用提示词查找（prompt lookup）"),
    ("opening the session takes {} s at load: keep the model, and load it once for all texts",
     "加载时打开会话需 {0} 秒：请保留模型，只加载一次，供所有文本使用"),
    ("no answer has two tokens that come one after the other: beams, windows, or too short ones",
     "没有一个回答有先后生成的两个词元（束搜索、分窗或太短）"),
    ("{} is profiled with {}; name {} for the others",
     "{0} 由 {1} 代表测量；要测其他的，请直接给出名称：{2}"),
    ("{} of {} texts are left out: they go to {}, which is for {}; "
     "to profile those, name it and give them in a file of their own",
     "{1} 条文本中有 {0} 条未测：它们由 {2}（{3}）回答；要测它们，请给出其名称，并放进单独的文件"),
    ("threads {} are more than the {} usable cores: they wait for each other",
     "线程数 {0} 多于可用的 {1} 个核心：它们会互相等待"),
    ("the fastest that edgelm tune measured here", "edgelm tune 在本机测得最快"),
    ("the first for {}", "适用于 {0} 的第一个"),
    ("interrupted", "中途停止"),
    ("memory", "内存"),
    ("arithmetic", "计算"),
    ("ms a text", "毫秒/条"),
    ("the rates of {} are not known here, only those of the CPU", "这里只知道 CPU 的速率，不知道 {0} 的"),
)  # fmt: skip


def sentence(text: str) -> Both:
    """A sentence from a report, as it is and in Chinese; one line of each, cut where it is very long."""
    shown = plain(text, MOST)
    return Both(shown, _chinese(shown))


def _chinese(text: str) -> str:
    name, colon, rest = text.partition(": ")
    if colon and name in PARTS:
        return f"{PARTS[name].zh}：{_chinese(rest)}"
    return _known(text) or "；".join(_known(part) or part for part in text.split("; "))


def _known(text: str) -> str | None:
    for english, chinese in _SENTENCES:
        found = re.fullmatch("([^;]+?)".join(map(re.escape, english.split("{}"))), text)
        if found:
            return chinese.format(*(PARTS[one].zh if one in PARTS else one for one in found.groups()))
    return None
