"""What this machine has: cores that may be used, CPU flags, and the devices that a bundle can be run on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .errors import DeviceError
from .manifest import Variant

DEVICES = ("auto", "cpu")
MAX_DEFAULT_THREADS = 4

# Only the flags that decide between kernels, as /proc/cpuinfo spells them on x86 and on ARM.
_ISA_FLAGS = frozenset(
    {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_tile", "amx_int8", "amx_bf16"}
    | {"asimd", "asimddp", "i8mm", "sve", "sve2", "sme"}
)
_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int:
    """Cores that this process may really use: affinity and the CPU quota of its control groups (v1, v2), at least 1.

    A fractional quota is rounded down: one thread too many is stopped for the rest of every period.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, int(_quota(proc, cgroup))))


def default_threads() -> int:
    """Threads of a session unless the caller says otherwise: the usable cores, at most 4."""
    return min(usable_cores(), MAX_DEFAULT_THREADS)


def isa_flags(proc: Path = _PROC) -> tuple[str, ...]:
    """Sorted CPU flags that matter here ("avx512_vnni", "asimddp", ...); empty where they cannot be read."""
    found = _cpuinfo(proc, ("flags", "Features")).split()
    return tuple(sorted(_ISA_FLAGS.intersection(found)))


def cpu_name(proc: Path = _PROC) -> str:
    """The processor's name as the kernel gives it; "unknown" where there is none."""
    return _cpuinfo(proc, ("model name", "Model", "Hardware")) or "unknown"


def select_device(name: str) -> str:
    """Name the device to run on: "cpu" for "auto" and for "cpu". Raises DeviceError for everything else."""
    if name in DEVICES:
        return "cpu"
    raise DeviceError(f"there is no device {name!r}; accepted are {', '.join(DEVICES)}")


def choose_variant(variants: Sequence[Variant], device: str = "cpu") -> Variant:
    """The first variant that runs on `device` with this machine's CPU flags.

    Raises DeviceError that names what each variant needs when none does.
    """
    flags = isa_flags()
    for variant in variants:
        if device in variant.providers and set(variant.requires) <= set(flags):
            return variant
    needs = "; ".join(f"{v.name}: {', '.join((*v.providers, *v.requires))}" for v in variants)
    raise DeviceError(
        f"no variant of the bundle runs on device {device!r} with the CPU flags {', '.join(flags) or 'unknown'} "
        f"(the variants need {needs}); export the bundle with another --precision"
    )


def _cpuinfo(proc: Path, keys: tuple[str, ...]) -> str:
    """Value of the first line with one of `keys`; reading stops there, a large machine has megabytes of it."""
    try:
        with (proc / "cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in keys:
                    return value.strip()
    except OSError:
        return ""
    return ""


def _quota(proc: Path, cgroup: Path) -> float:
    """Smallest CPU quota, in cores, of this process's control groups and of all groups around them."""
    quota = float("inf")
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            roots, limit = (cgroup, cgroup / "unified"), _limit_v2
        elif "cpu" in controllers.split(","):
            roots, limit = (cgroup / "cpu", cgroup / "cpu,cpuacct"), _limit_v1
        else:
            continue
        for root in roots:
            for folder in _upwards(root, group):
                quota = min(quota, limit(folder))
    return min(quota, 1e6)


def _upwards(root: Path, group: str) -> list[Path]:
    """`root`/`group` and its parents up to `root`; inside a container only `root` may be there."""
    parts = [part for part in group.split("/") if part not in ("", ".", "..")]
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _limit_v2(folder: Path) -> float:
    return _cores(*[*_read(folder / "cpu.max").split(), "", ""][:2])


def _limit_v1(folder: Path) -> float:
    return _cores(_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip())


def _cores(quota: str, period: str) -> float:
    """`quota` / `period`, both microseconds; "max", "-1" and anything unreadable mean no limit."""
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:
        return int(quota) / int(period)
    return float("inf")


def _read(path: Path) -> str:
    """Content of a small kernel file, "" when it is not there: absence means no limit."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
