"""What this machine has: cores and memory that may be used, and the CPU flags that decide between kernels."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

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


def machine_kind() -> str:
    """What decides which kernels run here: the architecture and the flags, "x86_64 avx2 avx512_vnni"."""
    return " ".join([platform.machine(), *isa_flags()])


def memory_bytes(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int:
    """Bytes of memory that this process may use: the machine's, or its control groups' limit; 0 where unknown."""
    match = re.search(r"^MemTotal:\s*(\d+) kB", kernel_text(proc / "meminfo"), re.MULTILINE)
    total = int(match[1]) * 1024 if match else 0
    names = {2: "memory.max", 1: "memory.limit_in_bytes"}
    texts = [kernel_text(folder / names[version]).strip() for folder, version in control_groups(proc, cgroup, "memory")]
    return min([total, *(int(text) for text in texts if text.isdecimal())])


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
    for folder, version in control_groups(proc, cgroup, "cpu"):
        quota = min(quota, _limit_v2(folder) if version == 2 else _limit_v1(folder))
    return min(quota, 1e6)


def control_groups(proc: Path, cgroup: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Folders that may be this process's control groups and those around them, with the version of their files."""
    for line in kernel_text(proc / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            roots, version = (cgroup, cgroup / "unified"), 2
        elif controller in controllers.split(","):
            roots, version = (cgroup / controller, cgroup / "cpu,cpuacct"), 1
        else:
            continue
        for root in roots:
            for folder in _upwards(root, group):
                yield folder, version


def _upwards(root: Path, group: str) -> list[Path]:
    """`root`/`group` and its parents up to `root`; inside a container only `root` may be there."""
    parts = [part for part in group.split("/") if part not in ("", ".", "..")]
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _limit_v2(folder: Path) -> float:
    return _cores(*[*kernel_text(folder / "cpu.max").split(), "", ""][:2])


def _limit_v1(folder: Path) -> float:
    return _cores(kernel_text(folder / "cpu.cfs_quota_us").strip(), kernel_text(folder / "cpu.cfs_period_us").strip())


def _cores(quota: str, period: str) -> float:
    """`quota` / `period`, both microseconds; "max", "-1" and anything unreadable mean no limit."""
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:
        return int(quota) / int(period)
    return float("inf")


def resident_bytes(field: str = "VmRSS", proc: Path = _PROC) -> int | None:
    """Memory of this process: VmRSS is what it holds, VmHWM the most that it held; None where there is no /proc."""
    match = re.search(rf"^{field}:\s*(\d+) kB", kernel_text(proc / "self" / "status"), re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def kernel_text(path: Path) -> str:
    """Content of a small file of the kernel, "" where it is not there or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
