"""Train a convolutional autoencoder on unlabelled images and keep the part worth having.

    tfxfer pretrain --logdir=runs/autoencoder checkpoints/digits_autoencoder

trains on the digits and saves the convolutions (53 kB) as a TensorFlow checkpoint, for `tfxfer train --weights` to
restore. The last line is the mean cross-entropy of a pixel of the test images, in nats: `test loss 0.1043`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from tfxfer.errors import DataError, RunError
from tfxfer.runs.files import is_run
from tfxfer.tools import _data_flags, _flags, _report, _training_flags

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
    if Path(f"{out}.index").exists() and not settings.overwrite and not is_run(settings.logdir):
        raise RunError(f"{out} exists; take another name, or replace it by --overwrite")
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
            checkpoints.write(sess, kept, out, write_meta_graph=False)
            losses = evaluate.measure(sess, step, examples.test)
    _report.show_run(fitted, settings.logdir)
    print(f"saved {', '.join(settings.save)} as {out}")
    print(f"test loss {losses['loss']:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(_flags.run(main))
