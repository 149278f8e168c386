"""The walk over pickles: it builds arrays, dicts and numbers, calls nothing, and ends."""

from __future__ import annotations

import collections
import os
import pickle
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests import fuzz
from tests.weights.test_npy import OBJECTS, pickled, same
from tfxfer.errors import WeightsError
from tfxfer.formats import pickle_parser
from tfxfer.weights import open_weights


class Hostile:
    """Runs a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "wrap", [lambda evil: evil, lambda evil: {"w": evil}, lambda evil: np.array({"w": [evil]}, object)]
)
def test_a_hostile_pickle_runs_nothing(tmp_path, wrap, protocol):
    mark = tmp_path / "ran"
    path = pickled(tmp_path / "a.npy", wrap(Hostile(mark)), protocol)
    with pytest.raises(WeightsError, match=r"is refused: (its pickle would call|opcode)"):
        open_weights(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", r"is refused: opcode b'S'"),
        (b"cos\nsystem\n(U\x04truetR.", r"is refused: its pickle would call os\.system; tfxfer reads arrays"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", r"would call os\.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", r"would call builtins\.eval"),
        (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", r"would call numpy\.ndarray\.__class__"),
        (b"\x80\x02cnumpy\nload\n.", r"would call numpy\.load"),
        (b"(ios\nsystem\n.", r"opcode b'\(' |opcode b'i' of its pickle"),
        (b"(cos\nsystem\no.", r"opcode b'o'"),
        (b"\x80\x02Pabc\n.", r"opcode b'P'"),
        (b"\x80\x02\x82\x01.", r"opcode b'\\x82'"),
        (b"\x80\x04]\x81.", r"a value is missing"),
        (b"\x80\x04])\x81.", r"an object that is neither an array nor a dict"),
        (b"\x80\x04\x8f.", r"is a set"),
        (b"\x80\x02cnumpy\nndarray\n)R.", r"a call that numpy's arrays do not need"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R}b.", r"a state is missing"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R)b.", r"a state that belongs to no array"),
        (b"\x80\x02]]}s.", r"a dict, or the value of a key, is missing"),
        (b"\x80\x02}]a.", r"a list is missing"),
        (b"\x80\x02}]]s.", r"a short string is missing"),
        (b"\x80\x02)a.", r"a value is missing"),
        (b"\x80\x02t.", r"a mark is missing"),
        (b"\x80\x02(a.", r"a value is missing"),
        (b"\x80\x02h\x07.", r"value 7 of its memo is missing"),
        (b"\x80\x02\x8a\x09123456789.", r"an integer of 9 bytes"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", r"an integer of 2,147,483,647 bytes"),
        (b"\x80\x02T\xff\xff\xff\x7f.", r"is cut short or corrupt: 2,147,483,647 bytes are missing"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", r"18,446,744,073,709,551,615 bytes are missing"),
        (b"\x80\x02cnumpy", r"the text at byte \d+ does not end"),
        (b"\x80\x02}X\x01\x00\x00\x00\xff]s.", r"a string is not in its encoding"),
        (b"", r"1 bytes are missing at byte 80"),
        (b"\x80\x02]", r"1 bytes are missing"),
    ],
)
def test_pickles_that_are_wrong_are_refused(tmp_path, code, message):
    with pytest.raises(WeightsError, match=message):
        open_weights(pickled(tmp_path / "a.npy", code))


def test_pickles_of_other_things_are_refused(tmp_path):
    for content in ({1, 2}, 1j, bytearray(b"x") and slice(3), Path("x"), np.array([(1, 2)], [("a", int), ("b", int)])):
        with pytest.raises(WeightsError, match=r"is refused|is corrupt|is a set|is not an array of numbers"):
            open_weights(pickled(tmp_path / "a.npy", {"w": content}))


def bombs() -> dict[str, bytes]:
    """Return small or repetitive pickles that are large when built, or never end."""
    nested: list[object] = []
    for _ in range(20):
        nested = [nested] * 10
    itself: list[object] = []
    itself.append(itself)
    array = np.empty((), object)
    array[()] = [array]
    return {
        "a list of lists of lists": pickle.dumps(nested),
        "a list that holds itself": pickle.dumps(itself),
        "an array that holds itself": pickle.dumps(array),
        "brackets": b"\x80\x04" + b"]" * 1_000_000 + b".",
        "dicts": b"\x80\x04(" + b"}" * 1_000_000 + b"t.",
        "marks": b"\x80\x04" + b"(" * 1_000_000 + b".",
        "tuples": b"\x80\x04)" + b"\x85" * 1_000_000 + b".",
        "a long memo": b"\x80\x04]" + b"\x94" * 1_000_000 + b".",
    }


@pytest.mark.parametrize("kind", bombs())
def test_pickles_without_end_are_refused_in_little_time_and_memory(tmp_path, kind):
    path = pickled(tmp_path / "a.npy", bombs()[kind])
    start = time.process_time()
    with pytest.raises(WeightsError, match=r"is hostile: its (pickle takes more than|dicts and lists hold more than)"):
        open_weights(path)
    assert time.process_time() - start < fuzz.SECONDS


@pytest.mark.parametrize("kind", ["brackets", "dicts", "a long memo"])
def test_pickles_without_end_take_little_memory(tmp_path, kind):
    path = pickled(tmp_path / "a.npy", bombs()[kind])
    tracemalloc.start()
    with pytest.raises(WeightsError, match="is hostile"):
        open_weights(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < fuzz.ROOM


def test_every_opcode_of_the_machine_is_one_of_pickles_own():
    import pickletools

    known = {opcode.code.encode("latin-1"): opcode.name for opcode in pickletools.opcodes}
    names = {known[code] for code in pickle_parser._OPCODES}
    unsafe = {"INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER"}
    assert names.isdisjoint(unsafe)
    assert {"REDUCE", "BUILD", "GLOBAL", "STACK_GLOBAL"} < names


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_ordered_dicts_and_dicts_with_defaults_are_dicts(tmp_path, protocol):
    w = np.arange(3.0)
    inner = collections.defaultdict(dict, {"b": {"w": w}})
    value = collections.OrderedDict([("z", w), ("a", [w, inner]), ("l", collections.defaultdict(list, {"x": [w]}))])
    (tmp_path / "a.npy").write_bytes(OBJECTS + pickle.dumps(np.array(value, object), protocol))
    weights = open_weights(tmp_path / "a.npy")
    assert list(weights) == ["z", "a/0", "a/1/b/w", "l/x/0"]
    assert all(same(weights[name], w) for name in weights)


def test_an_ordered_dict_of_python_2_is_read(tmp_path):
    # There the pairs are an argument of the call.
    code = b"\x80\x02ccollections\nOrderedDict\n](](U\x01aK\x01e](U\x01bK\x02ee\x85R."
    assert pickle.loads(code) == {"a": 1, "b": 2}  # noqa: S301
    assert {n: int(v) for n, v in open_weights(pickled(tmp_path / "a.npy", code)).items()} == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("key", "name"),
    [(("conv", 0), "conv/0"), (0.5, "0.5"), (np.str_("a"), "a"), (None, "None"), (np.int64(3), "3"), (True, "True")],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_keys_that_are_no_text_become_names(tmp_path, key, name, protocol):
    weights = open_weights(pickled(tmp_path / "a.npy", pickle.dumps(np.array({key: np.ones(2)}, object), protocol)))
    assert {name: value.tolist() for name, value in weights.items()} == {name: [1, 1]}


def test_a_key_that_is_an_object_hides_no_array(tmp_path):
    keys = [Path("x"), np.dtype(np.float32), 1j, "plain"]
    value = np.array({key: np.full(2, number) for number, key in enumerate(keys)}, object)
    weights = open_weights(pickled(tmp_path / "a.npy", pickle.dumps(value, 2)))
    assert {name: array.tolist() for name, array in weights.items()} == {
        "object 0": [0, 0],
        "object 1": [1, 1],
        "object 2": [2, 2],
        "plain": [3, 3],
    }


@pytest.mark.parametrize("number", [140234234237, -(1 << 40), (1 << 63) - 1])
def test_integers_in_digits_are_read_as_python_2_writes_them(tmp_path, number):
    # Beyond 32 bits, as an optimizer's keys, which were addresses.
    code = b"\x80\x02}(U\x01aI%d\nI%d\nK\x02u." % (number, number)
    assert pickle.loads(code) == {"a": number, number: 2}  # noqa: S301
    weights = open_weights(pickled(tmp_path / "a.npy", code))
    assert {name: int(value) for name, value in weights.items()} == {"a": number, str(number): 2}


@pytest.mark.parametrize("digits", [b"", b"1_0", b" 1", b"0x1", b"9223372036854775808", b"1" * 30])
def test_an_integer_that_is_not_in_digits_or_too_large_is_refused(tmp_path, digits):
    with pytest.raises(WeightsError, match=r"an integer in digits|does not end"):
        open_weights(pickled(tmp_path / "a.npy", b"\x80\x02I" + digits + b"\n."))


@pytest.mark.parametrize("call", ["os\nsystem", "builtins\neval", "_codecs\ndecode", "collections\nCounter"])
def test_no_other_function_is_called(tmp_path, call):
    with pytest.raises(WeightsError, match="is refused: its pickle would call"):
        open_weights(pickled(tmp_path / "a.npy", b"\x80\x02c" + call.encode() + b"\nX\x01\0\0\0x\x85R."))
