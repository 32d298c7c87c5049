"""Which variant runs where, why, and what the receipt says of it; goldens on machines that a bundle does not know."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgelm_runtime import placement, verify
from edgelm_runtime.bundle import Bundle, open_bundle, write_bundle
from edgelm_runtime.errors import BundleRejected, DeviceError, InputError
from edgelm_runtime.loader import load
from edgelm_runtime.machine import default_threads, machine_kind
from edgelm_runtime.memory import Choice, remember
from edgelm_runtime.placement import Engine, LoadOptions
from edgelm_runtime.tune import tune

TEXT = "the parcel is good"
Make = Callable[..., Path]


@pytest.fixture
def two_variants(tmp_path: Path, tiny_classifier: Path) -> Make:
    """A bundle whose second variant is the same graph, with `machines` and golden answers as given."""

    def make(machines: list[str] | None = None, label: str = "positive", second_label: str = "positive") -> Path:
        bundle = open_bundle(tiny_classifier)
        (first,) = bundle.manifest.variants
        second = replace(first, name="other", file="other.onnx", golden="golden-other.json")
        contents: dict[str, bytes | Path] = {name: bundle.read(name) for name in bundle.manifest.files}
        contents["other.onnx"] = bundle.read("model.onnx")
        for name, wanted in (("golden.json", label), ("golden-other.json", second_label)):
            entry = {"text": TEXT, "label": wanted, "scores": {"positive": 0.791}}
            contents[name] = json.dumps({"classification": [entry]}).encode()
        provenance = {} if machines is None else {"machines": machines}
        manifest = replace(bundle.manifest, variants=(first, second), provenance=provenance)
        return write_bundle(tmp_path / "two", manifest, contents).path

    return make


@pytest.mark.parametrize("threads", [0, -1, 10_000, 1.0, True, "2"])
def test_threads_that_cannot_be_are_refused(threads: Any) -> None:
    with pytest.raises(InputError, match=r"threads is .*accepted is an integer from 1 to 1024"):
        LoadOptions(threads=threads)


def test_the_first_variant_that_runs_is_the_default(two_variants: Make) -> None:
    receipt = load(two_variants()).receipt()
    assert (receipt.variant, receipt.device, receipt.provider) == ("fp32", "cpu", "CPUExecutionProvider")
    assert (receipt.why, receipt.threads) == ("the first for cpu", default_threads())
    assert dict(receipt.nodes) == {"CPUExecutionProvider": 2}
    assert json.loads(json.dumps(receipt.to_dict()))["nodes"] == {"CPUExecutionProvider": 2}


def test_a_variant_can_be_asked_for(two_variants: Make) -> None:
    path = two_variants()
    receipt = load(path, variant="other", threads=1).receipt()
    assert (receipt.variant, receipt.why, receipt.threads) == ("other", "asked for", 1)
    with pytest.raises(DeviceError, match="has no variant 'third'; it has fp32, other"):
        load(path, variant="third")
    with pytest.raises(DeviceError, match=r"no variant of the bundle runs on device 'cuda'.*--targets cuda"):
        load(path, device="cuda")


def test_auto_uses_what_was_tuned_as_long_as_it_fits(two_variants: Make) -> None:
    bundle = open_bundle(two_variants())
    remember(bundle, Choice("other", "cpu", 1), [])
    assert load(bundle.path).receipt().variant == "other"
    assert load(bundle.path, threads=2).receipt().threads == 2
    assert load(bundle.path, device="cpu").receipt().variant == "fp32"
    remember(bundle, Choice("gone", "cpu", 1), [])
    receipt = load(bundle.path).receipt()
    assert (receipt.variant, receipt.notes) == (
        "fp32", ("what edgelm tune found does not fit this bundle any more: ignored",)
    )  # fmt: skip
    remember(bundle, Choice("other", "no-such-device", 1), [])
    assert "does not fit" in load(bundle.path).receipt().notes[0]


def test_auto_takes_the_cpu_where_the_tuned_device_is_gone(two_variants: Make, tmp_path: Path) -> None:
    path = two_variants()
    bundle = open_bundle(path)
    variants = tuple(replace(one, providers=("cpu", "webgpu")) for one in bundle.manifest.variants)
    contents: dict[str, bytes | Path] = {name: path / name for name in bundle.manifest.files}
    bundle = write_bundle(tmp_path / "gpu", replace(bundle.manifest, variants=variants), contents)
    remember(bundle, Choice("other", "webgpu", 1), [])
    receipt = load(bundle.path).receipt()
    assert (receipt.variant, receipt.device) == ("fp32", "cpu")
    assert "what edgelm tune found is ignored: webgpu" in receipt.notes[0]
    with pytest.raises(DeviceError, match="webgpu"):
        load(bundle.path, device="webgpu")


def test_a_known_kind_of_machine_is_not_asked_again(two_variants: Make) -> None:
    receipt = load(two_variants([machine_kind()], label="negative")).receipt()
    assert (receipt.variant, receipt.notes) == ("fp32", ())


def test_a_bundle_that_does_not_say_where_it_was_made_is_not_asked(two_variants: Make) -> None:
    receipt = load(two_variants(None, label="negative")).receipt()
    assert (receipt.variant, receipt.notes) == ("fp32", ())


def test_on_a_new_kind_of_machine_the_goldens_are_replayed_once(
    two_variants: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = two_variants(["m68k"])
    replays: list[str] = []
    replay = verify.replay
    monkeypatch.setattr(verify, "replay", lambda *given: (replays.append("once"), replay(*given))[1])
    for _ in range(3):
        assert load(path).receipt().notes == ()
    assert replays == ["once"]


def test_a_variant_that_answers_otherwise_there_gives_way_to_another(two_variants: Make) -> None:
    path = two_variants(["m68k"], label="negative")
    receipt = load(path).receipt()
    assert receipt.variant == "other"
    assert receipt.notes == ("the variant fp32 answers wrongly on this kind of machine",)
    with pytest.raises(BundleRejected, match="differs on this machine"):
        load(path, variant="fp32")
    with pytest.raises(BundleRejected, match="differs on this machine"):
        load(path, device="cpu")


def test_a_bundle_without_a_variant_that_answers_right_is_refused(two_variants: Make) -> None:
    with pytest.raises(BundleRejected, match="differs on this machine"):
        load(two_variants(["m68k"], label="negative", second_label="negative"))


def test_tune_measures_every_way_and_refuses_wrong_answers(two_variants: Make) -> None:
    path = two_variants(["m68k"], label="negative")
    bundle = open_bundle(path)
    seen: list[Any] = []
    found = tune(bundle, seen.append)
    assert seen == list(found.candidates)
    assert {(one.variant, one.device) for one in seen} == {("fp32", "cpu"), ("other", "cpu")}
    assert all((one.ms is None) == (one.variant == "fp32") for one in seen)
    assert all("differs on this machine" in one.refused for one in seen if one.variant == "fp32")
    assert found.choice.variant == "other"
    receipt = load(path).receipt()
    assert (receipt.variant, receipt.why) == ("other", "the fastest that edgelm tune measured here")
    assert receipt.threads == found.choice.threads
    assert json.loads(found.file.read_text("utf-8"))["measured"] == [one.to_dict() for one in seen]
    assert "* other" in found.table()
    assert re.search(r"4 ways to run it; ms for all golden texts \([1-9]\d*\)$", found.table(), re.MULTILINE)


def test_tune_refuses_a_bundle_that_answers_wrongly_everywhere(two_variants: Make, own_memory: Path) -> None:
    bundle = open_bundle(two_variants(label="negative", second_label="negative"))
    with pytest.raises(BundleRejected, match="no variant of tiny-classifier answers on this machine"):
        tune(bundle)
    assert not list(own_memory.glob("*.json"))


def test_a_generator_is_tuned_too(tiny_generator: Path) -> None:
    bundle = open_bundle(tiny_generator)
    found = tune(bundle)
    assert all(one.ms is not None and one.ms > 0 for one in found.candidates)
    assert load(tiny_generator, task="summary").receipt().why.startswith("the fastest")


def test_a_missing_variant_file_is_refused(two_variants: Make) -> None:
    path = two_variants()
    (path / "other.onnx").unlink()
    with pytest.raises(BundleRejected, match=r"other\.onnx of the bundle is refused"):
        load(path)


def test_one_core_shares_the_session_where_there_is_one_thread(tiny_classifier: Path) -> None:
    bundle: Bundle = open_bundle(tiny_classifier)
    engine = Engine(bundle, LoadOptions(threads=1))
    assert engine.one_core() is engine.session
    wide = Engine(bundle, LoadOptions(threads=2))
    assert wide.one_core() is engine.session


def test_a_tuned_single_thread_does_not_make_batches_single(
    two_variants: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "default_threads", lambda: 3)
    bundle = open_bundle(two_variants())
    assert Engine(bundle, LoadOptions()).workers == 3
    remember(bundle, Choice("other", "cpu", 1), [])
    engine = Engine(bundle, LoadOptions())
    assert (engine.threads, engine.workers) == (1, 3)
    assert Engine(bundle, LoadOptions(threads=2)).workers == 2


def test_what_was_tuned_says_nothing_of_other_variants(two_variants: Make) -> None:
    path = two_variants(["m68k"], label="negative")
    tune(open_bundle(path))
    assert load(path).receipt().variant == "other"
    with pytest.raises(BundleRejected, match="differs on this machine"):
        load(path, variant="fp32")
