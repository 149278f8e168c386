"""Values piece by piece."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers
from tfxfer.formats.tensors import Tensor
from tfxfer.weights import open_weights, streams, writers


@given(
    arrays.arrays(
        st.sampled_from(["float32", "int64", "bool", "uint8"]),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    ),
    st.booleans(),
)
def test_pieces_of_an_array_are_its_values_in_the_order_of_c(array, turned):
    array = array.T if turned else array
    pieces = [piece.copy() for piece in streams.pieces(streams.held(array))]
    assert b"".join(piece.tobytes() for piece in pieces) == array.tobytes()
    assert b"".join(bytes(raw) for raw in streams.raw(streams.held(array))) == array.tobytes()


def test_too_little_memory_is_an_error_of_the_weights():
    def read() -> np.ndarray:
        raise MemoryError

    with pytest.raises(
        streams.TooLargeError, match=r"the shape \(1048576, 1048576\) takes 4,398,046,511,104 bytes, more than"
    ):
        list(streams.pieces(Tensor((1 << 20, 1 << 20), np.dtype("f4"), read)))


def test_a_computed_tensor_reads_as_the_array_that_its_pieces_make():
    values = np.arange(12, dtype=np.float32)
    tensor = streams.computed((3, 4), values.dtype, lambda: iter([values[:5], values[5:]]))
    np.testing.assert_array_equal(tensor.read(), values.reshape(3, 4))
    assert [len(piece) for piece in streams.pieces(tensor)] == [5, 7]
    texts = streams.computed((2,), np.dtype(object), lambda: iter([np.array([b"a", b"bc"], object)]))
    assert texts.read().tolist() == [b"a", b"bc"]


@pytest.fixture
def big(monkeypatch):
    """An array that is many pieces long."""
    monkeypatch.setattr(buffers, "CACHED", 1000)
    return np.random.default_rng(0).normal(size=(63, 41)).astype(np.float32)


def test_stored_npz_members_stream_with_their_checksum(tmp_path, big):
    np.savez(tmp_path / "a.npz", a=big, b=np.asfortranarray(big), c=big.astype(">f4"))
    np.savez_compressed(tmp_path / "b.npz", a=big)
    weights = open_weights(tmp_path / "a.npz")
    for name in weights:
        pieces = [piece.copy() for piece in streams.pieces(weights.tensor(name))]
        np.testing.assert_array_equal(np.concatenate(pieces), big.reshape(-1))
    assert weights.tensor("a").stream is not None
    assert weights.tensor("b").stream is weights.tensor("c").stream is None
    assert open_weights(tmp_path / "b.npz").tensor("a").stream is None
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    raw[raw.find(big.tobytes()[:64]) + 5000] ^= 1
    (tmp_path / "a.npz").write_bytes(raw)
    stream = streams.pieces(open_weights(tmp_path / "a.npz").tensor("a"))
    with pytest.raises(WeightsError, match=r"member 'a\.npy' fails its checksum"):
        list(stream)


def test_variables_of_checkpoints_stream_with_their_checksum(tmp_path, big):
    writers.write(tmp_path / "m", {"a": streams.held(big)})
    pieces = [piece.copy() for piece in streams.pieces(open_weights(tmp_path / "m").tensor("a"))]
    assert len(pieces) > 10
    np.testing.assert_array_equal(np.concatenate(pieces), big.reshape(-1))
    data = tmp_path / "m.data-00000-of-00001"
    raw = bytearray(data.read_bytes())
    raw[5000] ^= 1
    data.write_bytes(raw)
    with pytest.raises(WeightsError, match="a fails its checksum: the file is damaged"):
        list(streams.pieces(open_weights(tmp_path / "m").tensor("a")))


def test_a_layout_is_streamed_as_it_reads(tmp_path, big):
    safetensors.numpy.save_file({"w": big}, tmp_path / "a.safetensors")
    tensor = open_weights(tmp_path / "a.safetensors", layout=[("w", "transpose")]).tensor("w")
    pieces = [piece.copy() for piece in streams.pieces(tensor)]
    np.testing.assert_array_equal(np.concatenate(pieces), big.T.reshape(-1))
