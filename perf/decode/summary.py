"""Summaries of long texts with prompt lookup, beside the peers: the writer's checkpoint in 8 bit, everywhere.

Two sets of texts. In `reviews` hardly a phrase comes twice; in `quoting` the reviews repeat each other's sentences, as
those of one product do, which is where lookup has most to find. Both are read raw, without edgelm's guides.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from perf.bench import Figure
from perf.decode.protocol import Measured, Plan
from perf.decode.report import Row

if TYPE_CHECKING:
    from perf.decode.harness import Bench

PROMPT_TOKENS, ANSWER_TOKENS = 320, 64  # all of the default writer's context
REVIEWS = (
    "I bought this sweater for my sister, who lives where winters are long. It came in two days, folded in paper. The "
    "wool feels soft and not scratchy at all. She says the sleeves are a little long but she likes to fold them.",
    "The dress looks nothing like the picture. The blue is much darker and the fabric is thin, so you need a slip "
    "under it. I sent it back and the shop returned my money within a week without any questions.",
    "These jeans fit like a glove! I am tall and usually have trouble to find the right length. They are stretchy in "
    "the waist and keep their shape after many washes. I ordered a second pair in black for the office.",
    "A nice blouse for the price. The buttons are sewn on well and the collar stays flat. It wrinkles quickly, so keep "
    "the iron near. My husband thinks that the pattern is too busy, yet my friends asked where I got it.",
    "Perfect coat for rainy autumn days. The hood is deep, the pockets are lined, and the zip runs smoothly. It is a "
    "bit heavy to carry in a bag. I wish that they made it in green as well.",
    "I was not sure about the skirt because of the mixed reviews, but I love it. The pleats fall nicely and the waist "
    "does not roll. It goes with boots and with sandals. Shorter women should know that it ends below the knee.",
)
SENTENCES = (
    "The sweater is soft and warm, and it fits true to size.",
    "The colour is just as it looks in the picture.",
    "I have worn the sweater to work with jeans and boots, and I got many compliments.",
    "The sweater is a great buy for the winter.",
    "The sleeves are the right length and the neck is not too tight.",
)
SETS = ("reviews", "quoting")


def convert(bench: Bench, checkpoint: Path) -> list[Row]:
    """A row for every engine's 8-bit writer, without lookup and, where an engine has it, with."""
    plan = _plan(bench)
    prepared = bench.work / "checkpoints" / "writer"
    if not prepared.is_dir():
        shutil.copytree(checkpoint, prepared)
        settings = json.loads((prepared / "tokenizer_config.json").read_text("utf-8"))
        # CTranslate2 loads nothing without one; no text of ours needs it.
        settings["unk_token"] = settings.get("unk_token") or settings["eos_token"]
        (prepared / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    rows = list(bench.convert(prepared, "writer", "gpt2", plan, ("int8",)))
    return rows + [replace(row, plan=replace(plan, lookup=True), rounds=[]) for row in rows if row.peer.lookup]


def figures(rows: list[Row]) -> list[Figure]:
    """Answer tokens a second, reading the text included: edgelm with lookup to the best peer without, and with."""
    found: list[Figure] = []
    for number, name in enumerate(SETS):
        speeds = {(row.peer.name, row.plan.lookup): [_speed(one, number) for one in row.rounds] for row in rows}
        for (engine, lookup), samples in speeds.items():
            found.append(Figure(f"summary of {name}: {engine}{', lookup' if lookup else ''}", "tokens/s", samples))
        ours = speeds.get(("edgelm", True))
        theirs = [samples for (engine, lookup), samples in speeds.items() if engine != "edgelm" and not lookup]
        if ours and theirs:
            ratios = [mine / max(others) for mine, *others in zip(ours, *theirs, strict=True)]
            found.append(Figure(f"summary of {name}, lookup / best peer without", "", ratios, at_least=3.0))
        if ours and (openvino := speeds.get(("openvino", True))):
            ratios = [mine / other for mine, other in zip(ours, openvino, strict=True)]
            found.append(Figure(f"summary of {name}, lookup / OpenVINO with lookup", "", ratios, at_least=1.5))
    return found


def texts() -> list[list[str]]:
    """Three texts a set, longer than what is read of them."""
    rotated = [REVIEWS[start:] + REVIEWS[:start] for start in range(0, 6, 2)]
    quoted = [SENTENCES[start:] + SENTENCES[:start] for start in range(3)]
    return [[" ".join(reviews * 2) for reviews in rotated], [" ".join(sentences * 8) for sentences in quoted]]


def _plan(bench: Bench) -> Plan:
    import edgelm

    model = edgelm.load("summary")
    prompts = [model.tokenize(text)[:PROMPT_TOKENS] for texts_of_set in texts() for text in texts_of_set]
    return Plan(bench.threads, {}, prompts, ANSWER_TOKENS)


def _speed(measured: Measured, number: int) -> float:
    each = len(measured.answer_s) // len(SETS)
    return ANSWER_TOKENS / median(measured.answer_s[number * each : (number + 1) * each])
