"""Where a bundle runs: its variant, device and threads, why these, and the receipt that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from . import memory, providers
from .bundle import Bundle
from .device import AUTO, CPU, Device, choose_variant, parse_device, runs_here
from .errors import DeviceError, InputError
from .machine import cpu_name, default_threads, isa_flags
from .manifest import Variant
from .ort import onnxruntime
from .products import products_saturate
from .session import Node, Session, SessionOptions, TooFewThreads, open_encoder, open_session

MAX_THREADS = 1024


@dataclass(frozen=True)
class LoadOptions:
    """How a bundle is to be loaded. Raises InputError and DeviceError for what cannot be.

    `device` is "auto" or a name of `device.KINDS`; with "auto" what `edgelm tune` found counts, else it is the CPU.
    `variant` names one of the bundle's; None is the first that runs on the device. `threads` are the cores that one
    answer may use; None is what was tuned, or the usable cores, at most 4. `trace` is SessionOptions'.
    """

    device: str = AUTO
    variant: str | None = None
    threads: int | None = None
    allow_fallback: bool = False
    low_priority: bool = False
    trace: str = ""

    def __post_init__(self) -> None:
        parse_device(self.device)
        given = self.threads
        if given is not None and (type(given) is not int or not 1 <= given <= MAX_THREADS):
            raise InputError(
                f"threads is {given!r}, accepted is an integer from 1 to {MAX_THREADS}, or None for the default"
            )

    def given(self) -> dict[str, Any]:
        """The options that `load` has, by their names."""
        return {name: value for name, value in asdict(self).items() if name != "trace"}


DEFAULTS = LoadOptions()


@dataclass(frozen=True)
class Receipt:
    """How a bundle was loaded. `nodes` counts the graph's nodes by execution provider; `why` is about the variant.

    `exact_products` is False where this CPU clips products of uint8 with int8, so that weights are made uint8.
    """

    bundle: str
    variant: str
    precision: str
    why: str
    device: str
    provider: str
    hardware: str
    nodes: Mapping[str, int]
    threads: int
    isa: tuple[str, ...]
    exact_products: bool
    onnxruntime: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return {**asdict(self), "nodes": dict(self.nodes), "isa": list(self.isa), "notes": list(self.notes)}


@dataclass(frozen=True)
class Plan:
    """A choice that was made for one load."""

    variant: Variant
    device: Device
    threads: int
    why: str
    notes: tuple[str, ...] = ()


class Engine:
    """A bundle's graph on the device that was planned for it.

    Raises BundleRejected where its files or its graph are not accepted, DeviceError where the device cannot run it.
    """

    def __init__(self, bundle: Bundle, options: LoadOptions) -> None:
        self.bundle = bundle
        self._options = options
        self.plan = plan(bundle, options)
        try:
            self.session = self._open(self.plan.threads)
        except TooFewThreads as error:
            if options.threads is not None:
                raise
            self.plan = replace(self.plan, threads=1)
            with_note(self, f"one thread is used: {error}")
            self.session = self._open(1)
        except DeviceError as error:
            if options.device != AUTO or self.plan.device == CPU:
                raise
            # What was remembered does not run any more: auto takes the CPU, and says so.
            self.plan = _first(bundle, options, CPU, (f"what edgelm tune found is ignored: {error}",))
            self.session = self._open(self.plan.threads)
        self.encoder: Session | None = None
        if self.variant.encoder:
            self.encoder = open_encoder(bundle, self.variant, self._session_options(self.plan.threads))

    @property
    def variant(self) -> Variant:
        """The graph that runs."""
        return self.plan.variant

    @property
    def threads(self) -> int:
        """Cores that one run may use."""
        return self.plan.threads

    @property
    def workers(self) -> int:
        """How many answers may be made at once, each on one core: what is best for one answer may be a single core."""
        return self._options.threads or default_threads()

    def one_core(self) -> Session:
        """A session that uses one core for each run; the same one where there is no more."""
        return self.session if self.threads == 1 else self._open(1)

    def nodes(self) -> tuple[Node, ...]:
        """Every node of the graph, and of its encoder, with its provider."""
        return (*self.session.nodes, *(() if self.encoder is None else self.encoder.nodes))

    def receipt(self) -> Receipt:
        """What was loaded, where it runs, and why."""
        chosen = self.plan
        return Receipt(
            bundle=self.bundle.manifest.name,
            variant=chosen.variant.name,
            precision=chosen.variant.precision,
            why=chosen.why,
            device=str(chosen.device),
            provider=chosen.device.kind.provider,
            hardware=cpu_name() if chosen.device == CPU else providers.hardware_of(chosen.device),
            nodes=Counter(node.provider for node in self.nodes()),
            threads=chosen.threads,
            isa=isa_flags(),
            exact_products=not products_saturate(),
            onnxruntime=onnxruntime().__version__,
            notes=chosen.notes,
        )

    def _open(self, threads: int) -> Session:
        return open_session(self.bundle, self.variant, self._session_options(threads))

    def _session_options(self, threads: int) -> SessionOptions:
        given = self._options
        return SessionOptions(threads, self.plan.device, given.allow_fallback, given.low_priority, given.trace)


def plan(bundle: Bundle, options: LoadOptions) -> Plan:
    """The variant, device and threads for a load. Raises DeviceError where nothing of the bundle fits."""
    device = parse_device(options.device)
    if device is not None or options.variant is not None:
        return _first(bundle, options, device or CPU)
    remembered = memory.recall(bundle)
    if remembered.choice is None:
        return _first(bundle, options, CPU, remembered.notes)
    choice = remembered.choice
    variant = next((one for one in bundle.manifest.variants if one.name == choice.variant), None)
    try:
        tuned = parse_device(choice.device) or CPU
    except DeviceError:
        variant = None
    if variant is None or not runs_here(variant, tuned):
        return _first(bundle, options, CPU, ("what edgelm tune found does not fit this bundle any more: ignored",))
    return Plan(variant, tuned, options.threads or choice.threads, "the fastest that edgelm tune measured here")


def _first(bundle: Bundle, options: LoadOptions, device: Device, notes: tuple[str, ...] = ()) -> Plan:
    """The variant that was named, or the first that runs on the device."""
    variants = bundle.manifest.variants
    threads = options.threads or default_threads()
    if options.variant is None:
        return Plan(choose_variant(variants, device), device, threads, f"the first for {device.name}", notes)
    named = [variant for variant in variants if variant.name == options.variant]
    if not named:
        raise DeviceError(
            f"the bundle {bundle.manifest.name} has no variant {options.variant!r}; it has "
            f"{', '.join(variant.name for variant in variants)}"
        )
    return Plan(choose_variant(named, device), device, threads, "asked for", notes)


def with_note(engine: Engine, note: str) -> None:
    """Add something that the receipt is to say."""
    engine.plan = replace(engine.plan, notes=(*engine.plan.notes, note))
