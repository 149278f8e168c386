"""`tfxfer inspect_weights` as a user runs it: quick, on a terminal and into a pipe, on files of every kind."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import resource
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest

from tests.weights.test_bundle import save
from tfxfer.input_spec import InputSpec
from tfxfer.models import vgg_sources
from tfxfer.tools import _flags, inspect_weights
from tfxfer.weights import writers
from tfxfer.weights.streams import held

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "checkpoints/digits_autoencoder"
COMMAND = str(Path(sys.executable).with_name("tfxfer"))
FACTOR = 8  # by which that is quicker than TensorFlow's own


def run(*args: object) -> int:
    return _flags.run(inspect_weights.main, ["tfxfer inspect_weights", *map(str, args)])


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A checkpoint with 10,000 variables."""
    shapes = {"kernel": (3, 3, 4, 4), "bias": (4,), "gamma": (4,), "moving_mean": (4,)}
    tensors = {
        f"network/block{number // 10}/layer{number}/{part}{slot}": held(np.zeros(shape, np.float32))
        for number in range(1250)
        for part, shape in shapes.items()
        for slot in ("", "/Adam")
    }
    assert len(tensors) == 10_000
    path = tmp_path_factory.mktemp("large") / "model.ckpt"
    writers.write(path, tensors)
    return path


def vgg16(tmp_path: Path, **more: np.ndarray) -> Path:
    """A part of VGG16: all convolutions' biases, and the first kernel, which is the authors'."""
    shapes = {name: shape for name, shape in vgg_sources.variables("vgg16").items() if name.startswith("conv")}
    arrays = {name.replace("/bias", "_b"): np.zeros(shape, np.float32)
              for name, shape in shapes.items() if name.endswith("/bias")}  # fmt: skip
    kernel = np.zeros((3, 3, 3, 64), np.float32)
    kernel[0, 0, :, 0] = vgg_sources.PROBE[1]
    np.savez(tmp_path / "vgg.npz", conv1_1_W=kernel, **arrays, **more)
    return tmp_path / "vgg.npz"


# --- how quick it is ---


def seconds(command: list[str], env: dict[str, str]) -> float:
    """Return the processor's time for a command, start to end: the clock also shows what else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, "network/block124/layer1249/kernel" in done.stdout) == (0, True), done.stderr
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def compiled(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which Python keeps what it has compiled, as it does for an installed package."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**env, "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled")}


def test_ten_thousand_variables_are_listed(large, tmp_path):
    assert seconds([COMMAND, "inspect_weights", str(large)], compiled(tmp_path)) > 0


@pytest.mark.slow
def test_it_is_many_times_quicker_than_tensorflows_inspect_checkpoint(large, tmp_path):
    env = compiled(tmp_path)
    commands = [
        [COMMAND, "inspect_weights", str(large)],
        [sys.executable, "-m", "tensorflow.python.tools.inspect_checkpoint", f"--file_name={large}"],
    ]
    times = [[seconds(command, env) for command in commands] for _ in range(4)][1:]  # the first compiles
    ours, theirs = (min(column) for column in zip(*times, strict=True))
    assert theirs / ours >= FACTOR, f"{ours:.2f} s and {theirs:.2f} s"


def test_tensorflow_is_not_loaded_even_for_a_file_that_is_recognised(tmp_path):
    code = ("import sys; from tfxfer.tools import _main;"
            "status = _main.main(['tfxfer', 'inspect_weights', sys.argv[1], '--stats']);"
            "sys.exit(status or bool({'tensorflow', 'keras'} & sys.modules.keys()))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, vgg16(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "it is vgg16_npz:" in done.stdout


# --- what it prints ---


def test_table_sums_and_last_line(capsys):
    assert run(DIGITS) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["conv1/bias", "conv1/kernel", "conv2/bias", "conv2/kernel"]
    assert re.fullmatch(r"conv2 +2 +12,832 +51,328", lines[8])
    assert re.fullmatch(r"kernel +2 +13,200 +52,800", lines[11])
    assert lines[-1] == f"4 of 4 tensors in {DIGITS} (TensorFlow checkpoint V2): 13,248 parameters, 52,992 bytes"


def test_tree_and_selection(capsys):
    assert run(DIGITS, "--tree", "--select=conv1/.*,conv2/bias", "--exclude=conv1/bias") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["conv1/", "kernel", "conv2/", "bias"]
    assert "2 of 4 tensors" in lines[-1]


def test_statistics_are_those_of_numpy(capsys, tmp_path):
    array = np.array([[0, -2, 4], [np.nan, np.inf, 1]], np.float32)
    np.savez(tmp_path / "a.npz", a=array)
    assert run(tmp_path / "a.npz", "--stats") == 0
    heading, row = capsys.readouterr().out.splitlines()[:2]
    assert heading.split()[-7:] == ["mean", "std", "min", "max", "zeros", "NaN", "Inf"]
    assert row.split()[-7:] == ["0.75", "2.165", "-2", "4", "1", "1", "1"]
    assert run(tmp_path / "a.npz", "--stats", "--json") == 0
    [tensor] = json.loads(capsys.readouterr().out)["tensors"]
    assert tensor["stats"]["std"] == pytest.approx(np.std([0, -2, 4, 1]))


def test_json_is_one_object_with_everything(capsys, tmp_path):
    assert run(vgg16(tmp_path), "--json") == 0
    out = capsys.readouterr().out
    found = json.loads(out)
    assert out.count("\n") == 1
    assert (found["kind"], found["parameters"], found["bytes"]) == ("NumPy .npz archive", 5952, 23808)
    assert found["roles"][0] == {"name": "kernel", "tensors": 1, "parameters": 1728, "bytes": 6912}
    [model] = found["recognised"]
    assert (model["source"], model["model"], model["found"]) == ("vgg16_npz", "vgg16", 14)
    assert len(model["missing"]) == 18
    assert found["input_spec"] is None


def test_a_tensor_is_printed_summarised(capsys, tmp_path):
    np.savez(tmp_path / "a.npz", big=np.arange(5000.0), two=np.array([[1.5], [-2]]))
    assert run(tmp_path / "a.npz", "--tensor=two") == 0
    assert capsys.readouterr().out == "two  (2, 1)  float64\n[[ 1.5]\n [-2. ]]\n"
    assert run(tmp_path / "a.npz", "--tensor=big") == 0
    assert "..." in capsys.readouterr().out


def test_a_tensor_is_saved_and_not_written_over(capsys, tmp_path):
    out = tmp_path / "bias.npy"
    assert run(DIGITS, "--tensor=conv1/bias", f"--out={out}") == 0
    assert capsys.readouterr().out == f"wrote conv1/bias (16,) to {out}\n"
    assert np.load(out).shape == (16,)
    assert run(DIGITS, "--tensor=conv1/bias", f"--out={out}") == 1
    assert "bias.npy exists" in capsys.readouterr().err
    assert run(DIGITS, "--tensor=conv2/bias", f"--out={out}", "--overwrite") == 0
    assert np.load(out).shape == (32,)
    assert np.load(f"{out}.old-1").shape == (16,)


@pytest.mark.parametrize(("args", "status", "error"), [
    (["nowhere"], 1, "nowhere is neither a file nor a checkpoint"),
    ([DIGITS, "--tensor=conv1/bia"], 1, r"conv1/bia is not in .* \(did you mean conv1/bias\?\)"),
    ([DIGITS, "--select=fc.*"], 1, "SelectionError: 1 of the patterns match none"),
    ([DIGITS, "--out=x.npy"], 2, "--out is for one tensor; name it by --tensor"),
    ([DIGITS, "--sort=colour"], 2, "--sort=colour"),
    ([DIGITS, "--tensor=conv1/bias", "--out=no/such/folder/x.npy"], 1,
     "no/such/folder/x.npy: the folder no/such/folder does not exist; make it, or give another"),
    ([DIGITS, DIGITS], 2, "unexpected argument"),
    ([], 2, "too few"),
])  # fmt: skip
def test_what_cannot_be_done_is_refused_in_a_line(args, status, error, capsys):
    assert run(*args) == status
    said = capsys.readouterr()
    assert re.search(error, said.err), said.err
    assert said.out == ""


def test_names_in_messages_cannot_drive_the_terminal(capsys, tmp_path):
    np.savez(tmp_path / "a.npz", **{"\x1b]0;owned\x07": np.zeros(1)})
    assert run(tmp_path / "a.npz", "--select=b") == 1
    said = capsys.readouterr().err
    assert r"\x1b]0;owned\x07" in said
    assert "\x1b" not in said


# --- what file it is ---


def test_a_part_of_vgg16_is_recognised_and_what_is_missing_is_listed_in_full(capsys, tmp_path):
    assert run(vgg16(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("it is vgg16_npz: vgg16_weights.npz, conv1_1_W and conv1_1_b")
    assert lines[at + 1] == "  expects 224x224 by 'crop', RGB, minus (123.68, 116.779, 103.939)"
    assert lines[at + 2].startswith(
        "  holds 14 of the 32 variables of vgg16; not in it: conv1_2/kernel, conv2_1/kernel"
    )
    assert lines[at + 2].endswith("fc8/kernel, fc8/bias")


def test_a_model_under_our_own_names_is_recognised_whatever_it_comes_from(capsys, tmp_path):
    shapes = {name: shape for name, shape in vgg_sources.variables("vgg16").items() if name.startswith("conv")}
    save(tmp_path / "m", {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    assert run(tmp_path / "m") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "it is vgg16: under tfxfer's own names",
        "  holds 26 of the 32 variables of vgg16; not in it: "
        "fc6/kernel, fc6/bias, fc7/kernel, fc7/bias, fc8/kernel, fc8/bias",
    ]


def test_statistics_of_a_damaged_file_point_to_what_finds_all_the_damage(capsys, tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(9.0))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[data.index(np.float64(3).tobytes())] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    assert run(tmp_path / "a.npz") == 0
    assert run(tmp_path / "a.npz", "--stats") == 1
    assert "leave --stats out to list what is there; verify_weights finds all" in capsys.readouterr().err


def test_where_nothing_tells_several_sources_are_named(capsys, tmp_path):
    np.savez(tmp_path / "b.npz", conv1_1_b=np.zeros(64, np.float32))
    assert run(tmp_path / "b.npz") == 0
    out = capsys.readouterr().out
    assert "its names and shapes do not tell which of these it is:\nit is vgg16_npz:" in out
    assert "it is vgg16_npz_bgr:" in out


def test_a_damaged_first_kernel_is_no_reason_not_to_list_the_file(capsys, tmp_path):
    path = vgg16(tmp_path)
    data = bytearray(path.read_bytes())
    probe = np.float32(vgg_sources.PROBE[1][0]).tobytes()
    data[data.index(probe) : data.index(probe) + 4] = b"\0\0\1\0"
    path.write_bytes(data)
    assert run(path) == 0
    assert re.search(r"where it comes from cannot be told: .*fails its checksum", capsys.readouterr().out)


def test_the_input_spec_beside_a_checkpoint_is_shown_or_what_is_wrong_with_it(capsys, tmp_path):
    save(tmp_path / "m", {"conv1/kernel": np.zeros((3, 3, 1, 2), np.float32)})
    InputSpec("net", "a test", (8, 9), "grey", (0,), (1,), class_names=("a", "b")).save(tmp_path / "m")
    assert run(tmp_path / "m") == 0
    expected = "its input spec: net, from a test: 8x9 by 'crop', grey, minus (0); 2 classes"
    assert capsys.readouterr().out.splitlines()[-1] == expected
    (tmp_path / "m.input_spec.json").write_text("{")
    assert run(tmp_path / "m") == 0
    assert "m.input_spec.json is not JSON" in capsys.readouterr().out


@pytest.mark.parametrize(("file", "source", "found", "missing"), [
    ("weights/squeezenet1_0.npz", "squeezenet1_0_npz", 52, 0),
    ("weights/squeezenet1_1_tf_notop.h5", "squeezenet1_1_keras", 50, 2),
    ("weights/vgg16_blocks1-3.npz", "vgg16_npz_bgr", 20, 12),
])  # fmt: skip
def test_real_files_are_recognised(file, source, found, missing, real_data, capsys):
    assert run(real_data(file), "--json") == 0
    [model] = json.loads(capsys.readouterr().out)["recognised"]
    assert (model["source"], model["found"], len(model["missing"])) == (source, found, missing)


def test_every_real_file_is_listed(real_data, capsys):
    files = [*real_data("weights").iterdir(), *real_data("keras").iterdir(), *real_data("safetensors").iterdir(),
             *real_data("checkpoints").rglob("*.index"), real_data("checkpoints/v1_har/model.ckpt")]  # fmt: skip
    assert len(files) >= 14
    for file in files:
        assert run(file, "--tree", "--stats", "--sort=name") == 0
        assert re.search(r"^(\d+) of \1 tensors in ", capsys.readouterr().out, re.MULTILINE), file


# --- a terminal, and a pipe ---


def on_terminal(*args: object, columns: int = 80, rows: int = 24, **env: str) -> str:
    """Run the command on a terminal of some size and return what appears on it."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    plain = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "MANPAGER", "PAGER")}
    command = [COMMAND, "inspect_weights", *map(str, args)]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env={**plain, "TERM": "xterm", **env})
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    assert process.wait(60) == 0
    return shown.decode().replace("\r\n", "\n")


def test_a_long_list_goes_through_the_pager_and_a_short_one_does_not(tmp_path):
    np.savez(tmp_path / "a.npz", **{f"v{number}": np.zeros(1) for number in range(40)})
    assert on_terminal(tmp_path / "a.npz", PAGER="head -n 3 #").count("\n") == 3
    assert "4 of 4 tensors" in on_terminal(DIGITS, PAGER="head -n 3 #")


def test_on_a_narrow_terminal_names_stand_on_lines_of_their_own(tmp_path):
    np.savez(tmp_path / "a.npz", **{"a_long_name_of_a_layer/kernel": np.zeros((3, 3)), "b": np.zeros(1)})
    lines = on_terminal(tmp_path / "a.npz", columns=50).splitlines()
    assert lines[2] == "a_long_name_of_a_layer/kernel"
    assert re.fullmatch(r" +\(3, 3\) +float64 +9 +72 +kernel", lines[3])
    assert max(map(len, lines[:6])) <= 50


def test_into_a_pipe_no_name_is_cut_and_nothing_is_folded(tmp_path):
    name = "x" * 3000
    save(tmp_path / "m", {name: np.zeros(1, np.float32)})
    done = subprocess.run([COMMAND, "inspect_weights", tmp_path / "m"], capture_output=True, text=True,
                          env={**os.environ, "COLUMNS": "40"})  # fmt: skip
    assert done.stdout.splitlines()[1].split() == [name, "(1,)", "float32", "1", "4", "other"]


def test_letters_that_the_output_cannot_hold_are_escaped(tmp_path):
    save(tmp_path / "m", {"größe": np.zeros(1, np.float32)})
    done = subprocess.run([COMMAND, "inspect_weights", tmp_path / "m"], capture_output=True,
                          env={**os.environ, "PYTHONIOENCODING": "ascii"})  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"gr\xf6\xdfe" in done.stdout


def test_a_reader_that_has_gone_is_no_error(large):
    done = subprocess.run(f"{COMMAND} inspect_weights {large} | head -n 1; exit ${{PIPESTATUS[0]}}", shell=True,  # noqa: S602
                          executable="/bin/bash", capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stderr) in ((0, ""), (141, ""))
    assert done.stdout.startswith("name")


def test_quantized_models_are_listed_as_they_are_or_dequantized(capsys):
    model = ROOT / "tests/weights/golden/tflite/int8.tflite"
    assert run(model) == 0
    out = capsys.readouterr().out
    assert re.search(r"(?m)^Conv2D +\(4, 3, 3, 3\) +int8 +108 +108 +kernel$", out)
    assert re.search(r"(?m)^Pad/paddings +\(4, 2\) +int32 +8 +32 +other$", out)
    assert re.search(r"(?m)^Conv2D_scale +\(4,\) +float32 +4 +16 +other$", out)
    assert run(model, "--dequantize") == 0
    out = capsys.readouterr().out
    assert re.search(r"(?m)^Conv2D +\(4, 3, 3, 3\) +float32 +108 +432 +kernel$", out)
    assert "_scale" not in out
    assert run(DIGITS, "--dequantize") == 1
    assert "holds nothing to dequantize" in (err := capsys.readouterr().err)
    assert "leave --dequantize out" in err
