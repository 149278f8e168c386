"""Many heads side by side in one graph, fed one batch: each is trained as if it were alone.

Heads of about one width on one endpoint are a bank, whose variables are stacked: [heads, in, units]. What is smaller
than the widest of a bank is padded with zeros. A padded unit gives 0, so that its gradient is 0 and it stays 0.

A bank holds `kernel / learning rate` in the place of each kernel, and its optimizer has the rate 1. So one fused op
updates heads of different rates: Adam and the others subtract the rate times what they make of the gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.graph import layers, losses, optimizers
from tfxfer.graph.variables import global_step, glorot_uniform
from tfxfer.tuning.trials import Trial

DROPOUT_SCOPE = "HEAD/dropout1/"  # as `heads.classifier` names it, by which what is dropped is drawn


@dataclasses.dataclass(frozen=True, eq=False)
class Heads:
    """The graph of many heads.

    Attributes:
      inputs: by endpoint, the placeholder of its features, float32 [kinds, batch, k], a plane for each normalisation.
      kinds: by endpoint, the normalisation of each plane.
      labels: int64 [batch].
      apply: makes one step of all heads.
      metrics: `loss` and `accuracy`, float32 [heads, batch], without dropout.
    """

    inputs: Mapping[str, tf.Tensor]
    kinds: Mapping[str, Sequence[str]]
    labels: tf.Tensor
    apply: tf.Operation
    metrics: Mapping[str, tf.Tensor]


def build(
    trials: Sequence[Trial],
    widths: Mapping[str, int],
    *,
    classes: int,
    loss: str = "softmax",
    optimizer: Any = "adam",
    schedule: Callable[[tf.Tensor], Any] | None = None,
    class_weights: Sequence[float] | None = None,
) -> Heads:
    """Build heads in the default graph, whose seed says what they start from and what is dropped.

    Args:
      trials: what each head is.
      widths: how many features each endpoint has.
      classes, loss: as `heads.classifier` takes them.
      optimizer: as `train_step` takes it; but for Ftrl, whose steps do not grow with its learning rate.
      schedule: from global_step to what all learning rates are multiplied by. Default: 1.
      class_weights: as `train_step` takes them.
    """
    labels = tf.placeholder(tf.int64, [None], "labels")
    names = dict.fromkeys(trial.endpoint for trial in trials)
    kinds = {name: tuple(dict.fromkeys(t.normalize for t in trials if t.endpoint == name)) for name in names}
    inputs = {
        name: tf.placeholder(tf.float32, [len(kinds[name]), None, widths[name]], f"features{number}")
        for number, name in enumerate(names)
    }
    places = _banks(trials)
    banks = []
    for number, members in enumerate(places.values()):
        of_bank = [trials[place] for place in members]
        endpoint = of_bank[0].endpoint
        with tf.variable_scope(f"bank{number}"):
            banks.append(Bank(of_bank, inputs[endpoint], kinds[endpoint], 1 if loss == "sigmoid" else classes))
    steps = global_step()
    rate = tf.cast(1.0 if schedule is None else schedule(steps), tf.float32)
    make = optimizers.optimizer_factory(optimizer)
    applies = []
    for bank in banks:
        of_examples = _measured(loss, labels, bank.logits(training=True), len(bank.trials))
        weighted = _weighted(of_examples["loss"], labels, class_weights)
        applies.append(
            bank.train(tf.reduce_sum(tf.reduce_mean(weighted, axis=1)), optimizers.make_optimizer(make, rate))
        )
    with tf.control_dependencies(applies):
        step = steps.assign_add(1, read_value=False)
    measured = [_measured(loss, labels, bank.logits(training=False), len(bank.trials)) for bank in banks]
    order = np.argsort(np.concatenate([*places.values()]))
    metrics = {
        name: tf.gather(tf.concat([of_bank[name] for of_bank in measured], axis=0), order, name=name)
        for name in ("loss", "accuracy")
    }
    return Heads(inputs, kinds, labels, getattr(step, "op", step), metrics)


def _banks(trials: Sequence[Trial]) -> dict[tuple[str, int], list[int]]:
    """Return the places of the trials of each bank: those on one endpoint whose widths round up to one power of 2."""
    places: dict[tuple[str, int], list[int]] = {}
    for place, trial in enumerate(trials):
        places.setdefault((trial.endpoint, (trial.hidden - 1).bit_length() if trial.hidden else -1), []).append(place)
    return places


class Bank:
    """Heads whose variables are stacked."""

    def __init__(self, trials: Sequence[Trial], inputs: tf.Tensor, kinds: Sequence[str], outputs: int) -> None:
        """Make the variables.

        Args:
          trials: the heads; all of them have a hidden layer, or none has.
          inputs: float32 [kinds, batch, k].
          kinds: the normalisation of each plane.
          outputs: logits of a head.
        """
        self.trials = trials
        self._inputs = inputs if len(kinds) == 1 else tf.gather(inputs, [kinds.index(t.normalize) for t in trials])
        self._rates = _column(trial.learning_rate for trial in trials)
        self._units = [trial.hidden for trial in trials]
        taken = [inputs.shape[-1]] * len(trials)
        self._layers = []
        if any(self._units):
            self._layers.append(self._variables("fc1", taken, self._units))
            taken = self._units
        self._layers.append(self._variables("logits", taken, [outputs] * len(trials)))

    def _variables(self, layer: str, ins: Sequence[int], outs: Sequence[int]) -> tuple[tf.Variable, tf.Variable]:
        """Make the kernels of a layer [heads, in, out] and its biases [heads, 1, out], both divided by the rates."""
        shape = [len(ins), max(ins), max(outs)]

        sizes = list(zip(ins, outs, strict=True))
        with tf.variable_scope(tf.VariableScope(reuse=False, name=layer), auxiliary_name_scope=False):
            drawn = {size: glorot_uniform(size) for size in dict.fromkeys(sizes)}
        padded = [tf.pad(drawn[i, o], [[0, shape[1] - i], [0, shape[2] - o]]) for i, o in sizes]
        with tf.variable_scope(layer):
            kernel = tf.get_variable("kernel", initializer=tf.stack(padded) / self._rates, use_resource=True)
            bias = tf.get_variable(
                "bias", [shape[0], 1, shape[2]], initializer=tf.zeros_initializer(), use_resource=True
            )
        return kernel, bias

    def logits(self, *, training: bool) -> tf.Tensor:
        """Return what the heads give, float32 [heads, batch, outputs]; in training, a part is dropped."""
        x = self._inputs
        if any(self._units):
            x = tf.nn.relu(self._dense(x, *self._layers[0]))
            x = self._drop(x) if training and any(trial.dropout for trial in self.trials) else x
            x = _backward_times(x, self._rates)
        return self._dense(x, *self._layers[-1])

    def _dense(self, x: tf.Tensor, kernel: tf.Variable, bias: tf.Variable) -> tf.Tensor:
        return _forward_times(tf.matmul(x, kernel) + bias, self._rates)

    def _drop(self, x: tf.Tensor) -> tf.Tensor:
        batch, width = tf.shape(x)[1], x.shape[-1]
        sizes = list(dict.fromkeys(self._units))
        noises = [
            tf.pad(layers.dropout_noise(tf.stack([batch, size]), DROPOUT_SCOPE), [[0, 0], [0, width - size]])
            for size in sizes
        ]
        noise = tf.gather(tf.stack(noises), [sizes.index(units) for units in self._units])
        return layers.dropped(x, noise, _column(trial.dropout for trial in self.trials))

    def train(self, objective: tf.Tensor, optimizer: tf.train.Optimizer) -> tf.Operation:
        """Return the op that makes one step.

        Args:
          objective: the sum over the heads of what the gradients of each are of. A sum hands each head its own
            gradient, also where another head's loss is not a number.
          optimizer: of the learning rate 1.
        """
        variables = [variable for layer in self._layers for variable in layer]
        pairs = list(zip(tf.gradients(objective, variables), variables, strict=True))
        l2 = _column(trial.l2 * trial.learning_rate for trial in self.trials)
        if any(trial.l2 for trial in self.trials):
            pairs = [(g if v.op.name.endswith("bias") else g + l2 * v, v) for g, v in pairs]
        return optimizer.apply_gradients(pairs)


def _column(values: Any) -> tf.Tensor:
    return tf.constant(np.array([*values], np.float32).reshape(-1, 1, 1))


def _forward_times(x: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Multiply on the way forward, and hand gradients back as they are."""
    return tf.custom_gradient(lambda x: (x * factors, lambda gradient: gradient))(x)


def _backward_times(x: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Hand x on as it is, and multiply gradients on the way back."""
    return tf.custom_gradient(lambda x: (tf.identity(x), lambda gradient: gradient * factors))(x)


def _measured(loss: str, labels: tf.Tensor, logits: tf.Tensor, heads: int) -> dict[str, tf.Tensor]:
    """Return loss and accuracy [heads, batch], as a step of one head has them."""
    many = tf.tile(labels, [heads])
    metrics, _ = losses.build_metrics(loss, many, tf.reshape(logits, [-1, logits.shape[-1]]))
    return {name: tf.reshape(values, [heads, -1]) for name, values in metrics.items()}


def _weighted(of_examples: tf.Tensor, labels: tf.Tensor, class_weights: Sequence[float] | None) -> tf.Tensor:
    if class_weights is None:
        return of_examples
    return of_examples * tf.gather(tf.constant(class_weights, tf.float32), labels)
