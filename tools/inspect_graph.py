"""Show what a network in a file is: what goes in and out, and the candidates for an endpoint between them.

    tfxfer inspect_graph frozen.pb
    tfxfer inspect_graph model.ckpt.meta --feed=is_training=False
    tfxfer inspect_graph exported/ --signature=serving_default --all

FILE is a MetaGraph (.meta, or the prefix of its checkpoint), a frozen graph (.pb), a SavedModel, a model of Keras
(.keras, .h5), a run directory, or the name of a network of tfxfer or of keras.applications. The candidates are the
tensors that all of the way from the input to the output goes through; --all lists the others too. Of several outputs,
the one with most before it is taken. Parameters and multiply-adds, for one example, are those up to a candidate. The
last line is the command for the next step; what is to be filled in stands there in capitals. A long list goes through
$PAGER on a terminal.

--json prints `path`, `kind`, `signatures`, `input`, `endpoint`, `suggested` (the name of what the last layer takes),
`command` and `notes`; `inputs`, `outputs` and `lacking` (what has to be fed) with `name`, `dtype` and `shape`; and all
`candidates` with `name`, `tensor`, `op`, `dtype`, `shape`, `parameters`, `multiply_adds`, `on_the_way` and `cut`. A
side of a shape that is not known is null.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from tfxfer.models.packaged import packaged_weights
from tfxfer.models.registry import MODELS, is_keras_name
from tfxfer.names import printable
from tfxfer.tools import _flags, _model_flags, _pager
from tfxfer.weight_tools.tables import table

USES = (_flags.Use("tree", "json", unless=True), _flags.Use("all", "json", unless=True))
SHOWN = 12  # of inputs and outputs
_SWITCHED_OFF = {"bool": "False", "keep": "1", "rate": "0"}


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_string("input", None, "Tensor in the place of which images come; default: found.", flag_values=values)
    flags.DEFINE_string(
        "endpoint", None, "Tensor up to which candidates are listed; default: the output.", flag_values=values
    )
    _flags.DEFINE_feeds("feed", "What a placeholder or another tensor is bound to, as is_training=False.", values)
    _model_flags.define_signature(values)
    flags.DEFINE_integer(
        "image_size", None, "Height and width of the input in pixels; default: as the file says.", 1, flag_values=values
    )
    flags.DEFINE_bool("all", False, "List every tensor of numbers on the way.", flag_values=values)
    flags.DEFINE_bool("tree", False, "Show every tensor below its scopes.", flag_values=values)
    _flags.DEFINE_json(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    [path] = _flags.parse(values, argv, __doc__, at_least=1, at_most=1)
    _flags.check_used(values, USES)

    from tfxfer.networks.candidates import inspect

    file = _opened(path, values)
    built = path in MODELS or is_keras_name(path)  # for pictures of that size already
    inspection = inspect(
        file,
        input=values.input,
        endpoint=values.endpoint,
        feeds=values.feed,
        image_size=None if built else values.image_size,
    )
    command = _command(path, file, inspection, values)
    if values.json:
        print(json.dumps(inspection.to_json() | {"command": command}))
        return 0
    _pager.show([*_head(inspection), *_listing(inspection, values), *_foot(inspection, command)])
    return 0


def _opened(path: str, values: Any) -> Any:
    from tfxfer.networks.candidates import of_model
    from tfxfer.networks.files import open_graph

    options = _model_flags.file_options(values)
    if path in MODELS:
        if options:
            given = " and ".join(f"--{name}" for name in options)
            raise _flags.UsageError(f"{given}: for networks in files, and not used with {path}; leave it out")
        return of_model(path, values.image_size)
    if values.image_size and is_keras_name(path):
        options["input_size"] = values.image_size
    return open_graph(path, **options)


# --- as text ---


def _head(inspection: Any) -> Iterator[str]:
    yield f"{printable(inspection.path)}: {inspection.kind}"
    if inspection.signatures:
        yield f"signatures: {printable(', '.join(inspection.signatures))}"
    ports = (("inputs", inspection.inputs), ("outputs", inspection.outputs), ("to be fed", inspection.lacking))
    for title, listed in ports:
        for port in listed[:SHOWN]:
            yield f"{title}: {_port(port)}"
        if len(listed) > SHOWN:
            yield f"{title}: and {len(listed) - SHOWN} more"


def _port(port: Any) -> str:
    return f"{printable(port.name)}  {port.dtype} {_shape(port.shape)}"


def _shape(shape: Sequence[int | None] | None) -> str:
    return (
        "of unknown rank" if shape is None else f"[{', '.join('?' if side is None else str(side) for side in shape)}]"
    )


_HEADINGS = ("endpoint", "op", "shape", ">parameters", ">multiply-adds", "on the way")


def _listing(inspection: Any, values: Any) -> Iterator[str]:
    every = values.all or values.tree
    chosen = [each for each in inspection.candidates if every or each.cut]
    if not chosen:
        return
    rows = [(_name(each.name), *_cells(each)) for each in chosen]
    rows = _as_tree(rows) if values.tree else rows
    yield ""
    yield from table(_HEADINGS, rows, _pager.width())
    yield ""
    what = "tensors" if every else "tensors that all of the way goes through"
    yield f"{len(chosen)} {what}, of {len(inspection.candidates)} between {inspection.input} and {inspection.endpoint}"


def _name(name: str) -> str:
    return printable(name)


def _cells(each: Any) -> tuple[str, ...]:
    counted = "?" if each.multiply_adds is None else f"{each.multiply_adds:,}"
    return each.op, _shape(each.shape), f"{each.parameters:,}", counted, printable(", ".join(each.on_the_way))


def _as_tree(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Put each row below its scopes, in the order in which they come; a scope may come again."""
    lines: list[tuple[str, ...]] = []
    above: list[str] = []
    for name, *cells in rows:
        *scopes, last = name.split("/")
        same = next((place for place, pair in enumerate(zip(scopes, above)) if pair[0] != pair[1]), None)  # noqa: B905
        start = min(len(scopes), len(above)) if same is None else same
        for depth in range(start, len(scopes)):
            lines.append(("  " * depth + scopes[depth] + "/", *[""] * len(cells)))
        lines.append(("  " * len(scopes) + last, *cells))
        above = scopes
    return lines


def _foot(inspection: Any, command: str) -> Iterator[str]:
    yield from (printable(note) for note in inspection.notes)
    if command:
        yield f"codes of {printable(inspection.suggested)}, which the last layer takes:"
        yield f"  {printable(command)}"


def _command(path: str, file: Any, inspection: Any, values: Any) -> str:
    """Return the command that extracts what the last layer takes; an empty text where nothing is suggested."""
    if not inspection.suggested:
        return ""
    feeds = [f"{name}={value}" for name, value in values.feed.items()]
    feeds += [f"{port.name.removesuffix(':0')}={_off(port)}" for port in inspection.lacking]
    named = {
        "model": path,
        "weights": "FILE" if file.weights is None and packaged_weights(path) is None else None,
        "input": inspection.input.removesuffix(":0"),
        "endpoint": inspection.suggested,
        "signature": values.signature,
        "tags": values.tags and ",".join(values.tags),
    }
    if path in MODELS:
        named |= {"input": None, "image_size": values.image_size}
    else:
        named |= _preparation(file, inspection, values)
    words = [f"--{name}={value}" for name, value in named.items() if value]
    words += [f"--feed={feed}" for feed in feeds]
    return shlex.join(["tfxfer", "extract", "codes", *words, "--dataset=folder", "--data_dir=PICTURES"])


def _preparation(file: Any, inspection: Any, values: Any) -> dict[str, Any]:
    """Return the flags that say how pixels become the input, where the file does not."""
    from tfxfer.networks.importing import spec_of

    taken = spec_of(file, inspection.input)
    sides = taken.shape.as_list()[1:3] if taken.shape.rank else [None]
    known = file.input_spec(inspection.input) is not None
    return {
        "input_spec": None if known or taken.dtype.name == "uint8" else "SPEC",
        "image_size": values.image_size or ("SIDE" if None in sides and not known else None),
    }


def _off(port: Any) -> str:
    """Return the value of a placeholder that leaves a network as it predicts, or `VALUE` where that is not known."""
    return _SWITCHED_OFF.get(port.dtype) or next(
        (value for word, value in _SWITCHED_OFF.items() if word in port.name), "VALUE"
    )


if __name__ == "__main__":
    sys.exit(_flags.run(main))
