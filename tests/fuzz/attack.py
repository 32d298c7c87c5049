"""`python -m tests.fuzz.attack`: long texts of every shape through the shipped bundles, with every option. See --help.

Each text is answered, or refused, in a process of its own, which has answered a short one before: what counts is the
memory above that, and the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any

from edgelm_runtime import load
from edgelm_runtime.errors import EdgeLMError
from tests.fuzz.child import resident_peak

CHARACTERS = 2_000_000  # the most that are accepted
MEMORY_MB = 300.0
SECONDS = 300
SHAPES: Mapping[str, str] = {
    "one run": "x", "capitals": "X", "digits with dots": "7.", "digits": "7", "no spaces": "abcdefghij",
    "words": "parcel ", "emoji": "😀", "family emoji": "👩\u200d👧", "spaces": " ", "lines": "\n", "accents": "\u0301",
    "ligatures": "\ufdfa", "Chinese": "物流很快", "special tokens": "[MASK]", "quotes": '"', "surrogates": "\ud800",
    "nothing": "\0",
}  # fmt: skip
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "plain": {}, "facts": {"facts": "locked"}, "banned": {"banned": ("good", "物")},
    "must_include": {"must_include": ("good",)}, "beams": {"num_beams": 2}, "lookup": {"prompt_lookup_num_tokens": 4},
    "sampled": {"temperature": 1.0, "seed": 1}, "shift": {"context_shift": True},
    "repeats": {"no_repeat_ngram_size": 3, "repetition_penalty": 1.2},
    "bonuses": {"coverage_bonus": 1.0, "quote_bonus": 1.0}, "stop": {"stop": ("xx", "。")},
    "deadline": {"deadline_ms": 300.0},
}  # fmt: skip
# Options whose value is the customer's text itself.
BY_TEXT = ("banned", "must_include", "stop")
TASKS: Mapping[str, Callable[[str], Any]] = {
    "sentiment": str, "summary": str, "description": lambda text: f"类型#{text}",
}  # fmt: skip


def cases() -> Iterator[tuple[str, str, str]]:
    """Task, option and shape of every case; an option with "=" has the long text as its value."""
    for shape in SHAPES:
        yield "sentiment", "plain", shape
        for task in ("summary", "description"):
            for option in (*OPTIONS, *(f"{name}=" for name in BY_TEXT)):
                yield task, option, shape


def attack(task: str, option: str, shape: str, characters: int) -> dict[str, Any]:
    """One case in a process of its own: how it ended, megabytes above a short text, seconds."""
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.attack",
        "--case",
        task,
        option,
        shape,
        "--characters",
        str(characters),
    ]
    began = monotonic()
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"end": "hang", "mb": 0.0, "s": monotonic() - began}
    if done.returncode:
        return {"end": f"crash ({done.returncode})", "mb": 0.0, "s": monotonic() - began}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one(task: str, option: str, shape: str, characters: int) -> dict[str, Any]:
    """The same, in this process."""
    model, unit = load(task, threads=1), SHAPES[shape]
    text = unit * (characters // len(unit))
    short = {"sentiment": "good", "summary": "The parcel came late.", "description": "类型#裙"}[task]
    # The language of a text decides which bundle reads it: each has answered before.
    for each in (short, *(("物流很快",) if task == "sentiment" else ())):
        model(each)
    options, value = dict(OPTIONS.get(option, {})), TASKS[task](text)
    if option.endswith("="):
        options, value = {option[:-1]: (text,)}, short
    if task != "sentiment":
        options.setdefault("max_new_tokens", 16)
    before, began = resident_peak(reset=True), monotonic()
    try:
        model(value, **options)
        end = "answered"
    except EdgeLMError as error:
        end = f"refused ({type(error).__name__})"
    except BaseException as error:
        end = f"raw ({type(error).__name__}: {str(error)[:80]})"
    return {"end": end, "mb": (resident_peak() - before) / 1e6, "s": monotonic() - began}


def is_fault(found: Mapping[str, Any]) -> bool:
    """Whether it was neither answered nor refused, or took too much memory."""
    return not found["end"].startswith(("answered", "refused")) or found["mb"] > MEMORY_MB


def main() -> int:
    """The command; 1 where something is to be mended."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.attack", description=__doc__)
    parser.add_argument("--characters", type=int, default=CHARACTERS, help="of each text  [2,000,000]")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), help="sentiment summary description")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after so many, whatever was done")
    parser.add_argument("--case", nargs=3, metavar=("TASK", "OPTION", "SHAPE"), help="this one, here")
    given = parser.parse_args()
    if given.case:
        print(json.dumps(one(*given.case, given.characters)))
        return 0
    until = monotonic() + 60 * given.minutes
    found = []
    for case in cases():
        if case[0] in given.tasks and monotonic() < until:
            result = attack(*case, given.characters)
            found.append(result)
            print(
                f"{'!' if is_fault(result) else ' '} {case[0]:<12} {case[1]:<14} {case[2]:<17} {result['end']:<28} "
                f"{result['mb']:>7,.0f} MB {result['s']:>7.1f} s",
                flush=True,
            )
    faults = sum(map(is_fault, found))
    worst, longest = max(one["mb"] for one in found), max(one["s"] for one in found)
    print(f"{len(found)} cases, {faults} faults; at most {worst:,.0f} MB above a short text, {longest:.1f} s")
    return int(faults > 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
