"""safetensors files that are written, against the format's own library."""

from __future__ import annotations

import json
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tfxfer.weights import streams, writers
from tfxfer.weights.safetensors import DTYPES

RNG = np.random.default_rng(0)


def test_the_library_loads_every_dtype_that_numpy_has(tmp_path):
    kinds = [kind for kind in DTYPES.values() if kind.__module__ == "numpy"]
    named = {f"é/{np.dtype(kind)}": (RNG.normal(size=(3, 5)) * 9).astype(kind) for kind in kinds}
    named |= {"scalar": np.array(3.5), "empty": np.zeros((0, 4), "f4"), "turned": RNG.normal(size=(4, 6)).T}
    writers.write(tmp_path / "a.safetensors", {name: streams.held(array) for name, array in named.items()})
    found = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    assert found.keys() == named.keys()
    for name, array in named.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("text", ["BF16", "F8_E4M3", "F8_E5M2"])
def test_the_library_knows_the_dtypes_that_numpy_lacks(tmp_path, text):
    array = np.array([1.5, -0.25, 0]).astype(DTYPES[text])
    writers.write(tmp_path / "a.safetensors", {"w": streams.held(array)})
    with safetensors.safe_open(tmp_path / "a.safetensors", "np") as file:
        assert (file.get_slice("w").get_dtype(), file.get_slice("w").get_shape()) == (text, [3])


def test_wide_numbers_come_first_and_the_header_ends_at_a_multiple_of_64(tmp_path):
    named = {"a": np.ones(3, np.uint8), "b": np.ones(3, ml_dtypes.bfloat16), "c": np.ones(3), "d": np.ones(2, "f4")}
    writers.write(tmp_path / "a.safetensors", {name: streams.held(array) for name, array in named.items()})
    raw = (tmp_path / "a.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    assert (size + 8) % 64 == 0
    assert list(json.loads(raw[8 : 8 + size])) == ["c", "d", "b", "a"]
    assert len(raw) == 8 + size + sum(array.nbytes for array in named.values())


def test_nothing_but_numpy_is_loaded_to_write(tmp_path):
    code = (
        "import sys, numpy as np; from tfxfer.weights import streams, writers\n"
        "writers.write(sys.argv[1], {'w': streams.held(np.ones(3))}); print(*{m.split('.')[0] for m in sys.modules})"
    )
    for out in (tmp_path / "a.safetensors", tmp_path / "a.npz", tmp_path / "a"):
        done = subprocess.run([sys.executable, "-c", code, out], capture_output=True, text=True, check=True)
        assert {"tensorflow", "keras", "h5py"}.isdisjoint(done.stdout.split())
