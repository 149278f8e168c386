"""Files that are left to other programs: for each kind, the commands that make one of what tfxfer writes.

Most of them hold a network and not its weights alone, so that they are made of an exported model.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple


class _Kind(NamedTuple):
    """A kind of file: what it is, and the commands that make it, with `OUT` for its path and `STEM` without suffix."""

    words: str
    commands: tuple[str, ...]


_EXPORTED = "tfxfer export_model RUN served"
_TO_NPZ = "tfxfer convert_weights IN STEM.npz"
_TO_TFLITE = """import tensorflow as tf; c = tf.lite.TFLiteConverter.from_saved_model("served", \
signature_keys=["serving_default"]); open(OUT, "wb").write(c.convert())"""
# Cells hold the names, since few names of weights are names of variables to MATLAB.
_TO_MATLAB = """import numpy as np, scipy.io; w = np.load(NPZ); v = np.empty(len(w.files), object); \
[v.__setitem__(i, w[name]) for i, name in enumerate(w.files)]; \
scipy.io.savemat(OUT, {"names": np.array(w.files, object), "weights": v}, oned_as="column")"""
_TO_CAFFE = """import caffe, numpy as np; net = caffe.Net("deploy.prototxt", caffe.TEST); w = np.load(NPZ); \
[np.copyto(b.data, w[f"{layer}/{i}"]) for layer, blobs in net.params.items() for i, b in enumerate(blobs)]; \
net.save(OUT)"""
_NETWORK = "which holds the network as well as its weights"
_KINDS = {
    ".onnx": _Kind(
        f"an ONNX model, {_NETWORK}; export one and convert it by tf2onnx",
        (_EXPORTED, "python -m tf2onnx.convert --saved-model served --signature_def serving_default --output OUT"),
    ),
    ".tflite": _Kind(
        f"a TensorFlow Lite model, {_NETWORK}; export one and convert it by TensorFlow", (_EXPORTED, _TO_TFLITE)
    ),
    ".pb": _Kind(f"a frozen graph, {_NETWORK}; export one", ("tfxfer export_model RUN served --frozen_graph=OUT",)),
    ".json": _Kind(
        "a folder of TensorFlow.js; write the weights for Keras and convert them by tensorflowjs",
        ("tfxfer convert_weights IN STEM.h5", "tensorflowjs_converter --input_format=keras STEM.h5 FOLDER"),
    ),
    ".caffemodel": _Kind(
        "a .caffemodel, which Caffe writes of a net; write an .npz with names as conv1/0 (the kernel, out, in, h, "
        "w) and conv1/1 (the bias), and let Caffe fill the net of your .prototxt",
        (_TO_NPZ, _TO_CAFFE),
    ),
    ".mat": _Kind(
        "a file of MATLAB; write an .npz and convert it by SciPy to two cell arrays, so that MATLAB finds an array by "
        "weights{strcmp(names, 'conv1/kernel')}; there a vector is n x 1, one number 1 x 1, and float16 double",
        (_TO_NPZ, _TO_MATLAB),
    ),
    ".npy": _Kind("an .npy file, which holds one array; write an .npz", (_TO_NPZ,)),
    ".keras": _Kind(
        "a .keras file, which holds the network as well; write an .h5, which load_weights of that network reads",
        ("tfxfer convert_weights IN STEM.h5",),
    ),
}
_TFJS_SHARD = re.compile(r"group\d+-shard\d+of\d+\.bin")


def way_out(out: Path) -> str:
    """Say what a path asks for that is not written here, and how to get it; the empty string for any other."""
    suffix = ".json" if _TFJS_SHARD.fullmatch(out.name) else out.suffix
    if suffix not in _KINDS:
        return ""
    kind = _KINDS[suffix]
    lines = "".join(f"\n  {_filled(command, out)}" for command in kind.commands)
    return f"tfxfer does not write {kind.words}:{lines}"


def _filled(command: str, out: Path) -> str:
    """Put the paths in: quoted for the shell, or as texts of Python in a program."""
    program = command.startswith("import ")
    quote = json.dumps if program else shlex.quote
    filled = re.sub(r"\bOUT\b", lambda _: quote(str(out)), command)
    filled = re.sub(r"\bNPZ\b", lambda _: quote(str(out.with_suffix(".npz"))), filled)
    filled = re.sub(r"\bSTEM(\.\w+)", lambda suffix: quote(str(out.with_suffix(suffix[1]))), filled)
    return f"python -c {shlex.quote(filled)}" if program else filled
