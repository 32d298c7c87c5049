"""Turn the raw data files into the training files of the default models.

usage: python recipes/prepare_data.py RAW_FOLDER OUT_FOLDER

The development files hold the rows that `edgelm finetune` sets aside, by the same hash of the text; these rows never
enter the pre-training files either.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable
from pathlib import Path

from edgelm_export.finetune.data import Row, generator_pairs, read_rows, split_rows

DEV_FRACTION = 0.05
SUMMARY_TEXT_CHARACTERS = 300  # a title tells of the beginning; the model reads longer texts in windows


def main(raw: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    sentiment_zh = read_rows([raw / "sentiment_zh.jsonl.gz"])
    write_rows(out / "sentiment_zh.jsonl", sentiment_zh)
    sentiment_en = balanced_english(read_rows([raw / "sentiment_en.jsonl.gz"]))
    write_rows(out / "sentiment_en.jsonl", sentiment_en)
    unlabeled = [row["text"] for row in read_rows([raw / "unlabeled_zh.txt.gz"])]
    write_lines(out / "pretrain_zh.txt", [*unlabeled, *texts(split_rows(sentiment_zh, DEV_FRACTION)[0])])

    summaries = read_rows([raw / "summary_en.jsonl.gz", raw / "summary_zh.jsonl.gz"])
    summaries = [{**row, "text": row["text"][:SUMMARY_TEXT_CHARACTERS]} for row in summaries]
    descriptions = read_rows([raw / "description_zh.jsonl.gz", raw / "description_en.jsonl.gz"])
    descriptions = thinned([row for row in descriptions if not row.get("has_unk")])
    write_rows(out / "summary.jsonl", summaries)
    write_rows(out / "description.jsonl", descriptions)
    train, dev = split_rows([*summaries, *descriptions], DEV_FRACTION)
    write_rows(out / "dev_writer.jsonl", dev)
    write_rows(out / "dev_sentiment_zh.jsonl", split_rows(sentiment_zh, DEV_FRACTION)[1])
    write_rows(out / "dev_sentiment_en.jsonl", split_rows(sentiment_en, DEV_FRACTION)[1])
    pairs = generator_pairs(train, ("summary", "description"))
    write_lines(out / "pretrain_writer.txt", [f"{pair.source} {pair.answer}" for pair in pairs])


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
