"""Files that are whole and files that are not: which tensor is bad, and that all of them are found."""

from __future__ import annotations

import dataclasses
import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tests import fuzz, tables, tflite_models, torch_files
from tests.weights.test_bundle import HEADER, save, write
from tfxfer import files
from tfxfer.errors import WeightsError
from tfxfer.input_spec import InputSpec
from tfxfer.tools import _flags, verify_weights
from tfxfer.weight_tools.verify_weights import Digests, read_digests, verify
from tfxfer.weights import bundle, npz
from tfxfer.weights.digests import METHOD, digest

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "checkpoints/digits_autoencoder"
RNG = np.random.default_rng(0)
# Each begins with a number by which it is found again in any file.
ARRAYS = {
    "conv1/kernel": RNG.normal(size=(3, 3, 3, 8)).astype(np.float32),
    "conv1/bias": RNG.normal(size=(8,)).astype(np.float32),
    "fc/kernel": RNG.normal(size=(9, 4)),
    "step": RNG.integers(1 << 40, 1 << 41, size=(3,)),
}
INPUT_SPEC = InputSpec("net", "a test", (8, 8), "RGB", (0, 0, 0), (1, 1, 1))


def run(*args: object) -> int:
    return _flags.run(verify_weights.main, ["tfxfer verify_weights", *map(str, args)])


def test_what_does_not_fit_into_memory_is_a_fault_of_its_own(tmp_path, monkeypatch):
    def too_large(*_: object) -> None:
        raise MemoryError

    np.savez_compressed(tmp_path / "a.npz", w=np.ones(3), x=np.ones(2))
    monkeypatch.setattr(npz, "_values", too_large)
    faults = verify(tmp_path / "a.npz").faults
    assert faults["w"] == "an array of the shape (3,) takes 24 bytes, more than there is memory"
    assert "x" in faults


def made(tmp_path: Path, kind: str, arrays: dict[str, np.ndarray] = ARRAYS) -> Path:
    """Write a file by another library than ours."""
    path = tmp_path / f"net.{kind}"
    if kind == "ckpt":
        save(path, arrays)
    elif kind == "npz":
        np.savez(path, **arrays)
    elif kind == "npy":
        np.save(path, next(iter(arrays.values())))
    elif kind == "safetensors":
        safetensors.numpy.save_file(arrays, path)
    elif kind == "tflite":
        kinds = {"float32": tflite_models.FLOAT32, "int64": tflite_models.INT64, "float64": 10}
        tensors = [tflite_models.Tensor(n, kinds[a.dtype.name], a.shape, a.tobytes()) for n, a in arrays.items()]
        path.write_bytes(tflite_models.model(tensors))
    elif kind == "json":
        path.with_name("weights").write_bytes(b"".join(array.tobytes() for array in arrays.values()))
        words = {name: [*array.shape, array.itemsize // 4] for name, array in arrays.items()}
        weights = [{"name": name, "shape": shape, "dtype": "int32"} for name, shape in words.items()]
        path.write_text(json.dumps({"weightsManifest": [{"paths": ["weights"], "weights": weights}]}))
    elif kind == "pth":
        saved = torch_files.Saved()
        saved.archive(path, {name: saved.tensor(array) for name, array in arrays.items()})
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return path


def damage(path: Path, *arrays: np.ndarray) -> None:
    """Change a bit of arrays in a file, or in the data file of a checkpoint."""
    path = path if path.is_file() else path.with_name(f"{path.name}.data-00000-of-00001")
    path = path if path.suffix != ".json" else path.with_name("weights")
    data = bytearray(path.read_bytes())
    for array in arrays:
        at = data.index(array.tobytes()[:16])
        data[at] ^= 1
    path.write_bytes(data)


KINDS = {
    "ckpt": "a crc32c of each tensor", "npz": "a CRC-32 of each tensor",
    "pth": "a CRC-32 of each storage that is one tensor",
    "npy": "", "safetensors": "", "h5": "", "tflite": "", "json": "",
}  # fmt: skip


# --- checksums ---


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_whole_is_sound_and_it_is_said_what_was_checked(kind, tmp_path):
    verdict = verify(str(made(tmp_path, kind)))
    assert (verdict.faults, verdict.notes, verdict.checksums) == ({}, [], KINDS[kind])
    assert verdict.tensors == (1 if kind == "npy" else len(ARRAYS))


@pytest.mark.parametrize("kind", ["ckpt", "npz", "pth"])
def test_every_damaged_tensor_is_named_and_no_other(kind, tmp_path):
    path = made(tmp_path, kind)
    damage(path, ARRAYS["conv1/kernel"], ARRAYS["step"])
    faults = verify(str(path)).faults
    assert set(faults) == {"conv1/kernel", "step"}
    assert all("fails its checksum" in fault for fault in faults.values())


@pytest.mark.parametrize("kind", [kind for kind, sums in KINDS.items() if not sums])
def test_where_a_file_has_no_checksums_digests_find_the_damage(kind, tmp_path):
    path = made(tmp_path, kind)
    kept = verify(str(path), take_digests=True).digests
    damage(path, ARRAYS["conv1/kernel"])
    assert verify(str(path)).faults == {}
    faults = verify(str(path), kept=Digests("kept", kept, complete=True)).faults
    assert len(faults) == 1
    assert re.fullmatch("its digest is [0-9a-f]{12}, in kept it is [0-9a-f]{12}", *faults.values())


# --- offsets ---


def test_a_checkpoint_that_was_cut_short_names_all_that_lie_beyond_and_checks_the_rest(tmp_path):
    path = made(tmp_path, "ckpt")
    data = path.with_name("net.ckpt.data-00000-of-00001")
    damage(path, ARRAYS["conv1/bias"])  # lies first, and is read all the same
    data.write_bytes(data.read_bytes()[:-200])
    verdict = verify(str(path))
    assert set(verdict.faults) == {"conv1/bias", "fc/kernel", "step"}
    assert "fails its checksum" in verdict.faults["conv1/bias"]
    assert re.fullmatch(
        r"it lies at bytes [\d,]+ to [\d,]+ of net\.ckpt\.data-00000-of-00001, which has [\d,]+", verdict.faults["step"]
    )
    assert verdict.tensors == 4


def test_a_data_file_that_is_missing_is_the_fault_of_each_tensor_in_it(tmp_path):
    path = made(tmp_path, "ckpt")
    path.with_name("net.ckpt.data-00000-of-00001").unlink()
    faults = verify(str(path)).faults
    assert faults == dict.fromkeys(ARRAYS, "its data file net.ckpt.data-00000-of-00001 is missing")


def entry(array: np.ndarray, offset: int, **changes: int) -> bytes:
    fields = {"dtype": 1, "sizes": array.shape, "offset": offset, "size": array.nbytes,
              "crc": tables.masked(array.tobytes())}  # fmt: skip
    return tables.entry(**{**fields, **changes})


def test_two_tensors_in_the_same_bytes_are_a_fault(tmp_path):
    a, b = np.arange(4, dtype=np.float32), np.arange(2, 6, dtype=np.float32)
    rows = [(b"a", entry(a, 0)), (b"b", entry(b, 8)), (b"c", entry(a[:1], 24, crc=tables.masked(b[:1].tobytes()[:4])))]
    data = np.concatenate([a, b[2:], b[:1]]).tobytes()
    prefix = write(tmp_path, [HEADER, *rows], data)
    assert bundle.faults(prefix) == {"b": "it lies in the same bytes as a"}
    verdict = verify(str(prefix))
    assert (verdict.tensors, verdict.faults) == (3, {"b": "it lies in the same bytes as a"})


def test_entries_that_cannot_be_are_named_and_the_rest_is_read(tmp_path):
    a = np.arange(4, dtype=np.float32)
    rows = [(b"a", entry(a, 0)), (b"b", entry(a, 16, size=12)), (b"c", entry(a, 16, dtype=99)),
            (b"d", entry(a, 32, shard=5)), (b"e", entry(a, 32, crc=7))]  # fmt: skip
    faults = verify(str(write(tmp_path, [HEADER, *rows], bytes(100)))).faults
    assert set(faults) == {"a", "b", "c", "d", "e"}
    assert "fails its checksum" in faults["a"]
    assert "the index says 12 bytes" in faults["b"]
    assert "its dtype has number 99" in faults["c"]
    assert "it lies in data file 5, of which there are 1" in faults["d"]


def test_an_index_that_is_damaged_is_the_fault_of_the_file(tmp_path):
    path = made(tmp_path, "ckpt")
    index = path.with_name("net.ckpt.index")
    index.write_bytes(index.read_bytes()[:9] + b"\xff" + index.read_bytes()[10:])
    verdict = verify(str(path))
    assert list(verdict.faults) == [""]
    assert "fails its checksum" in verdict.faults[""]


@pytest.mark.parametrize("kind", ["npz", "npy", "safetensors", "h5"])
def test_any_file_that_was_cut_short_is_bad(kind, tmp_path, capsys):
    path = made(tmp_path, kind)
    path.write_bytes(path.read_bytes()[:-100])
    assert list(verify(str(path)).faults) == [""]
    assert run(path) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"bad: {path}"


def test_slices_are_checked_too(tmp_path):
    whole = RNG.normal(size=(30, 4)).astype(np.float32)
    slices = [("rows", f"30 4 {start},15:-", whole[start : start + 15]) for start in (0, 15)]
    save(tmp_path / "m", {"other": np.ones(3, np.float32)}, slices)
    assert verify(str(tmp_path / "m")).faults == {}
    damage(tmp_path / "m", whole[15:])
    assert set(verify(str(tmp_path / "m")).faults) == {"rows"}
    data = tmp_path / "m.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-8])
    assert set(verify(str(tmp_path / "m")).faults) == {"rows"}


def test_what_is_pickled_is_noted_as_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", good=np.ones(2), objects=np.array([{}], object))
    verdict = verify(str(tmp_path / "a.npz"))
    assert verdict.faults == {}
    assert re.match(r"not read: .*objects\.npy' holds pickled objects", verdict.notes[0])


@pytest.mark.parametrize(("kind", "file"), [
    ("ckpt", "net.ckpt.index"), ("ckpt", "net.ckpt.data-00000-of-00001"), ("npz", "net.npz"),
])  # fmt: skip
def test_whatever_is_changed_in_a_file_there_is_a_verdict(kind, file, tmp_path, fuzz_cases):
    path = made(tmp_path, kind)
    good = (tmp_path / file).read_bytes()
    bad = 0
    for data in fuzz.broken(good, fuzz_cases, len(good)):
        (tmp_path / file).write_bytes(data)
        try:
            bad += bool(verify(str(path)).faults)
        except WeightsError:
            bad += 1
    assert bad > fuzz_cases // 2


def test_what_can_still_be_read_of_a_checkpoint_is_read_whatever_is_wrong_with_its_entries(tmp_path, fuzz_cases):
    """Entries are changed and the index sealed again, so that its checksums are right."""
    rng, a = np.random.default_rng(1), np.arange(4, dtype=np.float32)
    for _ in range(fuzz_cases):
        message = bytearray(entry(a, 16))
        for _ in range(rng.integers(1, 4)):
            message[rng.integers(len(message))] = rng.integers(256)
        prefix = write(tmp_path, [HEADER, (b"a", entry(a, 0)), (b"b", bytes(message))], a.tobytes() * 2)
        faults = verify(str(prefix)).faults
        assert "a" not in faults or "" in faults


# --- values ---


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64, ml_dtypes.bfloat16])
def test_nan_and_inf_are_found(dtype, tmp_path):
    bad = np.array([1, np.nan, np.inf, -np.inf, 2], dtype)
    save(tmp_path / "m", {"bad": bad, "good": np.ones(2, dtype), "integers": np.array([1 << 62])})
    assert verify(str(tmp_path / "m")).faults == {"bad": "1 NaN and 2 Inf among 5 values"}


# --- digests ---


def test_digests_are_written_and_compared(tmp_path, capsys):
    path, out = made(tmp_path, "npz"), tmp_path / "digests.json"
    assert run(path, f"--write_digests={out}") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [f"wrote 4 digests to {out}", f"sound: {path}"]
    table = json.loads(out.read_text())
    assert table == {"method": METHOD, "path": str(path), "tensors": {n: digest(a) for n, a in ARRAYS.items()}}
    assert run(path, f"--digests={out}") == 0
    changed = {**ARRAYS, "fc/kernel": ARRAYS["fc/kernel"] + 1, "new": np.ones(1)}
    del changed["step"]
    made(tmp_path, "npz", changed)
    capsys.readouterr()
    assert run(path, f"--digests={out}") == 1
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"  fc/kernel: its digest is \w+, in {out} it is \w+", lines[1])
    assert lines[2:] == [
        f"  step: is not in the file, but in {out}",
        f"  new: is not in {out}",
        f"bad: {path}, 3 of 4 tensors: fc/kernel, step, new",
    ]


def test_a_runs_frozen_variables_are_digests_of_some(tmp_path):
    path = made(tmp_path, "npz")
    frozen = {"method": METHOD, "variables": {"conv1/bias": digest(ARRAYS["conv1/bias"])}, "checks": []}
    (tmp_path / "frozen.json").write_text(json.dumps(frozen))
    kept = read_digests(str(tmp_path / "frozen.json"))
    assert verify(str(path), kept=kept).faults == {}
    worse = dataclasses.replace(kept, by_name={"conv1/bias": "0" * 64})
    assert set(verify(str(path), kept=worse).faults) == {"conv1/bias"}


def test_the_same_values_in_another_format_have_the_same_digests(tmp_path):
    both = [verify(str(made(tmp_path, kind)), take_digests=True).digests for kind in ("npz", "ckpt")]
    assert both[0] == both[1]


def test_digests_that_are_there_are_not_written_over(tmp_path, capsys):
    path, out = made(tmp_path, "npz"), tmp_path / "digests.json"
    out.write_text("mine")
    assert run(path, f"--write_digests={out}") == 1
    assert f"{out} exists; take another name, or --overwrite, which moves it aside" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert run(path, f"--write_digests={out}", "--overwrite") == 0
    assert f"moved {out} to {out}.old-1" in capsys.readouterr().out
    assert Path(f"{out}.old-1").read_text() == "mine"


def test_on_a_full_disk_the_old_digests_stay_at_their_name(tmp_path, capsys, monkeypatch):
    path, out = made(tmp_path, "npz"), tmp_path / "digests.json"
    out.write_text("mine")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", fail)
    assert run(path, f"--write_digests={out}", "--overwrite") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert (out.read_text(), sorted(tmp_path.iterdir())) == ("mine", sorted([path, out]))


def test_a_missing_folder_is_named_before_anything_is_read(tmp_path, capsys):
    out = tmp_path / "missing" / "digests.json"
    assert run(made(tmp_path, "npz"), f"--write_digests={out}") == 1
    said = capsys.readouterr()
    assert f"WeightsError: {out}: the folder {out.parent} does not exist; make it, or give another" in said.err
    assert said.out == ""


def test_no_digests_are_written_of_a_bad_file(tmp_path, capsys):
    path, out = made(tmp_path, "npz"), tmp_path / "digests.json"
    damage(path, ARRAYS["step"])
    assert run(path, f"--write_digests={out}") == 1
    assert not out.exists()
    capsys.readouterr()


@pytest.mark.parametrize("text", ["{", "[]", '{"tensors": 3}', '{"method": "MD5", "tensors": {}}'])
def test_what_holds_no_digests_is_refused(text, tmp_path):
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(WeightsError, match=r"d\.json(: its description is not JSON| holds no digests: give what)"):
        read_digests(str(tmp_path / "d.json"))


# --- the input spec ---


def test_a_input_spec_that_cannot_be_read_is_a_fault(tmp_path):
    path = made(tmp_path, "ckpt")
    INPUT_SPEC.save(path)
    assert verify(str(path)).faults == {}
    path.with_name("net.ckpt.input_spec.json").write_text('{"model": "net"}')
    assert "net.ckpt.input_spec.json has 7 faults" in verify(str(path)).faults[""]


@pytest.mark.parametrize(("change", "fault"), [
    ({"channels": "grey", "mean": (0,), "scale": (1,)},
     r"input_spec\.json says grey, and conv1/kernel \(3, 3, 3, 8\) takes 3 channels"),
    ({"class_names": ("a", "b", "c")}, r"input_spec\.json names 3 classes, and logits/bias is for 2"),
    ({"class_names": ("a", "b")}, None),
    ({}, None),
])  # fmt: skip
def test_a_input_spec_must_fit_to_the_tensors(change, fault, tmp_path):
    path = made(tmp_path, "npz", {**ARRAYS, "logits/bias": np.ones(2, np.float32)})
    dataclasses.replace(INPUT_SPEC, **change).save(path)
    faults = verify(str(path)).faults
    assert list(faults) == ([""] if fault else [])
    assert not fault or re.search(fault, faults[""])


def test_one_logit_is_enough_for_two_classes(tmp_path):
    path = made(tmp_path, "npz", {"logits/bias": np.ones(1, np.float32)})
    dataclasses.replace(INPUT_SPEC, class_names=("cat", "dog")).save(path)
    assert verify(str(path)).faults == {}


# --- the tool ---


def test_the_report_of_a_sound_file(capsys):
    assert run(DIGITS) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{DIGITS} (TensorFlow checkpoint V2): 4 tensors, 52,992 bytes; a crc32c of each tensor",
        f"sound: {DIGITS}",
    ]


def test_the_report_of_a_bad_file_and_its_json(tmp_path, capsys):
    path = made(tmp_path, "ckpt", {**ARRAYS, "\x1b[2J": np.full(3, np.nan)})
    assert run(path) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[1:] == [
        r"  \x1b[2J: 3 NaN among 3 values",
        rf"bad: {path}, 1 of 5 tensors: \x1b[2J",
    ]
    assert run(path, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["sound"], found["faults"]) == (False, {"\x1b[2J": "3 NaN among 3 values"})


@pytest.mark.parametrize(("args", "status", "error"), [
    (["nowhere"], 1, "nowhere is neither a file nor a checkpoint"),
    ([DIGITS, "--digests=nowhere"], 1, "WeightsError: nowhere cannot be read"),
    ([ROOT / "tests"], 1, "holds no checkpoint"),
    ([], 2, "too few"),
])  # fmt: skip
def test_what_cannot_be_done_is_refused_in_a_line(args, status, error, capsys):
    assert run(*args) == status
    said = capsys.readouterr()
    assert error in said.err
    assert said.out == ""


def test_a_file_that_holds_no_weights_is_bad(tmp_path, capsys):
    (tmp_path / "a.npz").write_text("<html>")
    assert run(tmp_path / "a.npz") == 1
    assert "web page" in capsys.readouterr().out


def test_tensorflow_is_not_loaded(tmp_path):
    code = ("import sys; from tfxfer.tools import _main;"
            "status = _main.main(['tfxfer', 'verify_weights', sys.argv[1]]);"
            "sys.exit(status or 'tensorflow' in sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, DIGITS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_real_file_is_sound(real_data):
    files = [*real_data("weights").iterdir(), *real_data("keras").iterdir(), *real_data("safetensors").iterdir(),
             *real_data("checkpoints").rglob("*.index"), real_data("checkpoints/v1_har/model.ckpt")]  # fmt: skip
    assert len(files) >= 14
    for file in files:
        assert verify(str(file)).faults == {}, file
