"""Does a bundle answer on this machine as it did where it was made? Every hash, then every golden answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from . import memory
from .bundle import Bundle, open_bundle
from .device import AUTO, CPU, runs_here
from .errors import BundleRejected, TokenizerFailed
from .goldens import SCORE_TOLERANCE, replay
from .loader import known_tasks
from .machine import cpu_name, machine_kind
from .placement import DEFAULTS, LoadOptions, with_note
from .tasks import task_class
from .timing import Stopwatch
from .visible import visible


@dataclass(frozen=True)
class VerifyReport:
    """What was checked.

    `score_difference` is the largest distance of a probability from its golden value, None where there are only texts.
    """

    bundle: str
    path: str
    files: int
    bytes: int
    golden: int
    score_difference: float | None
    variant: str
    device: str
    cpu: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain strings and numbers for JSON."""
        return asdict(self)

    def table(self) -> str:
        """The report for a person."""
        rows = {
            "folder": self.path,
            "hashes": f"{self.files} files, {self.bytes:,} bytes: all as in the manifest",
            "golden answers": f"{self.golden}: all the same",
            "ran": f"{self.variant} on {self.device}",
            "machine": self.cpu,
            "time": f"{self.seconds:.1f} s",
        }
        if self.score_difference is not None:
            rows["scores"] = f"at most {self.score_difference:.4f} apart (accepted: {SCORE_TOLERANCE})"
        return "\n".join(
            [f"{visible(self.bundle)}: verified", *(f"  {name:<15} {visible(value)}" for name, value in rows.items())]
        )


def verify_bundle(path: str | Path, options: LoadOptions = DEFAULTS) -> VerifyReport:
    """Hash every file of the bundle, then replay the golden answers of the variant that the options choose.

    Raises:
        BundleNotFound: there is no bundle at `path`.
        BundleRejected: a file differs from the manifest, the variant has no usable golden answers, or an answer differs
            from its golden one: a label or a text that is not the same, a score further off than SCORE_TOLERANCE.
        DeviceError: the device that was asked for cannot run it.
    """
    start = perf_counter()
    bundle = open_bundle(Path(path), verify="all")
    models = {task: made(bundle, task, options) for task in known_tasks(bundle)}
    replays = [replay(bundle, task, model) for task, model in models.items()]
    differences = [one.score_difference for one in replays if one.score_difference is not None]
    receipt = next(iter(models.values())).receipt()
    return VerifyReport(
        bundle=bundle.manifest.name,
        path=str(bundle.path),
        files=len(bundle.manifest.files),
        bytes=sum(entry.size for entry in bundle.manifest.files.values()),
        golden=sum(one.answers for one in replays),
        score_difference=max(differences, default=None),
        variant=receipt.variant,
        device=receipt.device,
        cpu=cpu_name(),
        seconds=perf_counter() - start,
    )


def made(bundle: Bundle, task: str, options: LoadOptions) -> Any:
    """A model of the task. Raises what the task's class raises; no customer's text is read yet, so a tokenizer that
    fails is the bundle's fault: BundleRejected."""
    try:
        return task_class(task)(bundle, options)
    except TokenizerFailed as error:
        raise BundleRejected(
            f"{bundle.manifest.tokenizer.file}: {error}",
            what=bundle.manifest.tokenizer.file,
            expected="a tokenizer that reads the bundle's own prompts",
            found=str(error),
        ) from error


def checked_here(bundle: Bundle, task: str, options: LoadOptions, watch: Stopwatch | None = None) -> Any:
    """A model of the task; on a kind of machine where the bundle was never verified, one that answers its goldens.

    There the answers are asked for once a process, unless `edgelm tune` did so before. A variant that answers otherwise
    gives way to the next one where the device and variant were left to edgelm, and the receipt says so. Raises what the
    task's class raises, and BundleRejected where no variant answers as it should. `watch` is given the time that both
    take, as the stages session and goldens.
    """
    watch = watch or Stopwatch()
    with watch("session"):
        model = made(bundle, task, options)
    try:
        with watch("goldens"):
            _answers_right(bundle, task, model)
    except BundleRejected as refused:
        if options.device != AUTO or options.variant is not None:
            raise
        return _another(bundle, task, options, model, refused)
    return model


def _another(bundle: Bundle, task: str, options: LoadOptions, wrong: Any, refused: BundleRejected) -> Any:
    """The first of the other variants that answers its goldens on the same device. Raises `refused` where none does."""
    for variant in bundle.manifest.variants:
        if variant == wrong.engine.variant or not runs_here(variant, wrong.engine.plan.device):
            continue
        try:
            other = checked_here(bundle, task, replace(options, variant=variant.name))
        except BundleRejected:
            continue
        with_note(other.engine, f"the variant {wrong.engine.variant.name} answers wrongly on this kind of machine")
        return other
    raise refused


_right: set[tuple[str, ...]] = set()


def _answers_right(bundle: Bundle, task: str, model: Any) -> None:
    """Replay the goldens where nobody did on this kind of machine: neither the maker, nor `edgelm tune`, nor we before.

    A bundle that does not say where it was made is believed. Raises BundleRejected where an answer differs.
    """
    machines, device = bundle.manifest.provenance.get("machines"), model.engine.plan.device
    if not isinstance(machines, list) or (device == CPU and machine_kind() in machines):
        return
    variant = model.engine.variant
    key = (task, str(device), *(bundle.manifest.files[name].sha256 for name in (*variant.files, variant.goldens)))
    tuned = memory.recall(bundle).choice
    if key not in _right and (tuned is None or (tuned.variant, tuned.device) != (variant.name, str(device))):
        replay(bundle, task, model)
        _right.add(key)
