"""The temperature that a training ends with: fitted, kept in the run, printed, shown in TensorBoard."""

from __future__ import annotations

from typing import Any

from tfxfer.errors import DataError


def fit(settings: Any, sess: Any, step: Any, examples: Any, fitted: Any) -> str:
    """Fit the temperature of the network in a session, keep it in the run, and return what to print of it.

    Args:
      settings: the flags' values, as attributes.
      sess: the session, in which the best checkpoint is.
      step: what `tfxfer.train_step` returned.
      examples: the data.
      fitted: what `tfxfer.fit` returned.

    Raises:
      RunError: it cannot be written.
    """
    from tfxfer.evaluation.calibrate import calibrate, record

    try:
        calibration = calibrate(sess, step, examples.validation, examples.test, use=settings.calibrate)
    except DataError as error:
        return f"not calibrated: {error}"
    calibration = record(settings.logdir, calibration, fitted.best)
    if "results" in step.summaries:
        from tfxfer.tensorboard import results

        results.calibrated(settings.logdir, calibration, fitted.steps)
    use = "predict and export_model divide by it" if settings.calibrate else "shown alone: --calibrate was not given"
    return f"calibration: {calibration} ({use})"
