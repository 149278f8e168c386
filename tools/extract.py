"""Write what a network makes of pictures, at any of its endpoints, for those who go on in scikit-learn.

    tfxfer extract codes --model=vgg16 --weights=vgg16_weights.npz --endpoint=fc6 --dataset=folder --data_dir=flowers

OUT is a folder, which holds in the end, row by row (training, validation, test; within each by class and path):

    codes.npy     float32 [n, ...]: np.load("codes/codes.npy", mmap_mode="r")
    labels.npy    int64 [n], the numbers of classes; classes.txt has their names, one a line
    paths.txt     the picture of each row; splits.txt, the split that training would have it in
    codes         the numbers of codes.npy alone, float32: np.fromfile("codes/codes", np.float32)
    labels        the name of each row's class, as csv

It is complete or not there. With --store, what is computed is kept, also when stopped, and never computed again.
--model may be a file too, of a network; `tfxfer inspect_graph FILE` lists what --endpoint may be.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from tfxfer.data import Data, Split
from tfxfer.errors import DataError
from tfxfer.store.precision_names import HOW, check
from tfxfer.tools import _data_flags, _flags, _model_flags, _packaged, _pager, _report, _store, _training_flags


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_bool("overwrite", False, "Move what is at OUT aside.", flag_values=values)
    _store.define_extraction(values)
    _model_flags.define_model(values)
    _model_flags.define_endpoint(values)
    _store.define(values, "a temporary one beside OUT")
    _data_flags.define(values)
    _data_flags.define_augment(values)
    _flags.define_session(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    settings = define_flags()
    out = Path(*_flags.parse(settings, argv, __doc__, at_least=1, at_most=1, imply=_packaged.imply_for_examples))
    _check_out(out, settings.overwrite)
    opened = _model_flags.open_model(settings)
    examples = _data_flags.augmented(_data_flags.load(settings, opened.input_spec), settings)
    _report.show_notes(examples)

    import tensorflow.compat.v1 as tf

    import tfxfer as tx
    from tfxfer.store import features
    from tfxfer.store.extraction import extract
    from tfxfer.store.precision import of_rows

    check(settings.precision)

    splits = _splits(examples)
    with tf.Graph().as_default(), contextlib.ExitStack() as stack:
        tf.set_random_seed(settings.seed)
        shape = examples.train.images.shape[1:]
        images = tf.placeholder(tf.uint8, [None, *shape], name=opened.free_name("images"))
        ends = _model_flags.endpoints(opened, images)
        codes = ends[opened.endpoint]
        plans = _model_flags.plans(settings, opened.weights, [".*"], ends)
        sess = stack.enter_context(tx.session(*plans, **_training_flags.session_options(settings)))
        store = settings.store or stack.enter_context(_temporary(out))
        stack.enter_context(_report.logging())
        parts = [split.images for split in splits.values()]
        options = {"batch_size": settings.batch_size, **_store.options(settings)}
        rows = extract(sess, images, [codes], parts, store, **options)
        [precision] = of_rows({opened.endpoint: rows[0][0]})
        aside = features.write(out, [columns[0] for columns in rows], splits, examples.class_names)
        if aside:
            _pager.say(f"moved {out} to {aside}")
    shape = (sum(map(len, splits.values())), *codes.shape.as_list()[1:])
    _pager.say(f"{out}: {opened.endpoint} {shape}, computed {HOW[precision]}")
    return 0


def _check_out(out: Path, overwrite: bool) -> None:
    if os.path.lexists(out) and not out.is_dir() and not overwrite:
        raise DataError(f"{out} is not a folder; give a folder, or let --overwrite move it aside")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise DataError(f"{out} already holds files; take another folder, or let --overwrite move it aside")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)


def _splits(examples: Data) -> dict[str, Split]:
    """Return the splits by their names, each once: with two listings, the second serves for validation and test."""
    if examples.test is examples.validation:
        return {"train": examples.train, "validation": examples.validation}
    return {"train": examples.train, "validation": examples.validation, "test": examples.test}


@contextlib.contextmanager
def _temporary(out: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".store", dir=out.absolute().parent) as folder:
        yield folder


if __name__ == "__main__":
    sys.exit(_flags.run(main))
