"""Turn the raw data files into the training files of the default models.

usage: python recipes/prepare_data.py RAW_FOLDER OUT_FOLDER

The development files hold the rows that `edgelm finetune` sets aside, by the same hash of the text; these rows never
enter the pre-training files either.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from edgelm_export.finetune.data import Row, generator_pairs, read_rows, split_rows
from edgelm_runtime.tasks.attributes import canonical, parse

DEV_FRACTION = 0.05
COPYING_LINES = 25000
SUMMARY_TEXT_CHARACTERS = 300  # a title tells of the beginning; the model reads longer texts in windows


def main(raw: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    sentiment_zh = read_rows([raw / "sentiment_zh.jsonl.gz"])
    write_rows(out / "sentiment_zh.jsonl", sentiment_zh)
    sentiment_en = balanced_english(read_rows([raw / "sentiment_en.jsonl.gz"]))
    write_rows(out / "sentiment_en.jsonl", sentiment_en)
    unlabeled = [row["text"] for row in read_rows([raw / "unlabeled_zh.txt.gz"])]
    write_lines(out / "pretrain_zh.txt", [*unlabeled, *texts(split_rows(sentiment_zh, DEV_FRACTION)[0])])

    write_rows(out / "dev_sentiment_zh.jsonl", split_rows(sentiment_zh, DEV_FRACTION)[1])
    write_rows(out / "dev_sentiment_en.jsonl", split_rows(sentiment_en, DEV_FRACTION)[1])
    prepare_writer(raw, out)


def prepare_writer(raw: Path, out: Path) -> None:
    """The files of the writer: its training and development rows, and the lines that it reads first."""
    summaries = read_rows([raw / "summary_en.jsonl.gz", raw / "summary_zh.jsonl.gz"])
    summaries = [{**row, "text": row["text"][:SUMMARY_TEXT_CHARACTERS]} for row in summaries]
    descriptions = read_rows([raw / "description_zh.jsonl.gz", raw / "description_en.jsonl.gz"])
    descriptions = thinned([row for row in descriptions if not row.get("has_unk")])
    train, dev = split_rows([with_group(row) for row in [*summaries, *descriptions]], DEV_FRACTION)
    write_rows(out / "dev_writer.jsonl", dev)
    train = [faithful(row) for row in train]
    write_rows(out / "writer.jsonl", train)
    draw = random.Random(0)
    pairs = generator_pairs(train, ("summary", "description"))
    lines = [f"{pair.source} {pair.answer}" for pair in pairs]
    for row in train:
        text = str(row.get("description") or row["text"])
        lines.append(f"{'; '.join(pieces(text, draw))}: {text}")
    write_lines(out / "pretrain_writer.txt", lines)
    write_lines(out / "copy_writer.txt", [*copying_lines(lines, draw), *draw.sample(lines, COPYING_LINES // 2)])


def with_group(row: Row) -> Row:
    """The row with its product as ``group``: TaoDescribe has several texts under one title."""
    if not str(row.get("source", "")).startswith("TaoDescribe"):
        return row
    return {**row, "group": row["summary"] if "summary" in row else row["attributes"].partition("#")[2]}


def faithful(row: Row) -> Row:
    """A description with those attributes only that it names: a writer that sees others ignored learns to ignore."""
    if "description" not in row:
        return row
    attributes = parse(row["attributes"])
    text = row["description"].lower()
    named = [(name, value) for name, value in attributes if value.lower() in text]
    return {**row, "attributes": canonical(named or attributes)}


def pieces(text: str, draw: random.Random) -> list[str]:
    """Some short pieces of a text in any order: a line that begins with them teaches to work them in."""
    words = re.findall(r"[a-z0-9'$.-]+(?: [a-z0-9'$.-]+)?|[\u3400-\u9fff]+", text, re.IGNORECASE)
    found = []
    for word in draw.sample(words, min(len(words), draw.randint(2, 6))):
        start = draw.randrange(max(1, len(word) - 3))
        found.append(word if word.isascii() else word[start : start + draw.randint(2, 4)])
    return found


def copying_lines(lines: list[str], draw: random.Random) -> list[str]:
    """Lines of random pieces that come twice, as they were or in another order: only copying can predict them.

    Text alone teaches a small model to copy late, since guessing from the last few words lowers the loss sooner.
    """
    counts = Counter(re.findall(r"[a-z]+|[\u3400-\u9fff]", "\n".join(lines), re.IGNORECASE))
    common = sorted(unit for unit, count in counts.items() if count > 2)
    words = [unit for unit in common if unit.isascii()]
    characters = [unit for unit in common if not unit.isascii()]

    def piece() -> str:
        kind = draw.random()
        if kind < 0.5:
            return "".join(draw.choices(characters, k=draw.randint(1, 5)))
        if kind < 0.85:
            return " ".join(draw.choices(words, k=draw.randint(1, 3)))
        return f"{draw.randrange(10 ** draw.randint(1, 4)) / draw.choice((1, 10, 100)):g}"

    made = []
    for _ in range(COPYING_LINES):
        chosen = [piece() for _ in range(draw.randint(3, 9))]
        first = "; ".join(chosen)
        if draw.random() < 0.6:
            draw.shuffle(chosen)
        made.append(f"{first}: {draw.choice(('; ', ', ', '，', ' ')).join(chosen)}")
    return made


def balanced_english(rows: list[Row]) -> list[Row]:
    """All product reviews, and as many positive as negative clothing reviews (88 % of them are positive)."""
    products = [row for row in rows if row["source"] == "FDU-MTL"]
    clothing = [row for row in rows if row["source"] != "FDU-MTL"]
    negative = [row for row in clothing if row["label"] == 0]
    positive = [row for row in clothing if row["label"] == 1]
    return products + negative + random.Random(0).sample(positive, len(negative))


def thinned(rows: list[Row]) -> list[Row]:
    """All rows, but of the laptops and televisions, which repeat a few sentence patterns, two of three."""
    repetitive = [row for row in rows if row["source"] == "RNNLG"]
    return [row for row in rows if row["source"] != "RNNLG"] + random.Random(0).sample(
        repetitive, len(repetitive) * 2 // 3
    )


def texts(rows: Iterable[Row]) -> list[str]:
    return [str(row["text"]) for row in rows]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    unique = dict.fromkeys(" ".join(line.split()) for line in lines)
    shuffled = [line for line in unique if line]
    random.Random(0).shuffle(shuffled)
    path.write_text("".join(line + "\n" for line in shuffled), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
