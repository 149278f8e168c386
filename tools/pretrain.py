"""Train a convolutional autoencoder on unlabelled images and keep the part worth having.

    tfxfer pretrain --logdir=runs/autoencoder checkpoints/digits_autoencoder

trains on the digits and saves the convolutions (53 kB) as a TensorFlow checkpoint, for `tfxfer train --weights` to
restore. A run that goes on replaces what it saved; all else at OUT is refused, or moved aside by --overwrite, which
begins the run anew. The last line is the mean cross-entropy of a pixel of the test images, in nats: `test loss 0.1043`.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from absl import flags

from tfxfer import files
from tfxfer.errors import DataError, RunError
from tfxfer.runs.files import read_json
from tfxfer.tools import _data_flags, _flags, _pager, _report, _training_flags
from tfxfer.weights.writers import in_the_way

SAVED = "saved.json"  # in the run directory: what it wrote as OUT, which alone it may write over
USES = (_flags.Use("patch", "mask", what="the share of the image that the squares are of"),)


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    with _flags.group(values, "the autoencoder"):
        flags.DEFINE_integer("latent", 50, "Length of the code.", 1, flag_values=values)
        flags.DEFINE_float(
            "mask",
            0.5,
            "Share of the image set to zero before encoding, from 0 to below 1; the whole image is to be rebuilt.",
            0.0,
            0.999,
            flag_values=values,
        )
        flags.DEFINE_integer("patch", 7, "Side of the squares set to zero as one, in pixels.", 1, flag_values=values)
        _flags.DEFINE_patterns("save", ["conv.*"], "Variables to save in OUT.", values)
    _data_flags.define(values)
    _training_flags.define(values, labels=False)
    _flags.define_session(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    settings = define_flags()
    [out] = _flags.parse(settings, argv, __doc__, at_least=1, at_most=1, imply=_data_flags.imply, uses=USES)
    _data_flags.find_from_anywhere(settings)
    settings.set_default("logdir", f"{out}.run")
    _check_out(out, settings)
    if settings.dataset not in ("digits", "mnist"):
        raise DataError(f"--dataset={settings.dataset}: the autoencoder is trained on digits or mnist")
    examples = _data_flags.load(settings)
    _report.show_misfits(_training_flags.fit_to_length(settings, len(examples.train)))

    import tensorflow.compat.v1 as tf

    import tfxfer as tx
    from tfxfer.evaluation import evaluate
    from tfxfer.models import autoencoder
    from tfxfer.train import checkpoints

    with tf.Graph().as_default():
        tf.set_random_seed(settings.seed)
        images = tf.placeholder(tf.uint8, [None, *examples.train.images.shape[1:]], name="images")
        ends = autoencoder.autoencoder(images, latent=settings.latent, mask=settings.mask, patch=settings.patch)
        step = tx.train_step(
            images,
            None,
            ends["reconstruction"],
            loss=ends["loss"],
            train=tx.select(".*"),
            **_training_flags.solver(settings, len(examples.train)),
        )
        kept = tf.train.Saver(tx.select(*settings.save), save_relative_paths=True)
        with tx.session(**_training_flags.session_options(settings)) as sess, _report.logging():
            fitted = tx.fit(sess, step, examples, **_training_flags.fitting(settings))
            aside = _others(out, settings.logdir)
            checkpoints.write(sess, kept, out, write_meta_graph=False, aside=aside)
            _record(out, settings.logdir)
            losses = evaluate.measure(sess, step, examples.test)
    _report.show_run(fitted, settings.logdir)
    for old, new in aside.items():
        _pager.say(f"moved {old} to {new}")
    _pager.say(f"saved {', '.join(settings.save)} as {out}")
    _pager.say(f"test loss {losses['loss']:.4f}")
    return 0


def _check_out(out: str, settings: Any) -> None:
    """Refuse an OUT that the run did not write, before anything is trained.

    Raises:
      RunError: there is one, and --overwrite is not given.
    """
    there = [] if settings.overwrite else list(_others(out, settings.logdir))
    if there:
        raise RunError(
            f"{there[0]} exists, and the run {settings.logdir} did not write it; take another name than {out}, or let "
            "--overwrite move it aside and begin the run anew"
        )


def _others(out: str, logdir: str) -> dict[Path, Path]:
    """Find what is at OUT, and where to move it; nothing if the run saved it, which it may write over."""
    return {} if _index_digest(out) in _saved(logdir) else in_the_way(Path(out))


def _record(out: str, logdir: str) -> None:
    """Write into the run what it saved, by the digest of its index, which holds a checksum of each variable."""
    files.write_json(Path(logdir, SAVED), sorted({*_saved(logdir), _index_digest(out)}))


def _saved(logdir: str) -> list[str]:
    """Return the digests of what the run has saved; none where it never did."""
    path = Path(logdir, SAVED)
    return read_json(path, "move it away, and give another name than before for OUT") if path.exists() else []


def _index_digest(out: str) -> str:
    """Return the digest of a checkpoint's index; an empty text where there is none."""
    index = Path(f"{out}.index")
    return hashlib.sha256(index.read_bytes()).hexdigest() if index.is_file() else ""


if __name__ == "__main__":
    sys.exit(_flags.run(main))
