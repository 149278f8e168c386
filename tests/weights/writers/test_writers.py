"""Writing weights: every pair of formats, every dtype, and everything that can go wrong on the way."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfxfer.errors import WeightsError
from tfxfer.formats.tensors import Tensor
from tfxfer.input_spec import InputSpec, sidecar
from tfxfer.weights import open_weights, streams, writers

RNG = np.random.default_rng(0)
OUTS = ("out.ckpt", "out.npz", "out.safetensors", "out.h5", "out.pth")
HALVES = ("out.ckpt", "out.safetensors", "out.h5", "out.pth")  # that have bfloat16
COMMON = ["float16", "float32", "float64", "int32", "int64", "uint8", "bool"]
INPUT_SPEC = InputSpec("vgg16", "here", (224, 224), "RGB", (1.0, 2.0, 3.0), (1.0, 1.0, 1.0))
# Parts of names that differ from what paths, zip archives, HDF5 and JSON take for special.
PARTS = st.text('abé語/:0_ "\\%', min_size=1, max_size=6).filter(
    lambda text: "" not in text.split("/") and not text.endswith(":0")
)


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


def held(named: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: streams.held(array) for name, array in named.items()}


def read(path: Path) -> dict[str, Tensor]:
    weights = open_weights(path)
    return {name: weights.tensor(name) for name in weights}


def values(size: int = 1000) -> dict[str, np.ndarray]:
    return {f"layer{i}/kernel": RNG.normal(size=size).astype(np.float32) for i in range(3)}


def names_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@st.composite
def named_arrays(draw, dtypes: list[str]) -> dict[str, np.ndarray]:
    shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    keys = draw(st.lists(PARTS, min_size=1, max_size=5, unique=True))
    if any(other.startswith(key + "/") or f"{key}:0" in other for key in keys for other in keys):
        keys = [f"{number}{key}" for number, key in enumerate(keys)]
    found = {key: draw(arrays.arrays(draw(st.sampled_from(dtypes)), draw(shapes))) for key in keys}
    return {key: array.T if draw(st.booleans()) else array for key, array in found.items()}


# --- round trips ---


@pytest.mark.parametrize(("first", "second"), list(itertools.product(OUTS, OUTS)))
@settings(max_examples=40)
@given(named=named_arrays(COMMON))
def test_every_pair_of_formats_gives_every_bit_back(tmp_path_factory, first, second, named):
    folder = tmp_path_factory.mktemp("pair")
    writers.write(folder / f"1{first}", held(named))
    writers.write(folder / f"2{second}", read(folder / f"1{first}"))
    found = open_weights(folder / f"2{second}")
    assert found.keys() == named.keys()
    assert all(same(found[name], array) for name, array in named.items())


@pytest.mark.parametrize(("first", "second"), list(itertools.product(HALVES, HALVES)))
def test_bfloat16_comes_back_from_every_format_that_has_it(tmp_path, first, second):
    # All 65536 patterns of bits: NaN with any payload, both zeros, subnormals.
    named = {"all": np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16), "0d": np.array(2.5, "bfloat16")}
    writers.write(tmp_path / f"1{first}", held(named))
    writers.write(tmp_path / f"2{second}", read(tmp_path / f"1{first}"))
    found = open_weights(tmp_path / f"2{second}")
    assert all(same(found[name], array) for name, array in named.items())


@given(st.lists(st.binary(max_size=300), max_size=20), st.booleans())
def test_strings_come_back_from_a_checkpoint(tmp_path_factory, texts, scalar):
    array = np.array([*(texts or [b""]), None], object)[:-1]
    array = array[0:1].reshape(()) if scalar else array
    prefix = tmp_path_factory.mktemp("strings") / "m"
    writers.write(prefix, held({"texts": array}))
    found = open_weights(prefix)["texts"]
    assert (found.shape, found.tolist()) == (array.shape, array.tolist())


@pytest.mark.parametrize("out", OUTS)
def test_the_same_arrays_give_the_same_bytes(tmp_path, out):
    named = values()
    for folder in ("a", "b"):
        writers.write(tmp_path / folder / out, held(named))
    assert names_in(tmp_path / "a") == names_in(tmp_path / "b")
    for name in names_in(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("out", OUTS)
def test_arrays_lie_aligned_in_what_is_written(tmp_path, out):
    named = {"a": np.ones(3, np.uint8), "b/kernel": np.ones((5, 200)), "c": np.array(True), "d": np.ones(777)}
    writers.write(tmp_path / out, held(named))
    found = open_weights(tmp_path / out)
    for name in ("b/kernel", "d"):
        assert found[name].ctypes.data % 8 == 0
        assert not found[name].flags.owndata


@pytest.mark.parametrize("out", OUTS)
def test_files_are_as_readable_as_any_other_and_nothing_is_left_beside(tmp_path, out):
    writers.write(tmp_path / out, held(values()))
    (tmp_path / "other").touch()
    modes = {(tmp_path / name).stat().st_mode for name in names_in(tmp_path)}
    assert len(modes) == 1
    expected = ["out.ckpt.data-00000-of-00001", "out.ckpt.index"] if out == "out.ckpt" else [out]
    assert names_in(tmp_path) == sorted([*expected, "other"])


# --- which format ---


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a", "TensorFlow checkpoint V2"),
        ("a.ckpt", "TensorFlow checkpoint V2"),
        ("model.ckpt-70", "TensorFlow checkpoint V2"),
        ("model-70", "TensorFlow checkpoint V2"),
        ("a.npz", "NumPy .npz archive"),
        ("a.safetensors", "safetensors file"),
        ("a.h5", "Keras HDF5 file"),
        ("a.hdf5", "Keras HDF5 file"),
        ("a.pth", "PyTorch .pth file"),
        ("a.pt", "PyTorch .pth file"),
        ("pytorch_model.bin", "PyTorch .pth file"),
    ],
)
def test_the_suffix_tells_the_format(name, words):
    assert writers.kind_of(Path(name)).words == words


@pytest.mark.parametrize("name", ["a.bin", "a.tar", "a.ckpt.index", "a.data-00000-of-00001", "/"])
def test_an_unknown_suffix_is_refused_with_those_that_are_known(name):
    known = r"\.ckpt, \.npz, \.safetensors, \.h5, \.hdf5, \.pth, \.pt"
    with pytest.raises(WeightsError, match=rf"OUT ends in one of {known}, or has no"):
        writers.kind_of(Path(name))


def test_a_weights_h5_is_refused_for_what_keras_would_take_it_for():
    with pytest.raises(WeightsError, match=r"a/b\.weights\.h5: Keras takes .* call it b\.h5, which load_weights reads"):
        writers.kind_of(Path("a/b.weights.h5"))


# --- what a format cannot hold ---


@pytest.mark.parametrize(
    ("out", "named", "message"),
    [
        (
            "a.npz",
            {"w": np.ones(2, "bfloat16"), "v": np.ones(2)},
            r"npz archive cannot hold 1 of 2 tensors:\n  w: NumPy's files have no dtype bf",
        ),
        ("a.npz", {"w": np.array([b"a"], object)}, r"w: NumPy keeps strings of any length as a pickle"),
        (
            "a.npz",
            {"../w": np.ones(2), "/w": np.ones(2), "a\0": np.ones(2)},
            r"3 of 3 tensors:\n  \.\./w: as the name of a file in an archive it would lead out",
        ),
        ("a.npz", {"a" * 70_000: np.ones(2)}, "its name is too long"),
        ("a.safetensors", {"w": np.array([b"a"], object)}, r"w: safetensors has no dtype for strings"),
        ("a.safetensors", {"w": np.ones(2, np.complex128)}, r"w: safetensors has no dtype complex128"),
        ("a.safetensors", {"__metadata__": np.ones(2)}, r"__metadata__: safetensors keeps this name for itself"),
        (
            "a.safetensors",
            {"a" * (17 << 20): np.ones(2)},
            r"its name and those of the others take more than 16,777,216 bytes",
        ),
        (
            "a.h5",
            {"w": np.array([b"a"], object)},
            r"w: it would not be read back: a Keras file holds numbers, and not strings",
        ),
        ("a.h5", {"w": np.ones(2, np.complex64)}, r"w: it would not be read back: .* not complex64"),
        (
            "a.h5",
            {"a//b": np.ones(2), "a/./b": np.ones(2), "c\0": np.ones(1)},
            r"3 of 3 tensors:\n  a//b: HDF5 has no such name",
        ),
        ("a.h5", {"a": np.ones(2), "a:0/x": np.ones(2), "a/a:0/b": np.ones(2)}, r"a/a:0/b"),
        (
            "a.h5",
            {"model_weights/w": np.ones(2)},
            r"Keras keeps the names of model_weights, top_level_model_weights for itself",
        ),
        ("a.h5", {"a" * 65_000: np.ones(2)}, "its name is too long"),
        ("a", {"": np.ones(2), "\0a": np.ones(2)}, r"2 of 2 tensors:\n  : its name is empty or begins with a NUL"),
        ("a", {"w": np.array(["text"])}, r"w: TensorFlow has no dtype <U4"),
        ("a", {"w\ud800": np.ones(2)}, r"'w\\ud800': its name is not Unicode text"),
        ("a.npz", {"w\ud800": np.ones(2)}, r"'w\\ud800': its name is not Unicode text"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_anything_is_written(tmp_path, out, named, message):
    with pytest.raises(WeightsError, match=message):
        writers.write(tmp_path / out, held(named))
    assert names_in(tmp_path) == []


def test_many_faults_are_counted_and_the_cure_is_named(tmp_path):
    named = {f"w{i:02}": np.ones(1, ml_dtypes.bfloat16) for i in range(12)}
    with pytest.raises(
        WeightsError, match=r"(?s)12 of 12 tensors.*w09.*and 2 more\n.*by `dtype`, or take another format"
    ):
        writers.write(tmp_path / "a.npz", held(named))


def test_an_empty_set_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="there is nothing to write to"):
        writers.write(tmp_path / "a.npz", {})


# --- what is there already ---


@pytest.mark.parametrize("out", OUTS)
def test_what_exists_is_refused_and_survives(tmp_path, out):
    writers.write(tmp_path / out, held(values()), input_spec=INPUT_SPEC)
    before = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)}
    with pytest.raises(
        WeightsError, match=rf"out\.\S* exists; take another name, or `overwrite=True`, .* aside to {out}.old-1"
    ):
        writers.write(tmp_path / out, held(values()))
    assert {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)} == before


@pytest.mark.parametrize("out", OUTS)
def test_overwriting_moves_what_was_there_aside_whole(tmp_path, out):
    rounds = [values() for _ in range(3)]
    for number, named in enumerate(rounds):
        moved = writers.write(
            tmp_path / out, held(named), input_spec=INPUT_SPEC if not number else None, overwrite=True
        )
    assert all(old.name.startswith(out) and new.name.startswith(f"{out}.old-2") for old, new in moved.items())
    for name, named in zip((f"{out}.old-1", f"{out}.old-2", out), rounds, strict=True):
        found = open_weights(tmp_path / name)
        assert all(same(found[key], array) for key, array in named.items())
    assert sidecar(tmp_path / f"{out}.old-1").exists()
    assert not sidecar(tmp_path / out).exists()


def test_overwriting_a_checkpoint_takes_all_of_it_aside_and_nothing_else(tmp_path):
    parts = ["index", "meta", "data-00000-of-00002", "data-00001-of-00002", "input_spec.json", "state.json"]
    for part in [*parts, "other", "data-1", "index.old"]:
        (tmp_path / f"m.ckpt-7.{part}").write_text(part)
    (tmp_path / "m.ckpt-70.index").touch()
    (tmp_path / "m.ckpt-7").write_text("of format V1")
    writers.write(tmp_path / "m.ckpt-7", held(values()), overwrite=True)
    assert names_in(tmp_path) == sorted(
        ["m.ckpt-7.data-00000-of-00001", "m.ckpt-7.index", "m.ckpt-70.index", "m.ckpt-7.old-1"]
        + [f"m.ckpt-7.{part}" for part in ("other", "data-1", "index.old")]
        + [f"m.ckpt-7.old-1.{part}" for part in parts]
    )
    assert (tmp_path / "m.ckpt-7.old-1.data-00001-of-00002").read_text() == "data-00001-of-00002"


def test_a_folder_is_no_place_for_a_file(tmp_path):
    with pytest.raises(WeightsError, match=r"is a folder; give the name of a file in it, as .*/model\.ckpt"):
        writers.write(tmp_path, held(values()), overwrite=True)


def test_the_folder_is_made_if_it_is_missing(tmp_path):
    writers.write(tmp_path / "a/b/c.npz", held(values()))
    assert len(open_weights(tmp_path / "a/b/c.npz")) == 3


def test_the_input_spec_is_written_with_the_weights(tmp_path):
    for out in OUTS:
        writers.write(tmp_path / out, held(values()), input_spec=INPUT_SPEC)
        assert InputSpec.load(tmp_path / out) == INPUT_SPEC


# --- IN and OUT ---


@pytest.mark.parametrize("name", OUTS)
def test_what_is_read_is_never_written_over(tmp_path, name):
    named = values()
    writers.write(tmp_path / name, held(named))
    weights = open_weights(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    out = tmp_path / "link" / ".." / tmp_path.name / name
    for path in (tmp_path / name, out, Path(os.path.relpath(tmp_path / name))):
        with pytest.raises(WeightsError, match=r"is where .* is read from; nothing is changed in place: take another"):
            writers.write(path, read(tmp_path / name), sources=[weights], overwrite=True)
    assert all(same(open_weights(tmp_path / name)[key], array) for key, array in named.items())


def test_a_link_to_any_file_of_what_is_read_is_refused(tmp_path):
    writers.write(tmp_path / "m", held(values()))
    (tmp_path / "linked.npz").symlink_to(tmp_path / "m.data-00000-of-00001")
    os.link(tmp_path / "m.index", tmp_path / "n.index")
    for out in ("linked.npz", "n"):
        with pytest.raises(WeightsError, match=r"is where .*m is read from"):
            writers.write(tmp_path / out, held(values()), sources=[open_weights(tmp_path / "m")], overwrite=True)


def test_a_checkpoint_in_a_directory_is_known_by_its_files(tmp_path):
    writers.write(tmp_path / "best" / "m-7", held(values()))
    with pytest.raises(WeightsError, match="nothing is changed in place"):
        writers.write(
            tmp_path / "best" / "m-7", held(values()), sources=[open_weights(tmp_path / "best")], overwrite=True
        )


# --- failures on the way ---


def breaking(error: BaseException, size: int = 1000) -> dict[str, Tensor]:
    """Tensors of which the second fails in the middle."""

    def stream() -> Iterator[np.ndarray]:
        yield np.ones(size // 2, np.float32)
        raise error

    broken = streams.computed((size,), np.dtype(np.float32), stream)
    return {"a/kernel": streams.held(np.ones(size, np.float32)), "b/kernel": broken, "c": streams.held(np.ones(3))}


@pytest.mark.parametrize("out", OUTS)
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (SystemExit(143), SystemExit, "143"),
        (WeightsError("w fails its checksum"), WeightsError, "w fails its checksum"),
        (
            OSError(28, "No space left on device"),
            WeightsError,
            r"out\S* was not written: No space left on device; its tensors take 8,024 bytes, so make room",
        ),
        (MemoryError(), WeightsError, r"was not written: there is too little memory for its largest tensor"),
    ],
)
def test_whatever_goes_wrong_leaves_what_was_there_and_nothing_else(tmp_path, out, there, error, raised, message):
    if there:
        writers.write(tmp_path / out, held(values()), input_spec=INPUT_SPEC)
    before = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)}
    with pytest.raises(raised, match=message):
        writers.write(tmp_path / out, breaking(error), input_spec=INPUT_SPEC, overwrite=True)
    assert {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)} == before


@pytest.fixture
def small_files() -> Iterator[Callable[[], None]]:
    """Let no file grow beyond 30,000 bytes: the kernel then refuses to write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("out", OUTS)
def test_a_write_that_the_kernel_refuses_leaves_what_was_there(tmp_path, small_files, out):
    old = values()
    writers.write(tmp_path / out, held(old))
    before = names_in(tmp_path)
    small_files()
    with pytest.raises(WeightsError, match=r"out.* was not written: File too large; its tensors take 48,000 bytes"):
        writers.write(tmp_path / out, held(values(4000)), overwrite=True)
    assert names_in(tmp_path) == before
    assert all(same(open_weights(tmp_path / out)[key], array) for key, array in old.items())


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small file system; test_a_write_that_the_kernel_refuses stands for it")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("out", OUTS)
def test_a_full_disk_leaves_what_was_there(full_disk, out):
    old = values(4000)
    writers.write(full_disk / out, held(old))
    before = names_in(full_disk)
    with pytest.raises(WeightsError, match="was not written: No space left on device"):
        writers.write(full_disk / out, held(values(40_000)), overwrite=True)
    assert names_in(full_disk) == before
    assert all(same(open_weights(full_disk / out)[key], array) for key, array in old.items())


# --- memory ---

MEASURE = """
import resource, sys
from tfxfer.weights import open_weights, writers
from tfxfer.weight_tools.convert_weights import plan
import zipfile
if sys.argv[2].endswith("h5"): import h5py
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
base = peak()
layout = [("w.*", sys.argv[4])] if sys.argv[4] else []
conversion = plan(open_weights(sys.argv[1]), dtype=sys.argv[3] or None, layout=layout)
writers.write(sys.argv[2], conversion.tensors)
print(peak() - base)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of memory")
@pytest.mark.parametrize(
    ("source", "out", "dtype", "layout"),
    [
        # Each reader and each writer once, with a tensor that streams and one that does not.
        ("packed.npz", "out.npz", "", ""),
        ("packed.npz", "out.h5", "", ""),
        ("in.npz", "out.ckpt", "float16", ""),
        ("in.npz", "out.h5", "", ""),
        ("in.ckpt", "out.npz", "float64", ""),
        ("in.ckpt", "out.h5", "", "transpose"),
        ("in.safetensors", "out.safetensors", "", ""),
        ("in.h5", "out.ckpt", "", ""),
        ("in.pth", "out.npz", "", ""),
        ("packed.npz", "out.pth", "", ""),
        ("in.ckpt", "out.pth", "float16", "transpose"),
    ],
)
def test_memory_stays_below_one_point_three_of_the_largest_tensor(tmp_path, source, out, dtype, layout):
    side = 2560
    named = {f"w{i}": np.full((side, side * 2), i, np.float32) for i in range(2)}
    if source == "packed.npz":
        with zipfile.ZipFile(tmp_path / source, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in named.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, array)
    else:
        writers.write(tmp_path / source, held(named))
    command = [sys.executable, "-c", MEASURE, tmp_path / source, tmp_path / out, dtype, layout]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 1.3 * 4 * side * side * 2
