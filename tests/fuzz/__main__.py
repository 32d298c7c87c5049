"""`python -m tests.fuzz`: so many mutations of each kind, and a table of what went wrong. See --help."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic

COUNTS = {
    "tokenizers": 5_000, "graphs": 5_000, "operators": 5_000, "manifests": 3_000, "goldens": 2_000, "weights": 2_000,
    "memories": 2_000, "checkpoints": 2_000,
}  # fmt: skip
BATCH = 250
SLOW_SECONDS, MEMORY_MB = 2.0, 500.0
PATIENCE = 60.0  # seconds of a clock: a busy machine may be slow, a hang is not over then


@dataclass
class Found:
    """What became of the cases of a kind."""

    kind: str
    cases: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, number: int, detail: str) -> None:
        """Count a fault, and keep the first of each place."""
        self.counts[what] += 1
        self.examples.setdefault(f"{what} {detail}", f"{self.kind} {number}: {what}: {detail}")

    @property
    def faults(self) -> int:
        """Cases that were neither answered nor refused in time and memory."""
        return sum(self.counts[what] for what in ("crash", "hang", "raw", "slow", "memory"))


def fuzz(kind: str, count: int, seed: int, until: float = float("inf"), first: int = 0) -> Found:
    """Try cases of a kind in children, a batch in each, until `count` are done or the clock is at `until`."""
    found, number, began = Found(kind), first, monotonic()
    while number < first + count and monotonic() < until:
        number = _batch(found, seed, number, min(number + BATCH, first + count), until)
    found.seconds = monotonic() - began
    return found


def _batch(found: Found, seed: int, first: int, last: int, until: float) -> int:
    """One child; the number of the case that comes next."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.child", found.kind, str(seed), str(first), str(last)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    number, began, ended = first, False, False
    hung = threading.Event()

    def kill() -> None:
        hung.set()
        child.kill()

    assert child.stdout is not None
    timer = threading.Timer(PATIENCE * 3, kill)  # the first one imports everything
    timer.start()
    for line in child.stdout:
        timer.cancel()
        said = json.loads(line)
        if "begin" in said:
            number, began = said["begin"], True
        else:
            _count(found, number, said)
            began, ended = False, monotonic() > until
            if ended:
                break
        timer = threading.Timer(PATIENCE, kill)
        timer.start()
    timer.cancel()
    child.kill() if ended else None
    code = child.wait()
    child.stdout.close()
    if ended:
        return last
    if began or code:
        found.cases += 1
        found.add("hang" if hung.is_set() else "crash", number, f"case {number}: the process ended with {code}")
        return number + 1
    return last


def _count(found: Found, number: int, said: dict[str, object]) -> None:
    found.cases += 1
    found.counts[str(said["end"])] += 1
    if said["end"] == "raw":
        found.counts["raw"] -= 1
        found.add("raw", number, str(said["where"]))
    seconds, grown = float(str(said["s"])), float(str(said["mb"]))
    if seconds > SLOW_SECONDS:
        found.add("slow", number, f"{seconds:.1f} s")
    if grown > MEMORY_MB:
        found.add("memory", number, f"{grown:,.0f} MB")


def main() -> int:
    """The command; 1 where something is to be mended."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[*COUNTS, []], help="tokenizers graphs ...; all of them")
    parser.add_argument("--count", type=int, help="cases of each kind, in the place of 2,000 to 5,000")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after so many, whatever was done")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to try one again")
    given = parser.parse_args()
    until = monotonic() + 60 * given.minutes
    rows = []
    print(
        f"{'kind':<12} {'cases':>6} {'answered':>9} {'refused':>8} {'crash':>6} {'hang':>5} {'raw':>5} {'> 2 s':>6} "
        f"{'> 500 MB':>9} {'time':>8}"
    )
    for kind in given.kinds or COUNTS:
        found = fuzz(kind, given.count or COUNTS[kind], given.seed, until, given.first)
        counts = found.counts
        print(
            f"{kind:<12} {found.cases:>6,} {counts['answered']:>9,} {counts['refused']:>8,} {counts['crash']:>6} "
            f"{counts['hang']:>5} {counts['raw']:>5} {counts['slow']:>6} {counts['memory']:>9} "
            f"{found.seconds:>6,.0f} s",
            flush=True,
        )
        rows.append(found)
    for found in rows:
        for example in found.examples.values():
            print(example)
    return int(any(found.faults for found in rows))


if __name__ == "__main__":
    sys.exit(main())
