"""Small synthetic training data that a model can learn something from."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GOOD = ("很好", "喜欢", "满意", "great", "lovely", "perfect")
BAD = ("很差", "讨厌", "失望", "awful", "broken", "useless")
THINGS = ("物流", "质量", "颜色", "the zipper", "the fabric", "the box")
COLOURS = {"红色": "red", "白色": "white", "蓝色": "blue", "黑色": "black"}


def reviews(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Reviews of one to four opinions, with the label that all of them share and the source "short" or "long"."""
    draw = random.Random(seed)
    rows = []
    for index in range(count):
        label = index % 2
        parts = draw.randint(1, 4)
        text = "，".join(f"{draw.choice(THINGS)} {draw.choice((BAD, GOOD)[label])}" for _ in range(parts))
        rows.append({"text": f"{text} {index}", "label": label, "source": "short" if parts < 3 else "long"})
    return rows


def pairs(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a summary and of a description in turn."""
    draw = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for index in range(count):
        colour, english = draw.choice(list(COLOURS.items()))
        if index % 2:
            rows.append({"text": f"The box is {english}. It came on day {index}.", "summary": f"The box is {english}."})
        else:
            rows.append(
                {"attributes": f"类型#裙*颜色#{colour}*号#{index}", "description": f"{colour}的裙，{index}号。"}
            )
    return rows


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write .jsonl and return the path."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path
