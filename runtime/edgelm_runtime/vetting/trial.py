"""A tokenizer that this machine has not seen: tried once in a process of its own, and remembered by its digest.

The checks of `tokenizer` know components and sizes. What they do not know, the library may still abort on, and take the
program with it: so it reads some awkward texts in a child first, with bounded time and memory.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from .. import child
from ..bundle import Bundle
from ..errors import BundleRejected, TokenizerFailed
from ..guarded import GuardedTokenizer, library_version
from ..memory import home
from .tokenizer import MAX_BYTES, check_tokenizer

EDITION = 1  # raised when the checks or the texts change, so that what passed is looked at again
CPU_SECONDS, WALL_SECONDS = 60, 300  # 250,000 tokens take 3 s on a server, ten times as long on an old till
MEMORY_BYTES = 3 << 30
_BEGUN = b"begun"
_LENGTH = 4_000  # characters of a text that goes on and on
_TOKENS = 64  # whose text is read back
TEXTS = (
    "", " ", "\0", "\ufeff", "a", "The parcel came late, but it's GOOD!\r\n\tTwo  spaces", "3.5 kg ×１２",
    "质量很好，值得买", "déjà vu e\u0301", "\ufdfa\u0130\ufb03", "😀👩\u200d👩\u200d👧🏽", "\U0010fffd\U000e0041",
    "[SEP]<s></s><|endoftext|><unk>", "\u202e\u200b\u2028",
)  # fmt: skip
RUNS = ("x", " ", "\n", "7", "7.", "x y ", "物", "😀", "\u0301", "\ufdfa", "▁", "Ġ", "[", "<unk>", "''", "aA")


def tokenizer_content(bundle: Bundle) -> bytes:
    """The bytes of a bundle's tokenizer.json, checked; those of a bundle in this package are as good as its code.

    What this machine knows by its digest is not looked at again. Raises BundleRejected.
    """
    file = bundle.manifest.tokenizer.file
    data = bundle.read(file, MAX_BYTES)
    if bundle.shipped:
        return data
    memory = _memory(bundle.manifest.files[file].sha256)
    if memory is not None and memory.exists():
        return data
    check_tokenizer(data, file)
    if memory is not None and _can_be_written(memory) and is_tried(data, file):
        _remember(memory)
    return data


def is_tried(data: bytes, file: str) -> bool:
    """Let a child read texts with the tokenizer; False where no child can be had. Raises BundleRejected."""
    if not child.can_start():
        return False
    try:
        done = child.run_python("vetting.trial:main", data, WALL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise _failed(file, f"it read texts for more than {WALL_SECONDS} s") from error
    except OSError:
        return False
    if not done.stdout.startswith(_BEGUN):
        return False  # the child could not be set up: that says nothing of the tokenizer
    if done.returncode:
        raise _failed(file, f"the process that tried it ended with {child.how_ended(done.returncode)}")
    return True


def main() -> None:
    """What the child does: it ends with 0 where every text is read, or refused."""
    child.limit(CPU_SECONDS, MEMORY_BYTES)
    data = sys.stdin.buffer.read()
    sys.stdout.buffer.write(_BEGUN)
    sys.stdout.buffer.flush()
    try_tokenizer(data)


def try_tokenizer(data: bytes) -> None:
    """Read every text with the tokenizer, and write its tokens; one that is refused costs itself alone."""
    tokenizer = GuardedTokenizer(data, "tokenizer.json")
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()][:_TOKENS]
    runs = [run * (_LENGTH // len(run)) for run in (*RUNS, *added)]
    for reader in (tokenizer, tokenizer.literal_copy(added)):
        for text in (*TEXTS, *added, *runs):
            with suppress(TokenizerFailed):
                reader.decode(reader.encode(text).ids[:_TOKENS])


def _memory(sha256: str) -> Path | None:
    """The file that is there where the tokenizer passed; None where there is no home folder."""
    key = hashlib.sha256(f"{EDITION} {library_version()} {sha256}".encode()).hexdigest()[:32]
    try:
        return home() / "tokenizers" / key
    except RuntimeError:
        return None


def _can_be_written(memory: Path) -> bool:
    """Whether what is found can be remembered: where it cannot, every start would pay for a trial."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(memory.parent, os.W_OK)


def _remember(memory: Path) -> None:
    try:
        memory.touch()
    except OSError:
        return  # a full disk: it is tried again the next time


def _failed(file: str, why: str) -> BundleRejected:
    return BundleRejected(
        f"{file} is refused: {why}; take the bundle from where it was made, or export it again",
        what=file,
        expected="a tokenizer that reads any text",
        found=why,
    )
