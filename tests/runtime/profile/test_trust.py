"""The verdict: arithmetic on a machine of files, and a real crowd of busy processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgelm_runtime.machine import usable_cores
from edgelm_runtime.profile import fingerprint, report, run
from edgelm_runtime.profile import steady as steady_part
from edgelm_runtime.profile.fingerprint import Look, clock, look, machine
from edgelm_runtime.profile.reading import parse_report
from edgelm_runtime.profile.run import Part, ProfileOptions, profile
from edgelm_runtime.profile.summary import histogram, summarize
from edgelm_runtime.profile.trust import Watched, judge
from tests.runtime.profile.conftest import Make

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's counters are Linux's")
QUIET = Look(100.0, own=10.0, processors=4, busy=50.0, stolen=1.0, stopped=2.0, throttles=3)
LATER = replace(QUIET, at=110.0, own=20.0, busy=60.5)


def steady(rounds: list[float], drift: float = 0.0) -> report.Steady:
    summary = summarize(rounds)
    return report.Steady({}, summary, histogram(rounds), summary, 8, drift)


SURE = steady([3.0] * 20)


def judged(before: Look, after: Look, found: report.Steady | None = SURE, cores: int = 4) -> report.Trust:
    parts = [Watched("steady", before, after)]
    return judge(Watched("", before, after), parts, here(before, after, cores), found, 10)


def here(before: Look, after: Look, cores: int = 4, clocks: Sequence[float] = ()) -> report.Machine:
    return replace(machine(before, after, clocks, Path("/nowhere")), cores=cores)


def reasons(after: Look, found: report.Steady | None = SURE, cores: int = 4) -> tuple[str, ...]:
    trust = judged(QUIET, after, found, cores)
    assert trust.verdict == ("NOISY" if trust.reasons else "VALID")
    return trust.reasons


def test_a_quiet_machine_and_a_narrow_interval_are_valid() -> None:
    assert reasons(LATER) == ()
    trust = judged(QUIET, LATER)
    assert trust.load == pytest.approx(0.5 / 10 / 4)
    assert trust.width == 0.0
    assert any("warm" in line for line in trust.excluded)
    assert any("cache" in line for line in trust.excluded)
    assert any("2 of 10 texts, for which the time was too short" in line for line in trust.excluded)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"busy": 80.0}, "other programs took 50% of the 4 usable cores, during steady 50%"),
        ({"stolen": 3.0}, "the host of this virtual machine took 16%"),
        ({"stopped": 6.0}, "quota of a control group stopped programs for 10%"),
        ({"throttles": 5}, "heat slowed the processor 2 times"),
    ],
)
def test_each_disturbance_is_named_with_its_number(change: dict[str, float], reason: str) -> None:
    (found,) = reasons(replace(LATER, **change))
    assert reason in found


@pytest.mark.parametrize(
    ("clocks", "verdict"), [((2000.0, 1500.0), "NOISY"), ((2000.0, 2100.0), "VALID"), ((), "VALID")]
)
def test_another_clock_at_the_end_is_noise(clocks: tuple[float, ...], verdict: str) -> None:
    whole = Watched("", QUIET, LATER)
    trust = judge(whole, [whole], here(QUIET, LATER, clocks=clocks), SURE, 8)
    assert trust.verdict == verdict
    assert verdict == "VALID" or "the clock went from 2,000 to 1,500 MHz" in trust.reasons[0]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "no answers"),
        (steady([3.0] * 5), "too few runs: 5 of each text"),
        (steady([3.0, 4.0] * 10), "interval of the median is 33.3% wide after 20 rounds"),
        (steady([3.0] * 20, drift=0.2), "became 20% slower"),
        (steady([3.0] * 20, drift=-0.2), "became 20% faster"),
    ],
)
def test_each_doubt_about_the_answers_is_named(found: report.Steady | None, reason: str) -> None:
    (only,) = reasons(LATER, found)
    assert reason in only


def test_a_burst_in_one_part_counts_and_is_named() -> None:
    middle, end = replace(LATER, at=101.0, own=10.0, busy=53.6), replace(LATER, at=141.0, own=110.0, busy=153.6)
    parts = [Watched("cold", QUIET, middle), Watched("steady", middle, end)]
    (reason,) = judge(Watched("", QUIET, end), parts, here(QUIET, end), SURE, 8).reasons
    assert "took 2% of the 4 usable cores, during cold 90%" in reason


def test_processors_that_a_quota_forbids_are_taken_by_others_first() -> None:
    def load(busy: float) -> float | None:
        return Watched("", QUIET, replace(LATER, busy=busy)).load(cores=2)

    assert load(60.0 + 20.0) == 0.0  # two of four processors: the two that we may not use
    assert load(60.0 + 30.0) == pytest.approx(0.5)
    assert load(60.0 + 900.0) == 1.0


def test_where_the_system_tells_nothing_only_the_answers_count() -> None:
    nothing = Look(1.0, 1.0, 4, None, None, None, None)
    trust = judged(nothing, replace(nothing, at=9.0))
    assert (trust.verdict, trust.load) == ("VALID", None)
    assert here(nothing, nothing).throttled is None


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A /proc and a /sys of a machine of three processors, of which this process may use 0 and 2."""
    monkeypatch.setattr(fingerprint, "_processors", lambda: {0, 2})
    proc, sys_ = tmp_path / "proc", tmp_path / "sys"
    second = "cpu1 100000 1 1 1 1 1 1 1 0 0\n"
    write(proc / "stat", f"cpu  9 9\ncpu0 100 10 50 700 5 1 4 30 0 0\n{second}cpu2 200 0 0 0 0 0 0 0 0 0\nintr 1\n")
    write(proc / "cpuinfo", "processor : 0\ncpu MHz\t\t: 1800.5\n\nprocessor : 1\ncpu MHz\t\t: 900.0\n")
    write(proc / "self" / "cgroup", "0::/a/b\n")
    write(sys_ / "fs" / "cgroup" / "a" / "cpu.stat", "usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000\n")
    write(sys_ / "fs" / "cgroup" / "cpu.stat", "throttled_usec 10\n")
    return proc, sys_


@LINUX
def test_the_counters_of_the_kernel_are_read(folders: tuple[Path, Path]) -> None:
    proc, sys_ = folders
    tick = os.sysconf("SC_CLK_TCK")
    found = look(proc, sys_)
    assert found.processors == 2
    assert (found.busy, found.stolen) == (365 / tick, 30 / tick)
    assert (found.stopped, found.throttles) == (2.5, None)
    assert clock(proc, sys_) == 1800.5


@LINUX
def test_clocks_governors_and_heat_come_from_sys(folders: tuple[Path, Path]) -> None:
    proc, sys_ = folders
    clocks = {0: ("2400000", "performance"), 1: ("9900000", "ondemand"), 2: ("800000", "powersave")}
    for number, (frequency, governor) in clocks.items():
        cpu = sys_ / "devices" / "system" / "cpu" / f"cpu{number}"
        write(cpu / "cpufreq" / "scaling_cur_freq", frequency + "\n")
        write(cpu / "cpufreq" / "scaling_governor", governor + "\n")
        write(cpu / "thermal_throttle" / "core_throttle_count", f"{number}\n")
        write(cpu / "thermal_throttle" / "package_throttle_count", "2\n")
    first = look(proc, sys_)
    assert (clock(proc, sys_), first.throttles) == (2400.0, 9)
    write(sys_ / "devices" / "system" / "cpu" / "cpu0" / "thermal_throttle" / "core_throttle_count", "7\n")
    found = machine(first, look(proc, sys_), (2400.0, None), sys_)
    assert (found.governor, found.mhz, found.throttled) == ("performance, powersave", (2400.0,), True)
    assert found.cores == usable_cores()


@LINUX
@pytest.mark.parametrize("stat", ["", "cpu  1 2 3\n", "cpu0 nonsense\n", "cpu0 1 2 3 4\ncpu2 1 2 3 4 5 6 7 8\n"])
def test_a_stat_that_is_cut_or_strange_says_nothing(folders: tuple[Path, Path], stat: str) -> None:
    proc, sys_ = folders
    write(proc / "stat", stat)
    assert (look(proc, sys_).busy, look(proc, sys_).stolen) == (None, None)


@LINUX
def test_version_1_of_control_groups_counts_in_nanoseconds(folders: tuple[Path, Path]) -> None:
    proc, sys_ = folders
    write(proc / "self" / "cgroup", "3:cpu,cpuacct:/d\n")
    write(sys_ / "fs" / "cgroup" / "cpu" / "d" / "cpu.stat", "nr_periods 1\nthrottled_time 1500000000\n")
    assert look(proc, sys_).stopped == 1.5


@LINUX
def test_a_real_crowd_makes_a_profile_noisy(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PARTS", [Part("steady", steady_part.measure, 1.0)])
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        found = profile(classifier(), ProfileOptions(2.0))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert found.trust is not None
    assert found.trust.verdict == "NOISY"
    assert found.trust.load is not None
    assert found.trust.load > 0.3
    assert any("other programs took" in reason for reason in found.trust.reasons)
    assert found.complete
    assert parse_report(json.dumps(found.to_dict()).encode()) == found
