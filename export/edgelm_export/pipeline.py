"""The spine of an export: load -> graph -> verify -> write."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgelm_export import tagging, taskmetrics, text_parity, verify
from edgelm_export.apart import scratch_beside, written_in
from edgelm_export.checkpoint import Checkpoint, load_checkpoint
from edgelm_export.checkpoint.reading import GENERATORS
from edgelm_export.checkpoint.sources import Origin, opened
from edgelm_export.draft import checkpoint_task, draft_manifest
from edgelm_export.finetune.data import Row
from edgelm_export.goldens import make_goldens
from edgelm_export.graph import WEIGHTS_FILE
from edgelm_export.graph_reference import reference_of
from edgelm_export.metrics import format_table
from edgelm_export.quantize import CacheScales, Scheme, scheme
from edgelm_export.quantize.calibration import calibration_texts
from edgelm_export.quantize.ranges import Range, Span
from edgelm_export.search import Goal, check_goal, report
from edgelm_export.search.run import Found, search
from edgelm_export.targets import Built, check_targets, schemes_for
from edgelm_export.text_parity import Gate, TextParity
from edgelm_export.tolerance import TOLERANCES
from edgelm_export.trim import trim
from edgelm_runtime.bundle import Content, open_bundle, write_bundle
from edgelm_runtime.errors import ExportError, InputError, ParityError
from edgelm_runtime.manifest import GOLDEN_NAME, Manifest, Variant
from edgelm_runtime.tasks.reading import Text

# By precision, in the order in which they are tried: the fastest first, then those that outliers hurt less.
ENCODER_SCHEMES: Mapping[str, tuple[str, ...]] = {
    "int8": ("int8-mixed", "int8-folded", "int8", "int8-blocks"), "int4": ("int4-64", "int4-hqq"), "fp32": ("fp32",),
}  # fmt: skip
DECODER_SCHEMES: Mapping[str, tuple[str, ...]] = {**ENCODER_SCHEMES, "int8": ("int8-static", "int8-blocks")}
# A text is read and an answer written: of scales that do not change with the neighbours the finer ones first.
BOTH_SCHEMES: Mapping[str, tuple[str, ...]] = {**ENCODER_SCHEMES, "int8": ("int8-mixed", "int8-static", "int8-blocks")}
MODEL_FILE, ENCODER_FILE, TOKENIZER_FILE = "model.onnx", "encoder.onnx", "tokenizer.json"


@dataclass(frozen=True)
class ExportOptions:
    """What to export, to where, and what the manifest is to say.

    ``block_size`` is that of int4, 32, 64 or 128; without it 64, and 32 with HQQ where 64 answers differently.
    ``kv_cache`` "int8" stores the keys and values of a generator in a quarter of the bytes.
    ``trim_vocab`` is a corpus file, or languages such as "zh,en": token pieces that neither needs are dropped.
    ``targets`` are those of ``targets.TARGETS``; what they want in static int8 is calibrated on the texts of
    ``calibration``, or on edgelm's own.
    ``precision`` "auto" searches a scheme for every layer that reaches the ``goal`` on the rows of ``eval_file``.
    With ``pairs`` a classifier reads two texts at once; ``aggregation`` is how a token classifier's tokens become
    entities, one of ``manifest.AGGREGATIONS``; None tells it from the checkpoint.
    ``special_tokens`` says what those in a text are, "text" or "parse"; by default "text" for a generator alone.
    ``base`` is the model that an adapter in ``checkpoint`` was trained on; ``allow_pickle`` reads pickled weights.
    ``labels`` name the classes of a classifier, in the order of its logits.
    ``prompts`` are templates by task ("summary": "{text}\\nTL;DR:") for a generator whose folder has no prompts.json.
    ``eos`` are tokens that end a generator's answer, in the place of those that the folder names.
    """

    checkpoint: Path
    out: Path
    task: str | None = None
    pairs: bool = False
    precision: str = "int8"
    block_size: int | None = None
    kv_cache: str = "fp32"
    name: str | None = None
    version: str = "1"
    prompts: Mapping[str, str] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    trim_vocab: str | None = None
    eval_file: Path | None = None
    targets: tuple[str, ...] = ("cpu",)
    calibration: Path | None = None
    calibration_method: str = "minmax"
    licence: str = ""
    training_data: tuple[str, ...] = ()
    recipe: tuple[str, ...] = ()
    force: bool = False
    goal: Goal = field(default_factory=Goal)
    special_tokens: str | None = None
    base: Path | None = None
    allow_pickle: bool = False
    aggregation: str | None = None
    labels: tuple[str, ...] = ()
    eos: tuple[str, ...] = ()

    @property
    def origin(self) -> Origin:
        """Where the checkpoint comes from."""
        return Origin(self.checkpoint, self.base, self.allow_pickle)


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares with the checkpoint."""

    out: Path
    scheme: str
    checkpoint_bytes: int
    bundle_bytes: int
    parity: verify.Parity
    latency: Mapping[str, float]
    metrics: Mapping[str, Mapping[str, float]]
    differences: Sequence[taskmetrics.Difference]
    variants: Mapping[str, verify.Parity]
    vocabulary: str = ""
    search: str = ""
    text_parity: TextParity | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return {**asdict(self), "out": str(self.out)}

    def table(self) -> str:
        """The report for a person."""
        parity, ratio = self.parity, self.bundle_bytes / self.checkpoint_bytes
        rows: list[list[object]] = [
            ["size", f"{self.bundle_bytes / 1e6:.1f} MB, {ratio:.3f} of the checkpoint in float32"],
            ["scheme", self.scheme],
            ["parity", _parity(parity)],
            ["agreement", f"{parity.agreement:.1%} with the checkpoint"],
            *_texts(self.text_parity),
            ["logits", f"off by {parity.largest_error:.4f} at worst, {parity.mean_error:.4f} on average"],
            *(_divergence(parity) if parity.kl > 0 else []),
            *(_writing(parity) if "token_ms" in self.latency else []),
            *([name.replace("_", " "), value] for name, value in self.latency.items()),
        ]
        if self.vocabulary:
            rows.insert(1, ["vocabulary", self.vocabulary])
        rows += [[f"variant {name}", _parity(other)] for name, other in self.variants.items()]
        text = f"{self.out}\n{format_table(rows, ('what', 'measured'))}"
        if self.metrics:
            text += "\n\n" + format_table(taskmetrics.metric_columns(self.metrics), ("metric", *self.metrics))
        if self.differences:
            text += "\n\n" + taskmetrics.difference_table(self.differences, "torch", "bundle")
        if self.search:
            text += "\n\n" + self.search
        return text


def _texts(parity: TextParity | None) -> list[list[object]]:
    return [] if parity is None else [["text to answer", parity.summary()]]


def _divergence(parity: verify.Parity) -> list[list[object]]:
    return [["KL divergence", f"{parity.kl:.6f} nats on average, {parity.largest_kl:.6f} at worst"]]


def _writing(parity: verify.Parity) -> list[list[object]]:
    return [
        ["step by step", f"distance {parity.stepwise:.4f} to reading at once"],
        ["cache", f"{parity.cached:.1%} of greedy tokens are those found without it"],
    ]


def _parity(parity: verify.Parity) -> str:
    return f"{parity.inputs} inputs: distance {parity.worst:.4f} at worst, {parity.mean:.4f} on average"


def export(options: ExportOptions) -> ExportReport:
    """Turn a checkpoint into a verified bundle in ``options.out``.

    Raises:
        UnsupportedCheckpoint: something in the folder cannot be exported.
        ParityError: the bundle does not answer like the checkpoint; nothing is left behind.
        ExportError: the target exists, or cannot be written.
        InputError: an evaluation file or a prompt that cannot be used.
    """
    if options.out.exists() and not options.force:
        raise ExportError(f"{options.out} exists; name another --out, or add --force to replace it")
    check_goal(options.goal, options.precision, options.eval_file)
    task = checkpoint_task(options.task)
    with opened(options.origin, options.out.parent) as found:
        checkpoint = load_checkpoint(
            found.folder, task, options.out.parent, pairs=options.pairs, labels=options.labels, eos=options.eos
        )
        return _exported(checkpoint, options)


def _exported(checkpoint: Checkpoint, options: ExportOptions) -> ExportReport:
    _check(checkpoint, options)
    if options.special_tokens is not None:
        spec = replace(checkpoint.tokenizer, special_tokens=options.special_tokens)
        checkpoint = replace(checkpoint, tokenizer=spec)
    checkpoint, draft, vocabulary = _drafted(checkpoint, options)
    rows = taskmetrics.evaluation_rows(options.eval_file, draft, draft.serves) if options.eval_file else []
    texts = calibration_texts(options.calibration, draft.languages) if options.calibration else []
    reference = reference_of(checkpoint)
    cases, ranges = verify.consult(checkpoint, draft, texts, reference=reference)
    gate = text_parity.ask(checkpoint, draft, reference)
    del reference
    gc.collect()
    if draft.task == "token-classification" and options.aggregation is None:
        tagging.note_split_words(checkpoint.tokenizer_json, draft, [(case.text, case.expected) for case in cases])
    with scratch_beside(options.out) as scratch:
        source = _Source(checkpoint, draft, ranges, gate, scratch)
        chosen = _chosen(source, cases, rows, options)
        others = _others(source, cases, options, [*texts] or [case.text for case in cases])
        metrics, differences = _metrics(source, chosen, rows)
        latency = verify.measure_latency(chosen.folder, cases)
        quality = {**_quality(chosen, options, others), "metrics": metrics}
        if differences:
            quality["differences"] = [asdict(one) for one in differences]
        (first,) = open_bundle(chosen.folder, verify="lazy").manifest.variants
        contents: dict[str, Content] = {
            TOKENIZER_FILE: checkpoint.tokenizer_json, GOLDEN_NAME: make_goldens(chosen.folder, cases),
            **{name: chosen.folder / name for name in first.files},
        }  # fmt: skip
        for built in others:
            contents |= built.contents()
        wanted = schemes_for(options.targets)
        variants = (first, *(built.placed(wanted[built.scheme]) for built in others))
        manifest = replace(draft, variants=variants, quality=quality)
        bundle = write_bundle(options.out, manifest, contents, force=options.force)
    if chosen.found is not None:
        chosen.found.memory.forget()
    size = sum(entry.size for entry in bundle.manifest.files.values())
    further = {built.scheme: built.parity for built in others}
    return ExportReport(
        options.out, chosen.scheme, checkpoint.float32_bytes, size, chosen.parity, latency, metrics, differences,
        further, vocabulary, "" if chosen.found is None else report.table(chosen.found), chosen.texts,
    )  # fmt: skip


def _check(checkpoint: Checkpoint, options: ExportOptions) -> None:
    """Raise InputError for options that are not for this checkpoint."""
    if options.kv_cache != "fp32" and checkpoint.task != "text-generation":
        raise InputError(
            f"{options.checkpoint} is for {checkpoint.task}, a cache in 8 bits is for text-generation; "
            "leave out --kv-cache"
        )
    check_targets(options.targets, checkpoint.task)
    if options.calibration is not None and checkpoint.task in GENERATORS:
        raise InputError(f"{options.checkpoint} is a generator, which is not calibrated; leave out --calibration")


@dataclass(frozen=True)
class _Chosen:
    """The first graph of the bundle: its scheme and precision, a bundle with it, and what a search found."""

    scheme: str
    folder: Path
    precision: str
    parity: verify.Parity
    texts: TextParity
    found: Found | None = None


def _chosen(source: _Source, cases: Sequence[verify.Case], rows: Sequence[Row], options: ExportOptions) -> _Chosen:
    """What a search finds, or the first scheme of the precision that answers like the checkpoint."""
    names = _schemes(options, source.checkpoint.task)
    if options.kv_cache == "int8":
        source = replace(source, cache=verify.cache_scales(source.bundle(source.scheme(names[0])), cases))
    found = _searched(source, cases, rows, options)
    if found is None:
        used, folder, parity, texts = _accepted(source, cases, [source.scheme(name) for name in names])
        return _Chosen(used, folder, options.precision, parity, texts)
    point = found.point
    texts = source.gate.measure(point.folder, point.precision)
    return _Chosen("per-layer", point.folder, point.precision, point.parity, texts, found)


def _quality(chosen: _Chosen, options: ExportOptions, others: Sequence[Built]) -> dict[str, Any]:
    """What the manifest says of the bundle, but for the metrics."""
    quality: dict[str, Any] = {
        "scheme": chosen.scheme, "parity": asdict(chosen.parity), "text_parity": chosen.texts.to_dict(),
    }  # fmt: skip
    if chosen.found is not None:
        quality["search"] = report.summary(chosen.found)
    if options.kv_cache != "fp32":
        quality["kv_cache"] = options.kv_cache
    if options.eval_file:
        quality["metrics_on"] = options.eval_file.name
    if others:
        quality["variants"] = {built.scheme: asdict(built.parity) for built in others}
    return quality


def _drafted(checkpoint: Checkpoint, options: ExportOptions) -> tuple[Checkpoint, Manifest, str]:
    """The checkpoint, its vocabulary cut where that is asked for, the draft of its manifest, and what was cut."""
    variant = variant_of(options.precision)
    draft = draft_manifest(checkpoint, options, variant)
    if options.trim_vocab is None:
        return checkpoint, draft, ""
    before = () if draft.embedding is None else draft.embedding.prompts.values()
    templates = [*draft.prompts.values(), *(f"{prompt}{{text}}" for prompt in before if "{" not in prompt)]
    cut, trimmed = trim(checkpoint, options.trim_vocab, templates)
    draft = draft_manifest(cut, options, variant)
    return cut, replace(draft, provenance={**draft.provenance, "vocabulary": asdict(trimmed)}), str(trimmed)


def _searched(
    source: _Source, cases: Sequence[verify.Case], rows: Sequence[Row], options: ExportOptions
) -> Found | None:
    """What the search chose, with its report where one is asked for; None where nothing is to be searched."""
    if options.precision != "auto":
        return None
    found = search(source, cases, rows, options.goal, options.out.with_name(f".{options.out.name}.search.json"))
    if options.goal.report is not None:
        report.write(found, options.goal.report)
    return found


@dataclass(frozen=True)
class _Source:
    """What every bundle of one export is made from, and where."""

    checkpoint: Checkpoint
    draft: Manifest
    ranges: Mapping[str, Range]
    gate: Gate
    scratch: Path
    cache: CacheScales | None = None
    spans: Mapping[str, Span] | None = None

    def scheme(self, name: str) -> Scheme:
        """The scheme of that name, with what was measured of this checkpoint."""
        return scheme(name, self.ranges, self.cache, self.spans)

    def bundle(self, used: Scheme) -> Path:
        """A bundle in a scheme, without goldens and quality figures, for the runtime to be measured with.

        Its folder has the scheme's name: there is one bundle of a name.
        """
        checkpoint = self.checkpoint
        with written_in(self.scratch):
            model = checkpoint.architecture.build(checkpoint.weights, checkpoint.config, used, checkpoint.wanted)
        contents: dict[str, Content] = {
            MODEL_FILE: model.graph, TOKENIZER_FILE: checkpoint.tokenizer_json, GOLDEN_NAME: b"{}",
        }  # fmt: skip
        variant = variant_of(used.precision)
        if model.weights is not None:
            contents[WEIGHTS_FILE] = (model.weights.header, model.weights.numbers)
            variant = replace(variant, weights=WEIGHTS_FILE)
        if model.encoder is not None:
            contents[ENCODER_FILE] = model.encoder
            variant = replace(variant, encoder=ENCODER_FILE)
        manifest = replace(self.draft, variants=(variant,))
        place = self.scratch / (used.name if used.cache is None else f"{used.name}-int8-cache")
        try:
            return write_bundle(place, manifest, contents).path
        finally:
            model.close()


def _schemes(options: ExportOptions, task: str) -> tuple[str, ...]:
    if options.block_size is None:
        chosen = {"text-generation": DECODER_SCHEMES, "text2text-generation": BOTH_SCHEMES}
        return chosen.get(task, ENCODER_SCHEMES)["int8" if options.precision == "auto" else options.precision]
    if options.precision != "int4":
        raise InputError(f"a block size is for int4, not for {options.precision}; leave one of the two out")
    return (f"int4-{options.block_size}",)


def _accepted(
    source: _Source, cases: Sequence[verify.Case], schemes: Sequence[Scheme]
) -> tuple[str, Path, verify.Parity, TextParity]:
    """The first of the schemes whose bundle answers like the checkpoint, by token ids and by raw texts.

    As (its name, folder, parity, text parity).
    """
    refusal: ParityError | None = None
    for used in schemes:
        folder = source.bundle(used)
        parity = verify.measure_parity(folder, cases)
        if not parity.within(TOLERANCES[used.precision]):
            refusal = parity.error(used.precision)
            continue
        try:
            return used.name, folder, parity, source.gate.measure(folder, used.precision)
        except ParityError as error:
            refusal = error
    raise refusal or TypeError("no scheme to try")


def _others(
    source: _Source, cases: Sequence[verify.Case], options: ExportOptions, texts: Sequence[Text]
) -> list[Built]:
    """The variants that further targets want. Raises ParityError where one does not answer like the checkpoint."""
    wanted = schemes_for(options.targets)
    if "qdq-int8" in wanted:
        spans = verify.spans_of(source.checkpoint, texts, options.calibration_method)
        source = replace(source, spans=spans)
    return [_built(source, cases, name) for name in wanted]


def _built(source: _Source, cases: Sequence[verify.Case], name: str) -> Built:
    _, folder, parity, _ = _accepted(source, cases, [source.scheme(name)])
    (variant,) = open_bundle(folder, verify="lazy").manifest.variants
    return Built(name, folder, variant, parity, make_goldens(folder, cases))


def variant_of(precision: str) -> Variant:
    """The one graph of a bundle; its size is filled in when the bundle is written."""
    return Variant(f"cpu-{precision}", MODEL_FILE, precision, ("cpu",), (), 0)


def _metrics(
    source: _Source, chosen: _Chosen, rows: Sequence[Row]
) -> tuple[dict[str, dict[str, float]], list[taskmetrics.Difference]]:
    """The metrics in torch, in float32 and in the precision of the bundle, and from torch to the bundle.

    Nothing without rows; what a search measured on the rows that it left for this.
    """
    if not rows:
        return {}, []
    if chosen.found is not None:
        torch, points = chosen.found.torch, (chosen.found.points[0], chosen.found.point)
        found = {point.precision: point.evaluation for point in points}
    else:
        serves, folders = source.draft.serves, {chosen.precision: chosen.folder}
        torch = taskmetrics.evaluate_checkpoint(source.checkpoint, chosen.folder, serves, rows)
        if "fp32" not in folders:
            folders = {"fp32": source.bundle(source.scheme("fp32")), **folders}
        found = {name: taskmetrics.evaluate_bundle(place, serves, rows) for name, place in folders.items()}
    metrics = {"torch": torch.metrics, **{name: evaluation.against(torch) for name, evaluation in found.items()}}
    return metrics, taskmetrics.differences(torch, found[chosen.precision])
