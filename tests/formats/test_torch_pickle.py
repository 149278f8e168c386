"""The machine for PyTorch's pickles: what it builds of tensors, storages and modules, and what it refuses."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from tests import fuzz, torch_files
from tests.torch_files import Call, Global, Persistent, dumps, storage, view
from tfxfer.errors import WeightsError
from tfxfer.formats import torch_pickle
from tfxfer.formats.pickle_parser import Key, Odd
from tfxfer.formats.reading import Cursor
from tfxfer.formats.torch_pickle import Kind, Module, TorchMachine, View

FLOAT = Kind("float32", np.dtype("f4"), 4)
UTILS = "torch._utils"


def run(value: object, protocol: int = 2) -> object:
    code = value if isinstance(value, bytes) else dumps(value, protocol)
    return TorchMachine(Cursor(memoryview(code), "a.pth")).run()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("rebuild", ["_rebuild_tensor", "_rebuild_tensor_v2"])
def test_a_tensor_is_a_place_in_a_storage(rebuild, protocol):
    made = run(view(storage("7", 20), (2, 3), (1, 4), 5, rebuild=rebuild), protocol)
    assert isinstance(made, View)
    assert (made.kind, made.offset, made.shape, made.strides) == (FLOAT, 5, (2, 3), (1, 4))
    assert (made.storage.key, made.storage.nbytes, made.storage.start, made.storage.count) == ("7", 80, 0, 20)


def test_parameters_and_tensors_with_attributes_are_tensors():
    tensor = view(storage("0", 4), (4,), (1,))
    for name, more in (("_rebuild_parameter", ()), ("_rebuild_parameter_with_state", ({"x": 1},))):
        assert isinstance(run(Call(Global(UTILS, name), (tensor, True, {}, *more))), View)
    for module, name in (("torch._tensor", "_rebuild_from_type_v2"), ("torch.tensor", "_rebuild_from_type")):
        for kind in (Global("torch", "Tensor"), Global("torch.nn.parameter", "Parameter")):
            made = run(Call(Global(module, name), (tensor.function, kind, tensor.arguments, {"x": 1})))
            assert isinstance(made, View)
    other = run(Call(Global("torch._tensor", "_rebuild_from_type_v2"), (tensor.function, Global("a", "B"), (), {})))
    assert isinstance(other, Odd)


def test_newer_dtypes_come_with_storages_of_bytes():
    untyped = Persistent(("storage", Global("torch.storage", "UntypedStorage"), "0", "cpu", 8))
    call = (untyped, 0, (4,), (1,), False, {}, Global("torch", "uint16"))
    made = run(Call(Global(UTILS, "_rebuild_tensor_v3"), call))
    assert isinstance(made, View)
    assert (made.kind.dtype, made.storage.nbytes) == (np.uint16, 8)
    call = (*call[:-1], Global("torch", "float4_e2m1fn_x2"))
    assert run(Call(Global(UTILS, "_rebuild_tensor_v3"), call)).kind.dtype is None
    call = (*call[:-1], Global("torch", "uint3"))
    assert isinstance(run(Call(Global(UTILS, "_rebuild_tensor_v3"), call)), Odd)


def test_a_size_is_a_tuple_and_metadata_makes_a_tensor_odd():
    assert run(Call(Global("torch", "Size"), ((2, 3),))) == (2, 3)
    tensor = view(storage("0", 4), (4,), (1,))
    made = run(Call(tensor.function, (*tensor.arguments, {"conj": True})))
    assert isinstance(made, Odd)
    assert "conjugates" in made.words
    assert isinstance(run(Call(tensor.function, (*tensor.arguments, {}))), View)


@pytest.mark.parametrize("kind", ["sparse_tensor", "sparse_csr_tensor", "qtensor", "nested_tensor", "wrapper_subclass"])
def test_tensors_without_plain_values_are_words(kind):
    made = run(Call(Global(UTILS, f"_rebuild_{kind}"), (Global("torch", "sparse_coo"), 1)))
    assert isinstance(made, Odd)
    assert "refused" not in made.words


def test_the_state_of_modules_is_data():
    tensor = view(storage("0", 4), (4,), (1,))
    parts = {"_parameters": {"w": tensor, "b": None}, "_buffers": {"m": tensor}, "_modules": {"no": None, "n": 1}}
    tensors, modules = torch_pickle.parts_of(run(Call(Global("a", "Net"), (), parts)))
    assert (list(tensors), list(modules)) == (["w", "m"], [])
    script = Call(Global("__torch__.nets", "Net"), (), {"w": tensor, "n": 3, "sub": Call(Global("__torch__", "A"), ())})
    tensors, modules = torch_pickle.parts_of(run(script))
    assert (list(tensors), list(modules)) == (["w"], ["sub"])
    assert isinstance(modules["sub"], Module)
    for other in (1, {}, Call(Global("a", "Net"), (), {"_parameters": {}}), Call(Global("a", "Net"), (), (1,))):
        assert torch_pickle.parts_of(run(other)) is None


def test_two_objects_of_one_class_have_states_of_their_own():
    first, second = run([Call(Global("a", "B"), (), {"x": 1}), Call(Global("a", "B"), (), {"x": 2})])
    assert (first.state, second.state) == ({Key("str", "x"): 1}, {Key("str", "x"): 2})


def test_the_class_of_a_module_may_be_a_persistent_id():
    persistent = Persistent(("module", Global("nets", "Net"), "nets.py", "class Net: pass"))
    made = run(persistent)
    assert isinstance(made, Odd)
    assert "nets.Net" in made.words


def test_rebuilders_within_rebuilders_do_not_nest():
    outer = Global("torch._tensor", "_rebuild_from_type_v2")
    tensor = Global("torch", "Tensor")
    with pytest.raises(WeightsError, match="a call that numpy's arrays do not need"):
        run(Call(outer, (outer, tensor, (outer, tensor, (), {}), {})))


ENDLESS = {
    "dicts": b"}",
    "a long memo": b"]\x94",
    "nested tuples": b")\x85",
    "large numbers": b"\x8a\x09123456789",
    "functions": b"ca\nb\n",
    "objects": b"ca\nb\n)R",
    "tensors": b"h\0h\1R",
    "storages": b"h\2Q",
}


def endless(kind: str) -> bytes:
    identity = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0aX\3\0\0\0cpuK\4tq\2"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\nq\0(" + identity + b"QK\0K\4\x85K\1\x85\x89}tq\1"
    return b"\x80\x02" + tensor + ENDLESS[kind] * 400_000 + b"."


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("functions", "names more than 1,000 functions, or some of them again"),
        ("tensors", "takes more than 400,000 steps"),
    ],
)
def test_pickles_without_end_end_in_little_time(kind, words):
    start = time.process_time()
    with pytest.raises(WeightsError, match=words):
        run(endless(kind))
    assert time.process_time() - start < fuzz.SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENDLESS)
def test_pickles_without_end_take_little_memory(kind):
    tracemalloc.start()
    with pytest.raises(WeightsError, match="takes more than 400,000 steps"):
        run(endless(kind))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < fuzz.ROOM


def test_a_pickle_that_names_functions_without_end_is_refused():
    with pytest.raises(WeightsError, match="is hostile: its pickle names more than 1,000 functions"):
        run(b"\x80\x02" + b"".join(b"ca\n%d\n" % number for number in range(2000)))


def test_a_file_of_the_old_form_is_known_by_its_magic_number(tmp_path):
    path = torch_files.old(tmp_path / "a", dumps({"w": view(storage("0", 1), (1,), (1,))}), {"0": (1, bytes(4))})
    data = path.read_bytes()
    assert torch_pickle.begins(data[:32])
    assert torch_pickle.begins(b"\x80\x04\x95\r\0\0\0\0\0\0\0" + data[2:20])
    assert not torch_pickle.begins(data[1:32])
    root, storages = torch_pickle.read_old(np.frombuffer(data, np.uint8), "a")
    assert list(root) == [Key("str", "w")]
    assert storages["0"].tobytes() == bytes(4)
    with pytest.raises(WeightsError, match="cut short"):
        torch_pickle.read_old(np.frombuffer(data[:-1], np.uint8), "a")
