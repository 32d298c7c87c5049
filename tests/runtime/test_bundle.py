from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgelm_runtime import bundle as bundles
from edgelm_runtime.bundle import Bundle, bundles_in, default_bundles, open_bundle, write_bundle
from edgelm_runtime.errors import BundleNotFound, BundleRejected, ExportError
from edgelm_runtime.exchange import exchange
from edgelm_runtime.manifest import Manifest

TINY = Path(__file__).parents[1] / "data" / "tiny-classifier"
FILES = ("golden.json", "model.onnx", "tokenizer.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "bundle"))


def contents() -> dict[str, bytes | Path]:
    return {"golden.json": (TINY / "golden.json").read_bytes(), "model.onnx": TINY / "model.onnx"} | {
        "tokenizer.json": TINY / "tokenizer.json"
    }


def bare_manifest() -> Manifest:
    manifest = Manifest.from_bytes((TINY / "edgelm.json").read_bytes())
    return replace(manifest, files={}, variants=(replace(manifest.variants[0], size=0),))


def rewrite(folder: Path, **fields: object) -> None:
    path = folder / "edgelm.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


@pytest.mark.parametrize("verify", ["all", "lazy"])
def test_a_bundle_opens_and_gives_the_bytes_of_its_files(folder: Path, verify: str) -> None:
    bundle = open_bundle(folder, verify=verify)
    assert {name: bundle.read(name) for name in FILES} == {name: (TINY / name).read_bytes() for name in FILES}
    with pytest.raises(BundleRejected, match="not in the manifest"):
        bundle.read("other.bin")


def test_verify_is_all_or_lazy(folder: Path) -> None:
    with pytest.raises(ValueError, match="'all' and 'lazy'"):
        open_bundle(folder, verify="some")


def test_a_missing_bundle_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="there is no such folder"):
        open_bundle(tmp_path / "absent")
    with pytest.raises(BundleNotFound, match=r"has no edgelm\.json"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("position", [0, 0.5, 1])
def test_one_flipped_byte_is_refused(folder: Path, name: str, position: float) -> None:
    data = bytearray((folder / name).read_bytes())
    data[int((len(data) - 1) * position)] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleRejected, match="sha256") as caught:
        open_bundle(folder)
    assert caught.value.what == name
    with pytest.raises(BundleRejected, match="sha256"):
        open_bundle(folder, verify="lazy").read(name)


@pytest.mark.parametrize("change", [b"", b"longer"])
def test_another_size_is_refused_at_once(folder: Path, change: bytes) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes() + change if change else path.read_bytes()[:-1])
    with pytest.raises(BundleRejected, match=r"model\.onnx does not match .* bytes"):
        open_bundle(folder, verify="lazy")


def test_a_file_that_grows_after_opening_is_refused(folder: Path) -> None:
    bundle = open_bundle(folder)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"x")
    with pytest.raises(BundleRejected, match="expected 505 bytes, found 506 bytes"):
        bundle.read("model.onnx")
    with pytest.raises(BundleRejected, match="expected 505 bytes, found 506 bytes"):
        bundle.verify_hashes()


def test_a_flipped_byte_in_the_manifest_is_refused_or_harmless(folder: Path) -> None:
    original = (folder / "edgelm.json").read_bytes()
    for position in range(0, len(original), 7):
        data = bytearray(original)
        data[position] ^= 0x80
        (folder / "edgelm.json").write_bytes(data)
        with pytest.raises(BundleRejected):
            open_bundle(folder)


@pytest.mark.parametrize("path", ["../secret", "/etc/hostname", "a/../../secret"])
def test_a_path_leading_outside_is_refused(folder: Path, path: str) -> None:
    (folder.parent / "secret").write_text("secret", encoding="utf-8")
    values = json.loads((folder / "edgelm.json").read_text(encoding="utf-8"))
    rewrite(folder, files={**values["files"], path: {"size": 6, "sha256": "0" * 64}})
    with pytest.raises(BundleRejected, match="is absolute, or has"):
        open_bundle(folder)
    rewrite(folder, files=values["files"], tokenizer={**values["tokenizer"], "file": path})
    with pytest.raises(BundleRejected, match=r"tokenizer\.file must name a file inside the folder"):
        open_bundle(folder)


@pytest.mark.parametrize("name", [*FILES, "edgelm.json"])
def test_a_symlink_is_refused(folder: Path, name: str) -> None:
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)
    with pytest.raises(BundleRejected, match="it is a symlink"):
        open_bundle(folder, verify="lazy")


def test_a_symlink_on_the_way_is_refused(tmp_path: Path) -> None:
    manifest = bare_manifest()
    manifest = replace(manifest, variants=(replace(manifest.variants[0], file="deep/model.onnx"),))
    files = contents()
    files["deep/model.onnx"] = files.pop("model.onnx")
    bundle = write_bundle(tmp_path / "bundle", manifest, files)
    assert bundle.read("deep/model.onnx") == (TINY / "model.onnx").read_bytes()
    (bundle.path / "deep").rename(tmp_path / "elsewhere")
    (bundle.path / "deep").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleRejected, match="a symlink or not a folder"):
        open_bundle(bundle.path, verify="lazy")
    with pytest.raises(BundleRejected, match="a symlink or not a folder"):
        bundle.read("deep/model.onnx")


def test_a_pipe_and_a_folder_in_the_place_of_a_file_are_refused(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    with pytest.raises(BundleRejected, match="not a plain file"):
        open_bundle(folder, verify="lazy")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    with pytest.raises(BundleRejected, match="not a plain file"):
        open_bundle(folder, verify="lazy")
    (folder / "model.onnx").rmdir()
    with pytest.raises(BundleRejected, match="No such file"):
        open_bundle(folder, verify="lazy")


def test_an_unknown_format_and_a_truncated_manifest_are_refused(folder: Path) -> None:
    data = (folder / "edgelm.json").read_bytes()
    rewrite(folder, format=2, needs_edgelm="0.9.0")
    with pytest.raises(BundleRejected, match=r"install edgelm 0\.9\.0 or newer"):
        open_bundle(folder)
    (folder / "edgelm.json").write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleRejected, match="not valid JSON"):
        open_bundle(folder)


def test_write_copies_hashes_and_fills_in_sizes(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "new" / "bundle", bare_manifest(), contents())
    assert bundle == open_bundle(tmp_path / "new" / "bundle")
    assert bundle.manifest.variants[0].size == (TINY / "model.onnx").stat().st_size
    assert sorted(path.name for path in bundle.path.iterdir()) == ["edgelm.json", *FILES]
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]


def test_an_existing_target_is_refused_without_force(folder: Path) -> None:
    (folder / "old.txt").write_text("old", encoding="utf-8")
    with pytest.raises(ExportError, match="--force"):
        write_bundle(folder, bare_manifest(), contents())
    assert (folder / "old.txt").exists()
    write_bundle(folder, bare_manifest(), contents(), force=True)
    assert not (folder / "old.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_force_replaces_nothing_but_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear", encoding="utf-8")
    (tmp_path / "file").write_text("dear", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "home")
    for name in ("home", "file", "link"):
        with pytest.raises(ExportError, match="is not a bundle"):
            write_bundle(tmp_path / name, bare_manifest(), contents(), force=True)
    (tmp_path / "empty").mkdir()
    assert isinstance(write_bundle(tmp_path / "empty", bare_manifest(), contents(), force=True), Bundle)


def test_a_manifest_that_would_be_refused_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleRejected, match=r"no entry for 'golden\.json'"):
        write_bundle(tmp_path / "bundle", bare_manifest(), {"model.onnx": b"x", "tokenizer.json": b"y"})
    with pytest.raises(BundleRejected, match="labels must name"):
        write_bundle(tmp_path / "bundle", replace(bare_manifest(), labels=()), contents())
    with pytest.raises(ValueError, match="the path"):
        write_bundle(tmp_path / "bundle", bare_manifest(), {"../x": b"x"})
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_cannot_be_read_leaves_the_old_bundle(folder: Path, tmp_path: Path) -> None:
    broken = {**contents(), "model.onnx": tmp_path / "absent.onnx"}
    with pytest.raises(ExportError, match="was not written"):
        write_bundle(folder, bare_manifest(), broken, force=True)
    open_bundle(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


WRITER = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from edgelm_runtime.bundle import write_bundle
from edgelm_runtime.errors import ExportError
from edgelm_runtime.manifest import Manifest
tiny, target, big = Path({tiny!r}), Path({target!r}), Path({big!r})
manifest = Manifest.from_bytes((tiny / "edgelm.json").read_bytes())
contents = {{name: tiny / name for name in manifest.files}}
contents["big.bin"] = big
if {limit}:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
print("writing", flush=True)
try:
    write_bundle(target, manifest, contents, force=True)
except ExportError as error:
    print(error)
    sys.exit(7)
"""


def writer(target: Path, big: Path, limit: int = 0) -> subprocess.Popen[str]:
    program = WRITER.format(paths=sys.path, tiny=str(TINY), target=str(target), big=str(big), limit=limit)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def test_a_full_disk_leaves_the_old_bundle_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(3_000_000))
    process = writer(folder, big, limit=1_500_000)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 7
    assert "was not written" in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big", "bundle"]
    assert "big.bin" not in open_bundle(folder).manifest.files


def test_a_kill_in_the_middle_leaves_no_half_bundle(tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    os.mkfifo(endless)
    process = writer(tmp_path / "bundle", endless)
    try:
        with endless.open("wb") as pipe:
            pipe.write(bytes(100_000))
            pipe.flush()
            deadline = time.monotonic() + 30
            while not list(tmp_path.glob(".bundle.tmp-*/big.bin")) and time.monotonic() < deadline:
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert len(list(tmp_path.glob(".bundle.tmp-*"))) == 1
    assert not (tmp_path / "bundle").exists()
    assert bundles_in(tmp_path) == {}
    with pytest.raises(BundleNotFound):
        open_bundle(next(tmp_path.glob(".bundle.tmp-*")))
    write_bundle(tmp_path / "bundle", bare_manifest(), contents())


def test_an_interrupt_removes_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "bundle", bare_manifest(), contents())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rename_brings_the_old_bundle_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def fail_for_temporary(path: Path, target: Path) -> Path:
        if ".tmp-" in path.name:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(bundles, "exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", fail_for_temporary)
    with pytest.raises(ExportError, match="No space left"):
        write_bundle(folder, bare_manifest(), contents(), force=True)
    open_bundle(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_where_folders_cannot_change_places_the_old_one_steps_aside(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "exchange", lambda one, other: False)
    (folder / "old.txt").write_text("old", encoding="utf-8")
    write_bundle(folder, bare_manifest(), contents(), force=True)
    assert not (folder / "old.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


@pytest.mark.skipif(sys.platform != "linux", reason="one step is a system call of Linux and of macOS")
def test_there_is_a_bundle_under_the_name_at_every_moment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def watched(one: Path, other: Path) -> bool:
        done = exchange(one, other)
        seen.extend((done, (one / "edgelm.json").is_file(), (other / "edgelm.json").is_file()))
        return done

    monkeypatch.setattr(bundles, "exchange", watched)
    write_bundle(folder, bare_manifest(), contents(), force=True)
    assert seen == [True, True, True]


def test_what_an_ended_replacement_left_is_named(folder: Path) -> None:
    folder.rename(folder.parent / ".bundle.old-abcd")
    with pytest.raises(BundleNotFound, match=r"\.bundle\.old-abcd is what an interrupted --force left"):
        open_bundle(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="sparse files are asked for there")
def test_a_sparse_terabyte_is_refused_by_its_size(folder: Path) -> None:
    bundle = open_bundle(folder)
    os.truncate(folder / "model.onnx", 1 << 40)
    for use in (bundle.verify_hashes, lambda: bundle.read("model.onnx"), lambda: bundle.map("model.onnx")):
        with pytest.raises(BundleRejected, match="found 1,099,511,627,776 bytes"):
            use()
    values = json.loads((folder / "edgelm.json").read_text(encoding="utf-8"))
    rewrite(folder, files={**values["files"], "model.onnx": {"size": 1 << 40, "sha256": "0" * 64}})
    with pytest.raises(BundleRejected, match="an integer from 0 to 68719476736"):
        open_bundle(folder)
    os.truncate(folder / "model.onnx", 3 << 30)
    rewrite(folder, files={**values["files"], "model.onnx": {"size": 3 << 30, "sha256": "0" * 64}})
    with pytest.raises(BundleRejected, match="expected at most 2,147,483,648 bytes"):
        open_bundle(folder, verify="lazy").read("model.onnx")


def test_many_problems_make_no_long_message(folder: Path) -> None:
    rewrite(folder, files={f"{number}/../{'x' * 2000}": 1 for number in range(400)})
    with pytest.raises(BundleRejected, match=r"and 3\d\d more") as caught:
        open_bundle(folder)
    assert len(str(caught.value)) < 60_000


def test_default_bundles_are_whole_and_sorted() -> None:
    found = default_bundles()
    assert list(found) == sorted(found)
    for name, path in found.items():
        assert open_bundle(path).path.name == name


def test_hidden_and_bare_folders_are_no_bundles(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / ".bundle.tmp-abcd")
    (tmp_path / "bare").mkdir()
    assert bundles_in(tmp_path) == {"bundle": folder}
    assert bundles_in(tmp_path / "absent") == {}
