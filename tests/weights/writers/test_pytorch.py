"""PyTorch's `.pth` files that are written, against Python's pickle, a file of PyTorch and PyTorch itself."""

from __future__ import annotations

import io
import json
import math
import pickle
import pickletools
import shutil
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tests.oracle import oracle_python
from tfxfer.errors import WeightsError
from tfxfer.formats.tensors import Tensor
from tfxfer.weight_tools.convert_weights import plan
from tfxfer.weights import open_weights, streams, writers

RNG = np.random.default_rng(0)
GOLDEN = Path(__file__).parent.parent / "golden" / "pytorch"
# Names as PyTorch's documentation has them.
STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "ComplexDoubleStorage": "c16",
    "ComplexFloatStorage": "c8",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
LATER = ["uint16", "uint32", "uint64"]
FLOAT8 = ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"]
# What the machine of torch/_weights_only_unpickler.py does, in its first version.
OPCODES = [
    "PROTO",
    "GLOBAL",
    "NEWOBJ",
    "REDUCE",
    "BUILD",
    "APPEND",
    "APPENDS",
    "SETITEM",
    "SETITEMS",
    "MARK",
    "TUPLE",
    "TUPLE1",
    "TUPLE2",
    "TUPLE3",
    "EMPTY_TUPLE",
    "EMPTY_LIST",
    "EMPTY_DICT",
    "EMPTY_SET",
    "NONE",
    "NEWFALSE",
    "NEWTRUE",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINUNICODE",
    "BINFLOAT",
    "BINPERSID",
    "BINGET",
    "LONG_BINGET",
    "BINPUT",
    "LONG_BINPUT",
    "STOP",
]


def held(named: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: streams.held(array) for name, array in named.items()}


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


class Unpickler(pickle.Unpickler):
    """Makes numpy arrays where PyTorch makes tensors, and refuses every other name."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        super().__init__(io.BytesIO(archive.read("archive/data.pkl")))
        self.archive = archive

    def find_class(self, module: str, name: str) -> object:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return self.rebuild
            case "torch._utils", "_rebuild_tensor_v3":
                return self.rebuild_untyped
            case "torch.storage", "UntypedStorage":
                return np.dtype("u1")
            case "torch", _ if name in STORAGES:
                return np.dtype(STORAGES[name])
            case "torch", _ if name in LATER + FLOAT8:
                return np.dtype(name if name in LATER else getattr(ml_dtypes, name))
        raise AssertionError((module, name))

    def persistent_load(self, key: tuple) -> np.ndarray:
        kind, dtype, number, place, count = key
        assert (kind, place) == ("storage", "cpu")
        content = self.archive.read(f"archive/data/{number}")
        assert len(content) == count * dtype.itemsize
        return np.frombuffer(content, dtype)

    def rebuild(self, storage, start, shape, strides, gradient, hooks) -> np.ndarray:
        assert (gradient, hooks) == (False, OrderedDict())
        strides = tuple(stride * storage.itemsize for stride in strides)
        if not storage.size:
            return storage.reshape(shape)
        return np.ndarray(shape, storage.dtype, storage, start * storage.itemsize, strides)

    def rebuild_untyped(self, storage, start, shape, strides, gradient, hooks, dtype) -> np.ndarray:
        return self.rebuild(storage.view(dtype), start, shape, strides, gradient, hooks)


def loaded(path: Path) -> OrderedDict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        return Unpickler(archive).load()


def every_kind() -> dict[str, np.ndarray]:
    """Every dtype, shapes of every length, names of every kind, and more than 256 values that the pickle notes."""
    kinds = [*STORAGES.values(), *LATER, *(getattr(ml_dtypes, name) for name in FLOAT8)]
    named = {f"é.{np.dtype(kind)}": (RNG.integers(0, 9, (2, 3)) + 0.5).astype(kind) for kind in kinds}
    named |= {f"rank/{rank}": np.full((2,) * rank, rank, "f4") for rank in range(7)}
    named |= {"empty": np.zeros((3, 0, 4), "f4"), "none": np.zeros(0, "uint16"), "turned": RNG.normal(size=(4, 6)).T}
    return named | {"": np.ones(300, "i1"), "\0 語": np.zeros(70_000, "?"), "one": np.zeros((1, 1), "f8")}


def test_every_array_comes_back_by_the_rules_of_pickle_bit_for_bit(tmp_path):
    named = every_kind()
    writers.write(tmp_path / "a.pth", held(named))
    found = loaded(tmp_path / "a.pth")
    assert list(found) == list(named)
    assert [name for name in named if not same(found[name], named[name])] == []


@pytest.mark.parametrize("count", [1, 2, 256, 1000, 1001, 2000])
def test_any_number_of_arrays_is_written(tmp_path, count):
    writers.write(tmp_path / "a.pth", held({f"w{i}": np.full(i % 3, i) for i in range(count)}))
    assert {name: array.tolist() for name, array in loaded(tmp_path / "a.pth").items()} == {
        f"w{i}": [i] * (i % 3) for i in range(count)
    }


def test_sizes_beyond_what_an_int_holds_are_written(tmp_path):
    shapes = [(1 << power, 0, 3) for power in (7, 8, 15, 16, 30, 31, 32, 39, 40, 55)]
    tensors = {str(shape): Tensor(shape, np.dtype("f4"), lambda shape=shape: np.zeros(shape, "f4")) for shape in shapes}
    writers.write(tmp_path / "a.pth", tensors)
    assert [array.shape for array in loaded(tmp_path / "a.pth").values()] == shapes


def test_the_pickle_has_only_opcodes_that_pytorch_loads_without_running_code(tmp_path):
    writers.write(tmp_path / "a.pth", held({f"{i}": array for i in range(9) for array in every_kind().values()}))
    code = zipfile.ZipFile(tmp_path / "a.pth").read("archive/data.pkl")
    opcodes = {opcode.name for opcode, _, _ in pickletools.genops(code)}
    assert opcodes - set(OPCODES) == set()
    assert max(opcode.proto for opcode, _, _ in pickletools.genops(code)) == 2


def test_the_archive_is_stored_sound_aligned_and_as_pytorch_orders_it(tmp_path):
    named = {f"{'n' * i}": np.ones(i, np.float32) for i in range(1, 80)}
    writers.write(tmp_path / "a.pth", held(named))
    raw = (tmp_path / "a.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        members = ["data.pkl", "byteorder", *(f"data/{i}" for i in range(len(named))), "version"]
        assert archive.namelist() == [f"archive/{name}" for name in members]
        assert (archive.read("archive/version"), archive.read("archive/byteorder")) == (b"3\n", b"little")
        for info in archive.infolist():
            begin = raw.index(archive.read(info), info.header_offset + 30 + len(info.filename))
            assert begin % 64 == 0, info.filename


def test_the_bytes_are_those_that_pytorch_writes(tmp_path):
    """As PyTorch 2.13 wrote `state_dict.pth` from `every_kind()` with 1,000 zeros for the 70,000.

    Each array by `raw = torch.frombuffer(bytearray(array.tobytes()), dtype=torch.uint8)`, `raw.view(dtype)` (or
    `torch.empty(0, dtype=dtype)`) and `.reshape(shape)`; all of them by `torch.save(OrderedDict(named), io.BytesIO())`.
    """
    named = loaded(GOLDEN / "state_dict.pth")
    assert len(named) > 30
    writers.write(tmp_path / "a.pth", held(named))
    with zipfile.ZipFile(GOLDEN / "state_dict.pth") as expected, zipfile.ZipFile(tmp_path / "a.pth") as archive:
        ours, theirs = archive.namelist(), expected.namelist()
        assert set(theirs) - set(ours) == {
            f"archive/{name}" for name in (".format_version", ".storage_alignment", ".data/serialization_id")
        }
        assert ours == [name for name in theirs if name in ours]
        assert [name for name in ours if archive.read(name) != expected.read(name)] == []


def test_names_and_places_do_not_change_the_bytes(tmp_path):
    named = held({"w": np.ones(3), "b": np.zeros(2, "f4")})
    for name in ("a.pth", "folder/b.pt", "pytorch_model.bin"):
        writers.write(tmp_path / name, named)
    contents = {path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert len(contents) == 1


def test_what_pytorch_lacks_is_refused_with_all_names(tmp_path):
    named = {
        "s": np.array([b"a", None], object)[:1],
        "u": np.array(["text"]),
        "i4": np.zeros(2, ml_dtypes.int4),
        "w": np.ones(2),
    }
    with pytest.raises(
        WeightsError, match=r"(?s)cannot hold 3 of 4 tensors:.*s: PyTorch has no dtype for strings.*int4"
    ):
        writers.write(tmp_path / "a.pth", held(named))
    assert list(tmp_path.iterdir()) == []


def test_more_arrays_than_a_reader_takes_are_refused(tmp_path):
    one = streams.held(np.ones(1))
    with pytest.raises(WeightsError, match=r"w0: it is one of 13,001, and 13,000 is the most"):
        writers.write(tmp_path / "a.pth", {f"w{i}": one for i in range(13_001)})


def test_kernels_take_pytorchs_layout_by_the_inverse_layouts(tmp_path):
    named = {"conv/kernel": RNG.normal(size=(3, 5, 2, 4)).astype("f4"), "fc/kernel": RNG.normal(size=(6, 3))}
    np.savez(tmp_path / "a.npz", **named)
    conversion = plan(
        open_weights(tmp_path / "a.npz"),
        rename=[("/kernel", ".weight")],
        layout=[("conv.*", "-oihw_conv"), ("fc.*", "-transpose")],
    )
    writers.write(tmp_path / "a.pth", conversion.tensors)
    found = loaded(tmp_path / "a.pth")
    assert same(found["conv.weight"], named["conv/kernel"].transpose(3, 2, 0, 1))
    assert same(found["fc.weight"], named["fc/kernel"].T)


def test_our_reader_gives_every_array_back(tmp_path):
    named = {name: array for name, array in every_kind().items() if name}
    writers.write(tmp_path / "a.pth", held(named))
    weights = open_weights(tmp_path / "a.pth")
    assert set(weights) == set(named)
    assert [name for name in named if not same(weights[name], named[name])] == []


# --- PyTorch itself ---

COMPARE = """
import json, sys, numpy as np, torch
expected = np.load("arrays.npz")
for options in ({}, {"mmap": True}):
    found = torch.load("a.pth", weights_only=True, **options)
    entries = json.load(open("dtypes.json"))
    assert list(found) == [name for name, _, _ in entries]
    for number, (name, dtype, shape) in enumerate(entries):
        tensor = found[name]
        assert (str(tensor.dtype), list(tensor.shape)) == (f"torch.{dtype}", shape), name
        assert tensor.is_contiguous()
        raw = tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.zeros(0, np.uint8)
        np.testing.assert_array_equal(raw, expected[str(number)], name)
"""


def test_pytorch_loads_every_array_bit_for_bit(tmp_path):
    python, named = oracle_python("torch", "numpy"), every_kind()
    writers.write(tmp_path / "a.pth", held(named))
    np.savez(
        tmp_path / "arrays.npz", **{str(i): np.frombuffer(a.tobytes(), "u1") for i, a in enumerate(named.values())}
    )
    entries = [(name, str(array.dtype), array.shape) for name, array in named.items()]
    (tmp_path / "dtypes.json").write_text(json.dumps(entries))
    subprocess.run([python, "-c", COMPARE], cwd=tmp_path, check=True)


NETWORK = """
import numpy as np, torch
net = torch.nn.Sequential(torch.nn.Conv2d(2, 4, (3, 5)), torch.nn.Flatten(), torch.nn.Linear(4 * 2 * 3, 3))
net.load_state_dict(torch.load("net.pth", weights_only=True))
with torch.no_grad():
    np.save("theirs.npy", net(torch.from_numpy(np.load("x.npy").transpose(0, 3, 1, 2))).numpy())
"""


def test_a_network_of_pytorch_answers_as_ours_does(tmp_path):
    python = oracle_python("torch", "numpy")
    kernel, bias = RNG.normal(size=(3, 5, 2, 4)).astype("f4"), RNG.normal(size=4).astype("f4")
    dense, x = RNG.normal(size=(24, 3)).astype("f4"), RNG.normal(size=(2, 4, 7, 2)).astype("f4")
    np.savez(tmp_path / "net.npz", **{"c/kernel": kernel, "c/bias": bias, "d/kernel": dense, "d/bias": bias[:3]})
    conversion = plan(
        open_weights(tmp_path / "net.npz"),
        rename=[("^c/", "0."), ("^d/", "2."), ("kernel", "weight")],
        layout=[("0.weight", "-oihw_conv"), ("2.weight", "-chw_fc:2,3,4+-transpose")],
    )
    writers.write(tmp_path / "net.pth", conversion.tensors)
    np.save(tmp_path / "x.npy", x)
    subprocess.run([python, "-c", NETWORK], cwd=tmp_path, check=True)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 5), axis=(1, 2))
    hidden = np.einsum("nrscij,ijco->nrso", windows, kernel) + bias
    ours = hidden.reshape(2, 24) @ dense + bias[:3]
    np.testing.assert_allclose(np.load(tmp_path / "theirs.npy"), ours, rtol=1e-4, atol=1e-4)


LARGE = """
import torch
found = torch.load("a.pth", weights_only=True, mmap=True)
assert (found["large"].numel(), found["last"].tolist(), found["large"][-2:].tolist()) == (2**32 + 5, [1.0, 2.0], [7, 7])
"""


@pytest.mark.slow
def test_arrays_beyond_4_gib_are_written_in_bounded_memory(tmp_path):
    if shutil.disk_usage(tmp_path).free < 6 << 30:
        pytest.skip("less than 6 GiB of disk are free")
    size = (1 << 32) + 5

    def sevens() -> Iterator[np.ndarray]:
        piece = np.full(1 << 22, 7, np.uint8)
        yield from (piece[: min(len(piece), size - start)] for start in range(0, size, len(piece)))

    large = streams.computed((size,), np.dtype(np.uint8), sevens)
    writers.write(tmp_path / "a.pth", {"large": large, "last": streams.held(np.array([1.0, 2.0]))})
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        assert archive.getinfo("archive/data/0").file_size == size
        assert np.frombuffer(archive.read("archive/data/1")).tolist() == [1, 2]
        code = archive.read("archive/data.pkl")
    numbers = [argument for opcode, argument, _ in pickletools.genops(code) if opcode.name == "LONG1"]
    assert numbers == [size, size]
    assert math.isclose((tmp_path / "a.pth").stat().st_size, size, rel_tol=1e-6)
    subprocess.run([oracle_python("torch"), "-c", LARGE], cwd=tmp_path, check=True)
    (tmp_path / "a.pth").unlink()
