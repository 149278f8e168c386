"""A whole model, from images to the probabilities of its classes, as a run or a file of weights has it."""

from __future__ import annotations

from typing import Any

from tfxfer.tools import _model_flags
from tfxfer.tools.predict import Model


def endpoints(model: Model, images: Any) -> dict[str, Any]:
    """Build a model without dropout and return its endpoints in order, its head's too; `prob` is the last.

    Args:
      model: a run's, or one with a classifier of its own.
      images: tensor uint8 [n, height, width, channels].
    """
    import tensorflow.compat.v1 as tf

    from tfxfer.graph import losses
    from tfxfer.models import heads

    settings, classes = model.settings, len(model.class_names)
    ends = _model_flags.endpoints(settings, images, model.input_spec, classes)
    last = _model_flags.endpoint_of(settings)
    if last == "prob":
        return ends
    logits = ends[last]
    if last != _model_flags.MODELS[settings.model].own:
        logits = heads.classifier(logits, hidden=settings.hidden, classes=classes, loss=settings.loss)
        tensor = tf.get_default_graph().get_tensor_by_name
        ends |= {f"fc{number}": tensor(f"HEAD/fc{number}/Relu:0") for number, _ in enumerate(settings.hidden, 1)}
        ends["logits"] = logits
    ends.pop("prob", None)
    return {**ends, "prob": losses.class_probabilities(logits)}
