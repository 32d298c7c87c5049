from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgelm_runtime import machine
from edgelm_runtime.machine import cpu_name, default_threads, isa_flags, machine_kind, memory_bytes, usable_cores

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "250000 100000\n"}, 2),
        ("0::/a/b\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/gone/in/container\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "nonsense\n"}, 64),
        ("0::/\n", {"cpu.max": ""}, 64),
        ("4:cpu,cpuacct:/d\n", {"cpu/d/cpu.cfs_quota_us": "500000\n", "cpu/d/cpu.cfs_period_us": "100000\n"}, 5),
        ("4:cpuacct,cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ("4:cpu:/d\n", {"cpu/d/cpu.cfs_quota_us": "500000\n", "cpu/d/cpu.cfs_period_us": "0\n"}, 64),
        ("7:memory:/d\nbroken line\n", {"cpu/d/cpu.cfs_quota_us": "500000\n"}, 64),
        ("", {}, 64),
    ],
)
def test_the_quota_of_control_groups_counts(tmp_path: Path, group: str, files: dict[str, str], expected: int) -> None:
    write(tmp_path / "proc" / "self" / "cgroup", group)
    for name, text in files.items():
        write(tmp_path / "cgroup" / name, text)
    assert usable_cores(tmp_path / "proc", tmp_path / "cgroup") == expected


def test_affinity_counts_and_default_threads_are_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores(tmp_path, tmp_path) == CORES
    assert 1 <= usable_cores() <= CORES
    monkeypatch.setattr(machine, "usable_cores", lambda: 96)
    assert default_threads() == 4


@pytest.mark.parametrize(
    ("text", "flags", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu avx2 avx512_vnni amx_int8\n\nflags : avx_vnni\n",
            ("amx_int8", "avx2", "avx512_vnni"),
            "Xeon",
        ),
        ("processor : 0\nFeatures : fp asimd asimddp\nHardware : Board\n", ("asimd", "asimddp"), "Board"),
        ("", (), "unknown"),
    ],
)
def test_flags_and_name_come_from_cpuinfo(tmp_path: Path, text: str, flags: tuple[str, ...], name: str) -> None:
    write(tmp_path / "cpuinfo", text)
    assert isa_flags(tmp_path) == flags
    assert cpu_name(tmp_path) == name


def test_without_cpuinfo_nothing_is_known(tmp_path: Path) -> None:
    assert isa_flags(tmp_path) == ()
    assert cpu_name(tmp_path) == "unknown"


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/a/b\n", {"a/memory.max": "2000000\n"}, 2_000_000),
        ("0::/a\n", {"a/memory.max": "max\n"}, 4096 * 1024),
        ("4:memory:/d\n", {"memory/d/memory.limit_in_bytes": "3000000\n"}, 3_000_000),
        ("", {}, 4096 * 1024),
    ],
)
def test_the_memory_limit_of_control_groups_counts(
    tmp_path: Path, group: str, files: dict[str, str], expected: int
) -> None:
    write(tmp_path / "proc" / "meminfo", "MemTotal:        4096 kB\nMemFree: 1 kB\n")
    write(tmp_path / "proc" / "self" / "cgroup", group)
    for name, text in files.items():
        write(tmp_path / "cgroup" / name, text)
    assert memory_bytes(tmp_path / "proc", tmp_path / "cgroup") == expected


def test_a_kind_of_machine_is_its_architecture_and_flags(tmp_path: Path) -> None:
    assert memory_bytes(tmp_path, tmp_path) == 0
    assert machine_kind().split()[1:] == list(isa_flags())
