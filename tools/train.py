"""Restore chosen variables into a classifier, train others, and say how good it is.

    tfxfer train --weights=checkpoints/digits_autoencoder --logdir=runs/digits

restores the convolutions of an autoencoder, trains the fully connected layers on the digits for 20 epochs, and ends
with a line like `test accuracy 0.9806`. Stopped at any moment, the same command goes on where it stood.
"""

from __future__ import annotations

import sys
from typing import Any

from absl import flags

from tfxfer.errors import RestoreError
from tfxfer.tools import _classifier, _flags, _report


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    with _flags.group(values, "what is restored and what is trained"):
        flags.DEFINE_string("weights", None, "File whose variables are restored.", flag_values=values)
        _flags.DEFINE_patterns(
            "restore", ["conv.*"], "Variables to restore from --weights; none for a random baseline.", values
        )
        _flags.DEFINE_rules(
            "rename", [], "Rename what is in --weights, before --restore looks; in the order given.", values
        )
        _flags.DEFINE_patterns("train", ["fc.*", "logits/.*"], "Variables to train; all others are frozen.", values)
        _flags.DEFINE_factors("lr_multipliers", {}, "Factor of the learning rate for some of --train.", values)
        flags.DEFINE_bool("dry_run", False, "Print what would be restored and trained, and stop.", flag_values=values)
    _classifier.define_data(values)
    _classifier.define_model(values)
    _classifier.define_solver(values)
    _flags.define_session(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    settings = define_flags()
    _flags.parse(settings, argv, __doc__, at_most=0)
    if not settings.logdir and not settings.dry_run:
        raise _flags.UsageError("--logdir is needed: the directory that the run is written to")
    examples = _classifier.load(settings)

    import tensorflow.compat.v1 as tf

    import tfxfer as tx

    with tf.Graph().as_default():
        images, labels, logits = _classifier.classifier(settings, examples)
        plans = _plans(settings)
        step = tx.train_step(
            images,
            labels,
            logits,
            train=_select(settings.train),
            loss=settings.loss,
            multipliers=settings.lr_multipliers,
            **_classifier.solver(settings),
        )
        _report.show_plans(plans, step)
        if settings.dry_run:
            return 0
        with tx.session(*plans, **_classifier.session_options(settings)) as sess, _report.logging():
            fitted = tx.fit(sess, step, examples, **_classifier.fitting(settings))
            step.saver.restore(sess, fitted.best)
            result = tx.evaluate(sess, step, examples.test, class_names=examples.class_names)
    _report.show_run(fitted, settings.logdir)
    print(f"test accuracy {result.accuracy:.4f}")
    return 0


def _plans(settings: Any) -> list[Any]:
    import tfxfer as tx

    if not settings.weights or settings.restore == ["none"]:
        if settings.restore != ["none"]:
            raise RestoreError("--weights is needed, the file to restore from; or --restore=none for a random baseline")
        return []
    weights = tx.open_weights(settings.weights, rename=settings.rename or None)
    try:
        return [tx.plan(tx.select(*settings.restore), weights)]
    except RestoreError as error:
        if settings.dry_run and error.plan:
            print(error.plan.report())
        raise


def _select(patterns: list[str]) -> list[Any]:
    import tfxfer as tx

    return tx.select(*patterns)


if __name__ == "__main__":
    sys.exit(_flags.run(main))
