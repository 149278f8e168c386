"""The reader of PyTorch's files.

`golden/pytorch/` was written by PyTorch 2.13, with `torch.manual_seed(0)` first:

    KINDS = ["uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "float16", "float32", "float64",
             "bfloat16", "bool", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"]
    values = {k: torch.arange(6).to(getattr(torch, k)).reshape(2, 3) for k in KINDS}
    table = torch.arange(24.0).reshape(4, 6)
    values |= {"table": table, "tied": table, "transposed": table.t(), "sliced": table[1:, ::2], "row": table[2],
               "expanded": torch.ones(3, 1).expand(3, 5), "scalar": torch.tensor(7), "empty": torch.zeros(0, 3),
               "parameter": nn.Parameter(torch.ones(2)), "conjugate": torch.ones(2, dtype=torch.complex64).conj(),
               "sparse": torch.eye(3).to_sparse(), "meta": torch.empty(3, device="meta"), "epoch": 3}
    torch.save(values, "tensors.pth")
    torch.save(values, "tensors_old.pth", _use_new_zipfile_serialization=False)
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU())
    adam = torch.optim.Adam(net.parameters(), lr=0.5)
    net(torch.ones(4, 2)).sum().backward()
    adam.step()
    torch.save({"epoch": 3, "args": argparse.Namespace(lr=0.5), "state_dict": nn.DataParallel(net).state_dict(),
                "optimizer": adam.state_dict()}, "checkpoint.pth")
    torch.save(net, "module.pth")
    torch.jit.script(net.eval()).save("script.pt")
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import time
import tracemalloc
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tests import fuzz, torch_files
from tests.oracle import oracle_python
from tests.torch_files import Call, Global, Persistent, Saved, archive, dumps, storage, view
from tfxfer.errors import WeightsError
from tfxfer.weights import open_weights, pytorch, roles, streams
from tfxfer.weights.streams import held
from tfxfer.weights.writers import pytorch as torch_writer

GOLDEN = Path(__file__).parent / "golden" / "pytorch"
TABLE = np.arange(24, dtype="f4").reshape(4, 6)
VIEWS = {
    "table": TABLE,
    "tied": TABLE,
    "transposed": TABLE.T,
    "sliced": TABLE[1:, ::2],
    "row": TABLE[2],
    "expanded": np.ones((3, 5), "f4"),
    "scalar": np.array(7),
    "empty": np.zeros((0, 3), "f4"),
    "parameter": np.ones(2, "f4"),
    "epoch": np.array(3),
}
NET = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]
FLOATS = np.arange(6, dtype="f4").reshape(2, 3)


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


# --- what PyTorch wrote ---


@pytest.mark.parametrize("name", ["tensors.pth", "tensors_old.pth"])
def test_tensors_of_all_dtypes_and_strides_are_read_in_both_forms(name):
    weights = open_weights(GOLDEN / name)
    assert weights.kind == ("PyTorch archive" if name == "tensors.pth" else "PyTorch file of the old form")
    kinds = [kind for kind in weights if kind not in VIEWS]
    assert len(kinds) == 18
    for kind in kinds:
        dtype = np.dtype(getattr(ml_dtypes, kind, kind))
        # float8_e8m0fnu has powers of two alone: 0 is the smallest for PyTorch.
        values = [2.0**-127, 1, 2, 4, 4, 4] if kind == "float8_e8m0fnu" else [*range(6)]
        assert same(weights[kind], np.array(values).reshape(2, 3).astype(dtype)), kind
    for kind, expected in VIEWS.items():
        assert (weights.shape(kind), weights.dtype(kind)) == (expected.shape, expected.dtype)
        assert same(weights[kind], expected), kind
    assert {kind: why.split(": ", 1)[1].split(";")[0] for kind, why in weights.skipped.items()} == {
        "conjugate": "conjugate is a view that conjugates or negates",
        "sparse": "sparse is a sparse tensor",
        "meta": "meta is a tensor on the device `meta`, which has no values",
    }


def test_the_weights_of_a_checkpoint_lose_outer_key_and_prefix_and_the_optimizer_is_told_apart():
    weights = open_weights(GOLDEN / "checkpoint.pth")
    assert [name for name in weights if name in NET] == NET
    assert weights.source("1.running_mean") == "state_dict/module.1.running_mean"
    assert "argparse.Namespace" in weights.skipped["args"]
    kinds = {name: roles.role(name, weights.shape(name), set(weights)) for name in weights}
    assert [kinds[name] for name in NET[:2]] == ["kernel", "bias"]
    assert {kinds[name] for name in NET[2:4]} == {"batch-norm parameter"}
    assert {kinds[name] for name in NET[4:6]} == {"batch-norm statistic"}
    assert kinds["epoch"] == kinds["optimizer/state/0/step"] == kinds[NET[6]] == "step"
    rest = [name for name in weights if name.startswith("optimizer/") and not name.endswith("/step")]
    assert {kinds[name] for name in rest} == {"optimizer slot"}
    assert weights["optimizer/param_groups/0/lr"] == 0.5
    assert weights["optimizer/state/3/exp_avg_sq"].any()


@pytest.mark.parametrize("name", ["module.pth", "script.pt"])
def test_whole_modules_and_torchscript_give_what_the_state_dict_holds(name):
    weights, expected = open_weights(GOLDEN / name), open_weights(GOLDEN / "checkpoint.pth")
    assert weights.kind == ("TorchScript archive" if name == "script.pt" else "PyTorch archive")
    assert list(weights) == NET
    assert all(same(weights[key], expected[key]) for key in NET)
    assert not weights.skipped


LOAD = """
import hashlib, json, sys, torch
def flat(value, name=""):
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from flat(inner, f"{name}/{key}".lstrip("/"))
    if torch.is_tensor(value) and value.layout == torch.strided and not value.is_conj() and value.device.type == "cpu":
        data = value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        yield name, [str(value.dtype)[6:], list(value.shape), hashlib.sha256(data).hexdigest()]
print(json.dumps(dict(flat(torch.load(sys.argv[1], weights_only=True)))))
"""
SAVE = """
import sys, torch
torch.manual_seed(1)
base = torch.randn(7, 8, 9)
values = {"a": base.permute(2, 0, 1), "b": base[2:5, ::3, 1], "c": base[..., -1:].expand(7, 8, 30), "d": base[1, 2, 3],
          "e": base.bfloat16()[:, 2], "f": torch.randn(4).to(torch.float8_e4m3fnuz), "g": base.unfold(0, 3, 2),
          "h": torch.nn.Parameter(base.half()), "tied": base.permute(2, 0, 1), "deep": {"x": {"y": base.double()}},
          "z": torch.zeros(3, 0), "n": torch.randn(3, 4, dtype=torch.complex64).t(), "u": base.view(-1)[5:9].bool()}
torch.save({"model": values}, sys.argv[2])
del values["f"]  # which PyTorch 2.13 cannot load from the old form
torch.save({"model": values}, sys.argv[1], _use_new_zipfile_serialization=False)
"""


def check_against_torch(path: Path) -> None:
    """Compare every tensor of a file with what PyTorch loads from it."""
    loaded = subprocess.run(
        [oracle_python("torch"), "-c", LOAD, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    expected = json.loads(loaded.stdout)
    weights = open_weights(path)
    found = {
        weights.source(name): [weights.dtype(name).name, [*array.shape], hashlib.sha256(array.tobytes()).hexdigest()]
        for name, array in weights.items()
    }
    assert expected
    assert {name: found.get(name) for name in expected} == expected


def test_every_tensor_has_the_bits_that_torch_loads(tmp_path):
    python = oracle_python("torch")
    subprocess.run([python, "-c", SAVE, str(tmp_path / "old"), str(tmp_path / "new")], check=True)
    for path in (tmp_path / "old", tmp_path / "new", GOLDEN / "tensors.pth"):
        check_against_torch(path)


def test_efficientnet_has_the_bits_that_torch_loads(real_data):
    check_against_torch(real_data("formats/efficientnet-lite0-57934424.pth"))


def test_efficientnet_of_the_old_form_is_read(real_data):
    weights = open_weights(real_data("formats/efficientnet-lite0-57934424.pth"))
    assert weights.kind == "PyTorch file of the old form"
    assert len(weights) == 296
    assert weights.shape("_conv_stem.weight") == (32, 3, 3, 3)
    assert all(np.isfinite(array).all() for array in weights.values())
    assert all(
        (weights[name] >= 0).all() and weights[name].std() > 0 for name in weights if name.endswith("running_var")
    )


# --- names ---


def scalar(value: float) -> Call:
    """Return a tensor without dimensions in the first storage."""
    return view(storage("0", 6), (), (), value)


@pytest.mark.parametrize(
    ("root", "names"),
    [
        (lambda t: {"state_dict": {"a.weight": t}, "epoch": 1}, ["a.weight", "epoch"]),
        (lambda t: {"model": {"a": t}, "state_dict": {"b": t}}, ["model/a", "b"]),
        (lambda t: {"params": {"a": t}, "params_ema": {"a": t}}, ["a", "params_ema/a"]),
        (lambda t: {"generator": {"a": t}, "critic": {"a": t}}, ["generator/a", "critic/a"]),
        (lambda t: {"model": {"a": t}, "b": t}, ["model/a", "b"]),
        (lambda t: {"state_dict": {"a": t}, "epoch": scalar(1)}, ["a", "epoch"]),
        (lambda t: {"model": {"epoch": t}, "epoch": 1}, ["model/epoch", "epoch"]),
        (lambda t: {"module.a": t, "module.b": t}, ["a", "b"]),
        (lambda t: {"module.a": t, "b": t}, ["module.a", "b"]),
        (lambda t: {"module.a": t, "epoch": 1}, ["a", "epoch"]),
        (lambda t: {"epoch": scalar(1), "module.a": t}, ["epoch", "a"]),  # AveragedModel's n_averaged
        (lambda t: {"model": {"a": t}, "state": {storage("0", 6): t}}, ["a", "state/object 0"]),
        (lambda t: {"module.": t}, ["module."]),
        (lambda t: {"module._orig_mod.a": t, "module._orig_mod.b": t}, ["a", "b"]),
        (
            lambda t: {"model": {"_orig_mod.module.a": t}, "optimizer": {"state": {0: {"m": t}}}},
            ["a", "optimizer/state/0/m"],
        ),
        (lambda t: {"net/a": t, "net/b": t}, ["net/a", "net/b"]),  # one dict, whose keys have a slash
        (lambda t: {"net/a": t, "epoch": 1}, ["net/a", "epoch"]),
        (lambda t: {"net": {"a/w": t, "a/b": t, "sub": {"c": t}}}, ["a/w", "a/b", "sub/c"]),
        (lambda t: {"net": {"net/a": t}, "net/epoch": scalar(1)}, ["net/a", "net/epoch"]),
        (lambda t: {"module.a/w": t, "module.b/w": t}, ["module.a/w", "module.b/w"]),
        (lambda t: {"net.a": t, "net.b": t}, ["net.a", "net.b"]),
        (lambda t: [t, {"w": t}], ["0", "1/w"]),
        (lambda t: t, ["arr_0"]),
    ],
)
@pytest.mark.parametrize("form", ["archive", "old"])
def test_names_are_the_keys_without_what_only_wraps(tmp_path, root, names, form):
    saved = Saved()
    path = getattr(saved, form)(tmp_path / "a.pth", root(saved.tensor(FLOATS)))
    weights = open_weights(path)
    assert list(weights) == names
    assert all(same(weights[name], FLOATS) for name in names if not name.endswith("epoch") or weights.shape(name))


@pytest.mark.parametrize("outer", pytorch.OUTER)
def test_what_tfxfer_writes_has_the_names_that_were_given(tmp_path, outer):
    names = [f"{outer}/conv/kernel", f"{outer}/conv/bias", f"{outer}/module.fc"]
    torch_writer.write([tmp_path / "a.pth"], dict.fromkeys(names, held(FLOATS)))
    assert list(open_weights(tmp_path / "a.pth")) == names


def test_an_optimizer_that_is_saved_as_a_whole_hides_no_weight(tmp_path):
    saved = Saved()
    t = saved.tensor(FLOATS)
    # Its state has tensors as keys.
    optimizer = Call(Global("torch.optim.sgd", "SGD"), (), {"state": {storage("0", 6): {"momentum_buffer": t}}})
    weights = open_weights(saved.archive(tmp_path / "a.pth", {"model": {"a": t}, "optimizer": optimizer}))
    assert list(weights) == ["a"]
    assert "torch.optim.sgd.SGD" in weights.skipped["optimizer"]


def module(**state: object) -> Call:
    """Return a module of a class that nobody knows, as pickle stores it."""
    return Call(Global("nets", "Net"), (), {"_parameters": {}, "_buffers": {}, "_modules": {}, **state})


def test_a_module_within_a_checkpoint_is_walked_as_data(tmp_path):
    saved = Saved()
    t = saved.tensor(FLOATS)
    inner = module(_parameters={"weight": t, "bias": None}, _buffers={"mean": t}, training=True)
    net = module(_modules={"conv": inner, "act": module(), "same": inner}, names=["cat"])
    weights = open_weights(saved.archive(tmp_path / "a.pt", {"model": net, "ema": None, "epoch": -1}))
    assert list(weights) == ["conv.weight", "conv.mean", "same.weight", "same.mean", "epoch"]
    assert weights.source("conv.weight") == "model/conv.weight"
    assert not weights.skipped


def test_a_module_that_holds_itself_is_refused(tmp_path):
    # The class is called, and its state is the dict that holds the object itself.
    code = dumps(module(_modules={"m": 7})).replace(b"R}", b"Rr\1\1\0\0}").replace(b"K\x07", b"j\1\1\0\0")
    with pytest.raises(WeightsError, match="is hostile: its dicts and lists hold more than"):
        open_weights(archive(tmp_path / "a.pt", code, {}))


# --- where the values lie ---


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("prefix", ["archive/", "", "é ä/"])
def test_archives_of_any_name_are_read_compressed_too(tmp_path, method, prefix):
    saved = Saved()
    root = {"a": saved.tensor(FLOATS), "b": view(storage("0", 6), (3, 2), (1, 3))}
    weights = open_weights(saved.archive(tmp_path / "a.pth", root, method=method, prefix=prefix, order=None))
    assert same(weights["a"], FLOATS)
    assert same(weights["b"], FLOATS.T)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1", "c8", ml_dtypes.bfloat16])
def test_values_of_machines_of_the_other_byte_order_are_turned(tmp_path, dtype):
    values = np.arange(-3, 3).astype(dtype).reshape(2, 3)
    saved = Saved()
    root = {"a": saved.tensor(values)}
    part = values.itemsize // (2 if values.dtype.kind == "c" else 1)
    big = values.view(f"u{part}").byteswap().tobytes()
    weights = open_weights(archive(tmp_path / "a.pth", dumps(root), {"0": big}, order=b"big"))
    assert same(weights["a"], values)


def test_a_part_of_a_storage_in_the_old_form_is_read(tmp_path):
    whole = ("storage", Global("torch", "FloatStorage"), "7", "cpu", 6)
    root = {
        "all": view(Persistent((*whole, None)), (6,), (1,)),
        "part": view(Persistent((*whole, ("8", 2, 3))), (2,), (1,), 1, rebuild="_rebuild_tensor"),
    }
    path = torch_files.old(tmp_path / "a.pth", dumps(root), {"7": (6, FLOATS.tobytes())})
    assert open_weights(path)["part"].tolist() == [3, 4]
    root["part"] = view(Persistent((*whole, ("8", 2, 3))), (3,), (1,), 1)
    torch_files.old(path, dumps(root), {"7": (6, FLOATS.tobytes())})
    with pytest.raises(WeightsError, match=r"part is corrupt: 12 bytes at 4 go beyond the end of its storage \(12"):
        open_weights(path)


def test_an_archive_without_checksums_is_read_and_a_damaged_value_is_found(tmp_path):
    saved = Saved()
    path = saved.archive(tmp_path / "a.pth", {"a": saved.tensor(FLOATS)})
    data = path.read_bytes()
    assert data.count(FLOATS.tobytes()) == 1
    path.write_bytes(data.replace(FLOATS.tobytes(), FLOATS[::-1].tobytes()))
    tensor = open_weights(path).tensor("a")
    with pytest.raises(WeightsError, match="fails its checksum"):
        tensor.read()
    with pytest.raises(WeightsError, match="fails its checksum"):
        list(tensor.stream())
    torch_files.sparse_archive(path, dumps({"a": saved.tensor(FLOATS)}), {"1": (24, FLOATS.tobytes())})
    assert same(open_weights(path)["a"], FLOATS)


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((3, 2), (1, 3), 0), ((1, 3, 1, 2), (6, 1, 6, 3), 0), ((2,), (1,), 4), ((2,), (3,), 0), ((2, 6), (0, 1), 0)],
)
@pytest.mark.parametrize("order", [b"little", b"big"])
def test_the_checksum_of_a_storage_is_compared_however_a_tensor_lies_in_it(tmp_path, shape, strides, offset, order):
    values = FLOATS.astype("<f4" if order == b"little" else ">f4")
    root = {"a": view(storage("0", 6), shape, strides, offset), "last": view(storage("0", 6), (1,), (1,), 5)}
    path = archive(tmp_path / "a.pth", dumps(root), {"0": values.tobytes()}, order=order)
    weights = open_weights(path)
    steps = tuple(stride * 4 for stride in strides)
    expected = np.ndarray(shape, "f4", FLOATS.ravel()[offset:], strides=steps)
    assert same(weights["a"], expected)
    assert same(np.concatenate([*streams.pieces(weights.tensor("a"))]), expected.ravel())
    assert weights["last"] == 5
    path.write_bytes(path.read_bytes().replace(values.tobytes(), values[::-1].tobytes()))
    weights = open_weights(path)
    for name in root:
        with pytest.raises(WeightsError, match="fails its checksum"):
            weights.tensor(name).read()
        with pytest.raises(WeightsError, match="fails its checksum"):
            list(streams.pieces(weights.tensor(name)))


def test_reading_a_layer_of_a_file_of_528_mib_touches_only_its_bytes(tmp_path, monkeypatch):
    large = 132 << 20
    root = {
        "fc6": view(storage("0", large), (large >> 10, 1024), (1024, 1)),
        "conv": view(storage("1", 6), (2, 3), (3, 1)),
    }
    path = torch_files.sparse_archive(
        tmp_path / "a.pth", dumps(root), {"0": (4 * large, b""), "1": (24, FLOATS.tobytes())}
    )
    assert path.stat().st_size > 528 << 20
    read = []
    monkeypatch.setattr(os, "preadv", lambda *args, real=os.preadv: read.append(real(*args)) or read[-1])
    tracemalloc.start()
    weights = open_weights(path)
    assert sum(read) < 1 << 12
    read.clear()
    assert same(weights["conv"], FLOATS)
    assert sum(read) == FLOATS.nbytes
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_small_part_of_a_large_compressed_storage_is_refused(tmp_path):
    count = (pytorch.MAX_UNPACKED >> 2) + 1000
    root = {"w": view(storage("0", count), (2,), (1,))}
    path = archive(tmp_path / "a.pth", dumps(root), {"0": bytes(4 * count)}, method=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match=r"is a part of a compressed storage of 33,558,432 bytes.*zip -0 -r"):
        open_weights(path)


# --- bad input ---


def lone(**change: object) -> dict[str, object]:
    """Return a state dict of a tensor that is wrong in one place."""
    place = {"shape": (2, 3), "strides": (3, 1), "offset": 0, **change}
    return {"w": view(storage("0", 6), place["shape"], place["strides"], place["offset"])}


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (lone(offset=1), r"w is corrupt: 24 bytes at 4 go beyond the end of its storage \(24 bytes\)"),
        (lone(offset=-1), r"offset, the shape or the strides of a tensor are negative or malformed"),
        (lone(shape=(-2, 3)), r"are negative or malformed"),
        (lone(strides=(3, -1)), r"are negative or malformed"),
        (lone(strides=(3,)), r"are negative or malformed"),
        (lone(shape=(2.0, 3)), r"are negative or malformed"),
        (lone(shape=[2, 3]), r"are negative or malformed"),
        (lone(shape=(True, 3)), r"are negative or malformed"),
        (lone(strides=(1 << 62, 1)), r"go beyond the end of its storage"),
        (lone(shape=(1 << 40, 1 << 40), strides=(0, 0)), r"the shape .* is too large for any array"),
        (lone(shape=(1,) * 65, strides=(1,) * 65), r"more than 64 dimensions"),
        (lone(shape=(10 << 40,), strides=(0,)), r"announces 43,980,465,111,040 bytes of tensors, more than max_bytes"),
        ({"w": view(storage("1", 6), (6,), (1,))}, r"its member archive/data/1 is missing"),
        ({"w": view(storage("../0", 6), (6,), (1,))}, r"its member archive/data/\.\./0 is missing"),
        ({"w": view(storage("0", 7), (6,), (1,))}, r"has 24 bytes, its pickle says 28"),
        ({"w": view(storage("0", -6), (6,), (1,))}, r"the persistent id of a storage is malformed"),
        (
            {"w": view(storage("0", 6), (6,), (1,)), "v": view(storage("0", 6, "DoubleStorage"), (6,), (1,))},
            r"storage '0' has 24 bytes, and then 48",
        ),
        ({"w": Persistent(("tensor", 1))}, r"a persistent id that names no storage"),
        ({"w": Persistent("0")}, r"a persistent id that names no storage"),
        ({"w": Persistent(())}, r"a persistent id that names no storage"),
        ({"w": Persistent(("storage", 1, "0", "cpu", 6))}, r"the persistent id of a storage is malformed"),
        ({"w": Call(Global("torch._utils", "_rebuild_tensor_v2"), (1,))}, r"a call that numpy's arrays do not need"),
    ],
)
def test_tensors_that_cannot_be_are_refused(tmp_path, root, message):
    path = archive(tmp_path / "a.pth", dumps(root), {"0": FLOATS.tobytes()})
    with pytest.raises(WeightsError, match=message):
        open_weights(path)


@pytest.mark.parametrize(
    "name",
    [
        "os system",
        "builtins eval",
        "torch load",
        "torch.hub load",
        "torch._utils _rebuild_wrapper_subclass",
        "torch.storage _load_from_bytes",
        "torch.serialization _get_layout",
        "torch.nn.modules.conv Conv2d",
        "posix system",
    ],
)
@pytest.mark.parametrize("form", ["archive", "old"])
def test_no_function_is_called_and_what_it_would_make_hides_no_tensor(tmp_path, name, form):
    mark = tmp_path / "ran"
    saved = Saved()
    call = Call(Global(*name.split()), (f"touch {mark}",), {"x": 1})
    root = {"w": saved.tensor(FLOATS), "odd": call, "deep": [call, {"v": saved.tensor(FLOATS)}]}
    weights = open_weights(getattr(saved, form)(tmp_path / "a.pth", root))
    assert list(weights) == ["w", "deep/1/v"]
    assert list(weights.skipped) == ["odd", "deep/0"]
    assert not mark.exists()


def test_a_subclass_of_tensor_and_what_numpy_lacks_are_listed_with_the_reason(tmp_path):
    saved = Saved()
    t = saved.tensor(FLOATS)
    half = storage("0", 6, "ComplexHalfStorage")
    root = {
        "ok": Call(
            Global("torch._tensor", "_rebuild_from_type_v2"), (t.function, Global("torch", "Tensor"), t.arguments, {})
        ),
        "mine": Call(Global("torch._tensor", "_rebuild_from_type_v2"), (t.function, Global("a", "B"), t.arguments, {})),
        "half": view(half, (2, 3), (3, 1)),
        "store": storage("0", 6),
    }
    weights = open_weights(saved.archive(tmp_path / "a.pth", root))
    assert list(weights) == ["ok"]
    assert list(weights.skipped) == ["mine", "half", "store"]
    assert "would call a.B" in weights.skipped["mine"]
    assert "dtype complex32, which NumPy has not" in weights.skipped["half"]


def test_a_file_without_arrays_names_a_command(tmp_path):
    root = {"net": Call(Global("nets", "Net"), (1,))}
    for path in (archive(tmp_path / "a.pth", dumps(root), {}), torch_files.old(tmp_path / "b.pth", dumps(root), {})):
        with pytest.raises(WeightsError, match=r"(?s)holds no arrays .*would call nets\.Net.*python -c .*torch\.load"):
            open_weights(path)


def test_the_command_for_what_is_not_read_makes_a_file_that_is(tmp_path):
    python = oracle_python("torch", "safetensors")
    code = "import sys, torch; torch.save({'state_dict': {'w': torch.eye(3).to_sparse()}}, sys.argv[1])"
    subprocess.run([python, "-c", code, str(tmp_path / "a.pth")], check=True)
    with pytest.raises(WeightsError) as error:
        open_weights(tmp_path / "a.pth")
    command = str(error.value).splitlines()[-1].strip()
    assert command.startswith("python -c ")
    subprocess.run(["bash", "-c", python + command.removeprefix("python")], check=True)
    assert same(open_weights(tmp_path / "a.safetensors")["w"], np.eye(3, dtype="f4"))


def test_the_command_for_a_frozen_module_of_torchscript_makes_a_file_that_is_read(tmp_path):
    # Its weights are constants of its code.
    python = oracle_python("torch", "safetensors")
    code = (
        "import sys, torch; n = torch.nn.Linear(3, 2); torch.nn.init.ones_(n.weight); "
        "torch.jit.freeze(torch.jit.script(n.eval())).save(sys.argv[1])"
    )
    subprocess.run([python, "-W", "ignore", "-c", code, str(tmp_path / "a.pt")], check=True)
    with pytest.raises(WeightsError, match="is a TorchScript archive that holds no arrays") as error:
        open_weights(tmp_path / "a.pt")
    command = str(error.value).splitlines()[-1].strip()
    subprocess.run(["bash", "-c", python + command.removeprefix("python")], check=True)
    weights = open_weights(tmp_path / "a.safetensors")
    assert any(value.tolist() == np.ones((2, 3)).tolist() for value in weights.values())


def test_archives_that_are_not_whole_are_refused(tmp_path):
    root = lone()
    path = archive(tmp_path / "a.pth", dumps(root), {"0": FLOATS.tobytes()}, order=b"middle")
    with pytest.raises(WeightsError, match="says b'middle', neither little nor big"):
        open_weights(path)
    pickled = b"\x80\x02X" + struct.pack("<I", pytorch.MAX_UNPACKED) + bytes(pytorch.MAX_UNPACKED) + b"."
    archive(path, pickled, {}, method=zipfile.ZIP_DEFLATED)
    fuzz.check_bomb(path)
    with pytest.raises(WeightsError, match="is a compressed pickle of"):
        open_weights(path)


@pytest.mark.parametrize(
    "change",
    [
        {"0": (5, FLOATS.tobytes())},
        {"0": (-1, FLOATS.tobytes())},
        {"0": (6, FLOATS.tobytes()[:-1])},
        {"1": (6, FLOATS.tobytes())},
        {"0": (6, FLOATS.tobytes()), "1": (6, FLOATS.tobytes())},
        {},
    ],
)
def test_storages_of_the_old_form_that_are_not_those_of_the_pickle_are_refused(tmp_path, change):
    path = torch_files.old(tmp_path / "a.pth", dumps(lone()), change)
    with pytest.raises(WeightsError, match=r"is not the one that the pickle announces|cut short|is missing"):
        open_weights(path)


def test_9_000_tensors_are_read_in_little_time(tmp_path):
    store = storage("0", 1 << 20)
    root = {f"layers.{k}.weight": view(store, (1024,), (1,), 1024 * (k % 1024)) for k in range(9_000)}
    path = archive(tmp_path / "a.pth", dumps(root), {"0": bytes(4 << 20)})
    start = time.process_time()
    weights = open_weights(path)
    assert time.process_time() - start < fuzz.SECONDS
    assert len(weights) == 9_000


@pytest.mark.parametrize("name", ["tensors.pth", "tensors_old.pth", "checkpoint.pth", "script.pt", "module.pth"])
def test_broken_files_give_only_weights_errors(tmp_path, name, fuzz_cases):
    good = (GOLDEN / name).read_bytes()
    outcomes = fuzz.check_all(tmp_path / "a.pth", fuzz.broken(good, fuzz_cases // 2, begin=2048))
    assert outcomes["refused"] > 50
