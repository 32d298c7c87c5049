"""What a bundle is exported for: the variant that each target wants, made and verified beside the first one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgelm_export import verify
from edgelm_runtime.errors import InputError
from edgelm_runtime.manifest import Variant

# The scheme of a target's variant; None: that of --precision, for the CPU.
TARGETS: Mapping[str, str | None] = {
    "cpu": None,
    "openvino": "qdq-int8",
    "qnn": "qdq-int8",
    "cuda": "fp16",
    "tensorrt": "fp16",
    "coreml": "fp16",
    "dml": "fp16",
    "webgpu": "fp16",
    "xnnpack": "fp32",
}


@dataclass(frozen=True)
class Built:
    """A verified graph in a bundle of its own, with its golden answers."""

    scheme: str
    folder: Path
    variant: Variant
    parity: verify.Parity
    goldens: bytes

    def contents(self) -> dict[str, bytes | Path]:
        """Its files under the names that they have beside other variants."""
        files: dict[str, bytes | Path] = {self._named(name): self.folder / name for name in self.variant.files}
        return {**files, self.placed(()).goldens: self.goldens}

    def placed(self, providers: Sequence[str]) -> Variant:
        """The variant under those names, for `providers`; the CPU runs it too, where it was verified."""
        return replace(
            self.variant,
            name=self.scheme,
            file=self._named(self.variant.file),
            weights=self._named(self.variant.weights) if self.variant.weights else "",
            golden=f"golden-{self.scheme}.json",
            providers=(*providers, "cpu"),
            size=0,
        )

    def _named(self, file: str) -> str:
        stem, dot, kind = file.partition(".")
        return f"{stem}-{self.scheme}{dot}{kind}"


def check_targets(targets: Sequence[str], task: str) -> None:
    """Raise InputError for targets that do not exist, come without the CPU, or that a generator does not run on."""
    wrong = [target for target in targets if target not in TARGETS]
    if wrong or "cpu" not in targets or len(set(targets)) != len(targets):
        raise InputError(
            f"--targets {','.join(targets)}: accepted are {', '.join(TARGETS)}, each once, with commas between them, "
            "and cpu among them: that is where a bundle is verified"
        )
    if task in ("text-generation", "text2text-generation") and len(targets) > 1:
        raise InputError(
            f"--targets {','.join(targets)}: a generator runs on the CPU, where its key-value cache is; "
            "leave --targets out"
        )


def schemes_for(targets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The further schemes that the targets want, in their order, each with the targets that it is for."""
    wanted: dict[str, tuple[str, ...]] = {}
    for target in targets:
        scheme = TARGETS[target]
        if scheme is not None:
            wanted[scheme] = (*wanted.get(scheme, ()), target)
    return wanted
