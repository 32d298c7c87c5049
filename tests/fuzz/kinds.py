"""What is mutated, and how it is used: as a program would that loads it and answers a few texts."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from edgelm_runtime import load
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import EdgeLMError, TokenizerFailed
from edgelm_runtime.memory import Choice, file_for, recall, remember
from edgelm_runtime.session import SessionOptions, create_session, run
from edgelm_runtime.tokenizer import TextTokenizer
from edgelm_runtime.verify import verify_bundle
from edgelm_runtime.vetting import trial
from edgelm_runtime.vetting.graph import check_graph
from edgelm_runtime.vetting.trial import tokenizer_content
from edgelm_runtime.weights import Weights
from tests.fuzz import mutate, operators
from tests.fuzz.tokenizers import every_tokenizer

DATA = Path(__file__).parents[1] / "data"
ENCODER, GENERATOR = DATA / "tiny-classifier", DATA / "tiny-generator"
TEXTS = (
    "the parcel is good", "质量很好", "x" * 40, "x" * 3_000, " " * 300 + "a", "7.7.7" * 50, "😀" * 200, "\0\ud800",
    "[SEP] good [CLS]<s>", "\u0301" * 300, "\ufdfa" * 300,
)  # fmt: skip


Use = Callable[[], object]


class Kind(ABC):
    """One kind of file; `folder` is a scratch folder of the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.environ["EDGELM_HOME"] = str(folder / "home")
        trial.is_tried = lambda data, file: False  # what it would find is to be found by the checks alone

    @abstractmethod
    def made(self, random: Random) -> Use:
        """Make one mutation, and what uses it, which raises EdgeLMError where it is refused."""


class _InBundle(Kind):
    """A file of the tiny bundles, written into copies of them with its size and hash."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for source in (ENCODER, GENERATOR):
            shutil.copytree(source, folder / source.name, dirs_exist_ok=True)

    def put(self, source: Path, files: Mapping[str, bytes]) -> Path:
        """The bundle with other files, all hashes right."""
        target = self.folder / source.name
        manifest = json.loads((source / "edgelm.json").read_bytes())
        for name in manifest["files"]:
            data = files.get(name)
            if data is None:
                data = (source / name).read_bytes()
            (target / name).write_bytes(data)
            manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (target / "edgelm.json").write_bytes(json.dumps(manifest).encode())
        return target


class Graphs(_InBundle):
    def made(self, random: Random) -> Use:
        source = random.choice((ENCODER, GENERATOR))
        graph = (source / "model.onnx").read_bytes()
        changed = mutate.data(random, graph) if random.random() < 0.2 else mutate.model(random, graph)
        folder = self.put(source, {"model.onnx": changed})
        return lambda: (_answers(folder, source), verify_bundle(folder))


class Operators(Kind):
    """Graphs of one node, which get further than a changed model does."""

    def made(self, random: Random) -> Use:
        data = operators.graph(random)
        return lambda: self._run(data)

    @staticmethod
    def _run(data: bytes) -> None:
        check_graph(data)
        session = create_session(data, SessionOptions(1))
        feeds = {"x": np.linspace(-2, 2, 64, dtype=np.float32).reshape(2, 4, 8)}
        run(session, feeds, ["y"])


class Tokenizers(_InBundle):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._seeds = every_tokenizer()

    def made(self, random: Random) -> Use:
        source = random.choice((ENCODER, GENERATOR))
        own = json.loads((source / "tokenizer.json").read_bytes())
        seed = random.choice((*self._seeds, own))
        if random.random() < 0.1:
            changed = mutate.data(random, mutate.text(seed))
        else:
            changed = mutate.text(mutate.tree(random, seed))
        folder = self.put(source, {"tokenizer.json": changed})
        return lambda: self._read(folder, source if seed == own else None)

    @staticmethod
    def _read(folder: Path, source: Path | None) -> None:
        if source is not None:
            _answers(folder, source)
        bundle = open_bundle(folder)
        tokenizer = TextTokenizer(tokenizer_content(bundle), bundle.manifest.tokenizer)
        for text in TEXTS:
            with suppress(TokenizerFailed):
                parts = tokenizer.encode_parts(text, "x")
                tokenizer.decode([*tokenizer.encode(text), *parts.ids][:64])


class Goldens(_InBundle):
    def made(self, random: Random) -> Use:
        source = random.choice((ENCODER, GENERATOR))
        golden = (source / "golden.json").read_bytes()
        if random.random() < 0.2:
            changed = mutate.data(random, golden)
        else:
            changed = mutate.text(mutate.tree(random, json.loads(golden)))
        folder = self.put(source, {"golden.json": changed})
        return lambda: verify_bundle(folder)


class Manifests(_InBundle):
    def made(self, random: Random) -> Use:
        source = random.choice((ENCODER, GENERATOR))
        folder = self.put(source, {})
        manifest = (folder / "edgelm.json").read_bytes()
        if random.random() < 0.2:
            changed = mutate.data(random, manifest)
        else:
            changed = mutate.text(mutate.tree(random, json.loads(manifest)))
        (folder / "edgelm.json").write_bytes(changed)
        return lambda: _answers(folder, source)


class Headers(Kind):
    """The header of a .safetensors file, and a graph that has its tensor outside."""

    def made(self, random: Random) -> Use:
        header = {"__metadata__": {"a": "b"}, "weights": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
        if random.random() < 0.3:
            text = mutate.data(random, json.dumps(header).encode())
        else:
            text = mutate.text(mutate.tree(random, header))
        data = len(text).to_bytes(8, "little") + text + np.float32([1.5, -2]).tobytes()
        if random.random() < 0.2:
            data = mutate.data(random, data) or b"\0"
        memory = mmap.mmap(-1, len(data))
        memory[:] = data
        return lambda: self._run(memory)

    @staticmethod
    def _run(memory: mmap.mmap) -> None:
        session = create_session((DATA / "external.onnx").read_bytes(), SessionOptions(1), Weights("weights", memory))
        run(session, {"input": np.zeros(2, np.float32)}, ["output"])


class Memories(Kind):
    """What `edgelm tune` remembers of a bundle."""

    def made(self, random: Random) -> Use:
        bundle = open_bundle(ENCODER)
        path = remember(bundle, Choice(bundle.manifest.variants[0].name, "cpu", 1), [])
        known = path.read_bytes()
        if random.random() < 0.3:
            changed = mutate.data(random, known)
        else:
            changed = mutate.text(mutate.tree(random, json.loads(known)))
        file_for(bundle).write_bytes(changed)
        return lambda: (recall(bundle), load(ENCODER)(TEXTS[0]))


class Checkpoints(Kind):
    """The JSON files of a checkpoint, read as `edgelm doctor` and an export read them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from tests.export.tiny import save_bert, save_gpt2

        self._seeds = [save_bert(folder / "seed-bert"), save_gpt2(folder / "seed-gpt2")]

    def made(self, random: Random) -> Use:
        from edgelm_export.checkpoint import load_checkpoint
        from edgelm_export.checkpoint.sources import Origin
        from edgelm_export.doctor import diagnose

        seed = random.choice(self._seeds)
        target = self.folder / "checkpoint"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(seed, target)
        path = random.choice(sorted(target.glob("*.json")))
        given = path.read_bytes()
        changed = (
            mutate.text(mutate.tree(random, json.loads(given))) if random.random() < 0.8 else mutate.data(random, given)
        )
        path.write_bytes(changed)
        return lambda: (diagnose(Origin(target, None, False)), load_checkpoint(target))


KINDS: Mapping[str, type[Kind]] = {
    "tokenizers": Tokenizers,
    "graphs": Graphs,
    "operators": Operators,
    "manifests": Manifests,
    "goldens": Goldens,
    "weights": Headers,
    "memories": Memories,
    "checkpoints": Checkpoints,
}


def _answers(folder: Path, source: Path) -> None:
    """Load a bundle and let it answer; a text that is refused costs itself alone."""
    options: dict[str, Any] = {} if source == ENCODER else {"max_new_tokens": 4}
    task = "sentiment" if source == ENCODER else "summary"
    model = load(folder, task=task, threads=1)
    for answer in model.try_batch(TEXTS, **options):
        if not isinstance(answer, EdgeLMError):
            json.dumps(answer.to_dict())
