"""MATLAB's version 7.3 against h5py, which writes the files here as MATLAB does."""

from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest

from tfxfer.formats import mat73, reading

HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM"
CLASSES = {"f4": "single", "f8": "double", "i1": "int8", "u8": "uint64", "bool": "logical"}


class Writer:
    """Writes values as MATLAB does: dimensions turned, elements of cells behind references."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.numbers = itertools.count()

    def __enter__(self) -> Writer:
        self.file = h5py.File(self.path, "w", userblock_size=512)
        self.refs = self.file.create_group("#refs#")
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()
        with open(self.path, "r+b") as raw:
            raw.write(HEADER)

    def put(self, group: h5py.Group, name: str, value: object) -> None:
        if isinstance(value, dict):
            inner = group.create_group(name)
            for field, inside in value.items():
                self.put(inner, field, inside)
            self.note(inner, "struct")
        elif isinstance(value, str):
            self.note(
                group.create_dataset(name, data=np.frombuffer(value.encode("utf-16-le"), "u2")[:, None]), "char", 2
            )
        elif isinstance(value, list):
            self.note(group.create_dataset(name, data=self.references(value)), "cell")
        elif value is None:
            item = group.create_dataset(name, data=np.zeros(2, "u8"))
            self.note(item, "double")
            item.attrs["MATLAB_empty"] = np.uint8(1)
        else:
            array = np.asarray(value)
            logical = array.dtype == bool
            item = group.create_dataset(name, data=(array.astype("u1") if logical else array).T)
            kind = CLASSES.get(array.dtype.str[1:], "double")
            self.note(item, "logical" if logical else kind, int(logical))

    def references(self, values: list) -> np.ndarray:
        made = []
        for value in values:
            name = f"r{next(self.numbers)}"
            self.put(self.refs, name, value)
            made.append(self.refs[name].ref)
        return np.array(made, h5py.ref_dtype)[:, None]

    def structs(self, group: h5py.Group, name: str, rows: list[dict]) -> None:
        inner = group.create_group(name)
        self.note(inner, "struct")
        for field in rows[0]:
            inner.create_dataset(field, data=self.references([row[field] for row in rows]))

    @staticmethod
    def note(item: h5py.Group | h5py.Dataset, kind: str, decode: int = 0) -> None:
        item.attrs["MATLAB_class"] = np.bytes_(kind)
        if decode:
            item.attrs["MATLAB_int_decode"] = np.int32(decode)


def parse(path: Path) -> dict:
    return mat73.variables(reading.map_file(path), "a.mat")


@pytest.mark.parametrize("dtype", [*CLASSES, "c8", "c16"])
def test_arrays_have_the_dimensions_and_dtypes_of_matlab(tmp_path, dtype):
    expected = np.random.default_rng(0).integers(0, 2, (3, 2, 1, 4)).astype(dtype)
    row = np.arange(5).astype(dtype)[None]
    with Writer(tmp_path / "a") as writer:
        writer.put(writer.file, "w", expected)
        writer.put(writer.file, "row", row)
        options = {"chunks": (2, 1, 2, 3), "compression": "gzip", "shuffle": True}
        if dtype != "bool":
            writer.file.create_dataset("packed", data=expected.T, **options)
    found = parse(tmp_path / "a")
    for name in found:
        tensor, array = found[name], row if name == "row" else expected
        assert (tensor.shape, tensor.dtype) == (array.shape, array.dtype)
        assert tensor.read().dtype == array.dtype
        np.testing.assert_array_equal(tensor.read(), array)
        if tensor.stream:
            assert b"".join(piece.tobytes() for piece in tensor.stream()) == array.tobytes()


def test_cells_structs_and_texts_are_followed(tmp_path):
    with Writer(tmp_path / "a") as writer:
        value = {"name": "cönv1", "weights": [np.eye(2), [np.ones((1, 3))]], "none": None, "on": np.array([[True]])}
        writer.put(writer.file, "layers", [value, "text"])
        writer.structs(writer.file, "params", [{"name": "a", "value": np.eye(2)}, {"name": "b", "value": None}])
        writer.put(writer.file, "cells", {"only": ["x", "y"]})
    found = parse(tmp_path / "a")
    layer, text = found["layers"]
    assert (layer["name"], text, layer["none"]) == ("cönv1", "text", None)
    assert layer["on"].read().tolist() == [[True]]
    assert layer["weights"][1][0].read().tolist() == [[1, 1, 1]]
    assert [(row["name"], row["value"] is None) for row in found["params"]] == [("a", False), ("b", True)]
    assert found["cells"] == {"only": ["x", "y"]}


def test_what_is_not_an_array_is_named_and_hides_nothing(tmp_path):
    with Writer(tmp_path / "a") as writer:
        writer.put(writer.file, "w", np.eye(2))
        for kind in ("function_handle", "string", "containers.Map"):
            Writer.note(writer.file.create_dataset(kind, data=np.zeros((1, 6), "u4")), kind, 3)
        sparse = writer.file.create_group("sparse")
        Writer.note(sparse, "double")
        sparse.attrs["MATLAB_sparse"] = np.uint64(3)
        writer.file["link"] = h5py.ExternalLink("other.mat", "w")
    found = parse(tmp_path / "a")
    faults = {name: value.fault for name, value in found.items() if value.fault}
    ends = ", which is not an array of numbers"
    assert faults == {
        "containers.Map": f"a.mat: containers.Map is of MATLAB's class 'containers.Map'{ends}",
        "function_handle": f"a.mat: function_handle is of MATLAB's class 'function_handle'{ends}",
        "link": "a.mat: link is a link to another file; only what the file itself holds is read",
        "sparse": f"a.mat: sparse is a sparse matrix{ends}",
        "string": f"a.mat: string is of MATLAB's class 'string'{ends}",
    }
    assert found["w"].read().tolist() == [[1, 0], [0, 1]]


def test_references_in_a_circle_and_to_nothing_are_named(tmp_path):
    with Writer(tmp_path / "a") as writer:
        writer.put(writer.file, "w", np.eye(2))
        circle = writer.refs.create_dataset("c", (1, 1), h5py.ref_dtype)
        circle[0, 0] = circle.ref
        lost = writer.refs.create_dataset("lost", (2, 1), h5py.ref_dtype)
        lost[0, 0] = writer.file["w"].ref
        cells = np.array([circle.ref, lost.ref], h5py.ref_dtype)[:, None]
        Writer.note(writer.file.create_dataset("cells", data=cells), "cell")
    circle, lost = parse(tmp_path / "a")["cells"]
    assert circle[0].fault == "a.mat: cells/0/0 refers to what it lies in"
    assert lost[0].shape == (2, 2)
    assert lost[1].fault == "a.mat: cells/1/1 refers to nothing: the file has no object at byte 0"


def test_cells_nested_too_deep_are_named(tmp_path):
    with Writer(tmp_path / "a") as writer:
        value = np.eye(2)
        for _ in range(100):
            value = [value]
        writer.put(writer.file, "w", value)
    value = parse(tmp_path / "a")["w"]
    while isinstance(value, list):
        (value,) = value
    assert "lies in more than 64 cells and structs; it is not read" in value.fault
