"""Where files and graph meet: which variable takes which array, decided and checked before anything moves."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names, notebook
from tfxfer.callables import message
from tfxfer.errors import RestoreError, SelectionError, WeightsError
from tfxfer.formats.buffers import owned
from tfxfer.graph import traversal
from tfxfer.graph.normalization import statistics_of
from tfxfer.graph.partitioned import is_part, name_of, shape_of, taken, wholes
from tfxfer.graph.preprocessing import objections
from tfxfer.graph.variables import aliases, check_open, every_variable, is_variable, model_variables, select
from tfxfer.weights import Tensor, Weights, open_weights

SHOWN = 10
GROUP_BYTES = 64 << 20
WRONG = ("missing", "mismatched")
IN_FILE, EXCLUDED, ABSENT = "in the file, not chosen", "excluded", "not in the file"
_COLUMNS = ("variable", "shape", "dtype", "status", "from")

Chosen: TypeAlias = str | tf.Variable | Sequence[str] | Sequence[tf.Variable]


@dataclasses.dataclass(frozen=True)
class Pairing:
    """One variable of the graph and what becomes of it.

    Attributes:
      variable: its op name, without `/part_N` where it is split (see `tfxfer.graph.partitioned`).
      status: `restored`; `initialised` (not chosen); `missing` (chosen, and the file has no such name); `mismatched`
        (the file has it in another shape or dtype).
      shape, dtype: what the variable is.
      source: the name in the file, before any renaming; None where there is none.
      source_shape, source_dtype: what the file has under that name.
      by: how it gets there: `Saver`, or `feed` (of the variable's initializer).
      note: of what is initialised: `in the file, not chosen`; `excluded`; or, if not trainable, `not in the file`.
    """

    variable: str
    status: str
    shape: tuple[int, ...]
    dtype: str
    source: str | None = None
    source_shape: tuple[int, ...] | None = None
    source_dtype: str | None = None
    by: str | None = None
    note: str | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The checked pairing of variables and weights.

    Attributes:
      weights: where the arrays come from.
      variables: the variables that were chosen, each part of a split one by itself.
      pairings: one for each variable that the network reads, chosen or not, in the order in which they were made.
      unused: the names in the file, before any renaming, that nobody takes, in its order.
      saver: a `tf.train.Saver` of exactly the chosen variables, under their names in the file, which restores them from
        `weights.checkpoint`; None where a Saver cannot read the weights, or the plan has errors. `restore` always can.
      by: `Saver` if the weights are a checkpoint whose arrays are taken as they are; else `feed`, of each variable's
        initializer.
      left_out: the variables that the network reads, that are not trainable, and that the file holds, in their shape
        and dtype, but that were neither chosen nor excluded: another plan of the session must restore them.
      excluded: the variables that were excluded by name.

    Example:
      >>> np.savez("weights.npz", **{"fc/kernel": np.ones((4, 2), np.float32)})
      >>> x = tf.placeholder(tf.float32, [None, 4])
      >>> x = tx.graph.layers.dense(x, 2, "fc", use_bias=False)
      >>> print(tx.plan("fc/kernel", "weights.npz").report())
      restore plan: 1 of 1 variables from weights.npz (NumPy .npz archive)
        variable   shape   dtype    status    from
        fc/kernel  (4, 2)  float32  restored  fc/kernel (by feed)
      0 tensors of the file are not used
    """

    weights: Weights
    variables: tuple[tf.Variable, ...]
    pairings: tuple[Pairing, ...]
    unused: tuple[str, ...]
    saver: tf.train.Saver | None
    by: str
    left_out: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def restore(self, *scaffold_and_session: Any) -> None:
        """Restore the chosen variables in a session of your own, whatever the format of the weights.

        Initialise first, then restore: an initializer that runs later wipes what was restored. No op is added to the
        graph, which may be finalized. `plan.restore` also serves as the `init_fn` of a `tf.train.Scaffold`:

            with tf.Session() as sess:
                sess.run(tf.global_variables_initializer())
                plan.restore(sess)

            scaffold = tf.train.Scaffold(init_fn=plan.restore)
            with tf.train.MonitoredTrainingSession(scaffold=scaffold) as sess: ...

        Args:
          *scaffold_and_session: the session, on the graph of the variables; or a scaffold, which is not looked at, and
            the session.

        Raises:
          RestoreError: as `check` says of this plan alone. What other plans restore, exclude: `plan(..., exclude=...)`.
          WeightsError: the file changed, or its bytes fail their checksum.
        """
        sess: Any = scaffold_and_session[-1] if 1 <= len(scaffold_and_session) <= 2 else None
        if not isinstance(getattr(sess, "graph", None), tf.Graph):
            kinds = names.listed(type(argument).__name__ for argument in scaffold_and_session) or "nothing"
            raise RestoreError(f"restore wants a tf.Session, or a tf.train.Scaffold and a tf.Session, and got: {kinds}")
        check([self], sess.graph)
        move(sess, self)

    def could_restore(self, pairing: Pairing) -> bool:
        """Say whether the file holds a variable under its very name, in its shape and dtype."""
        if pairing.variable not in self.weights:
            return False
        tensor = self.weights.tensor(pairing.variable)
        return (tensor.shape, tensor.dtype.name) == (pairing.shape, pairing.dtype)

    def chosen(self) -> list[Pairing]:
        """Return the pairings of the chosen variables, in the order of `variables`."""
        table = {pairing.variable: pairing for pairing in self.pairings}
        return [table[name] for name in wholes(self.variables)]

    def report(self) -> str:
        """Return a table of every variable of the model, its source, and why; then the file's unused tensors."""
        rows = [_COLUMNS, *map(_cells, self.pairings)]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self._title(), *("  " + line for line in table), *self._notes(len(self.pairings))])

    def _repr_html_(self) -> str:
        table = notebook.table(_COLUMNS, self.pairings, _cells)
        return notebook.described(self._title(), table, notes=list(self._notes(SHOWN)))

    def _title(self) -> str:
        restored = sum(pairing.status == "restored" for pairing in self.pairings)
        return (
            f"restore plan: {restored} of {len(self.pairings)} variables from {self.weights.path} ({self.weights.kind})"
        )

    def _notes(self, most: int) -> Iterator[str]:
        """Yield a line for the variables that the network reads and that nobody restores or trains, and for the rest.

        Of these variables, `most` are named.
        """
        absent = [pairing.variable for pairing in self.pairings if pairing.note == ABSENT]
        for variables, place in ((self.left_out, "in the file and not chosen"), (absent, ABSENT)):
            if variables:
                yield f"{len(variables)} variables that nobody trains are {place}: {names.listed(variables, most)}"
        rest = f"{len(self.unused)} tensors of the file are not used"
        yield f"{rest}: {names.listed(self.unused, SHOWN)}" if self.unused else rest

    def to_json(self) -> dict[str, Any]:
        """Return the whole plan as plain dicts, lists and strings."""
        pairings = [
            {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in dataclasses.asdict(p).items()
                if value is not None
            }
            for p in self.pairings
        ]
        return {
            "weights": self.weights.path,
            "kind": self.weights.kind,
            "variables": pairings,
            "unused": list(self.unused),
        }


def plan(
    variables: Chosen,
    weights: Weights | str | os.PathLike[str],
    *,
    exclude: str | Iterable[str] = (),
    outputs: Iterable[tf.Tensor] = (),
) -> Plan:
    """Pair variables with the arrays of the same name, and check every name, shape and dtype before a session exists.

        plan = tx.plan("conv.*", "runs/convolutions")
        plan = tx.plan(tx.select("conv.*"), tx.open_weights("vgg16_weights.npz", rename=vgg.RENAMES))

    Args:
      variables: what to restore: variables, as `select` returns them, or regular expressions by which it chooses. Each
        is looked up in `weights` by its op name, a part by that of the whole.
      weights: what `open_weights` returned, or a path to open; rename there if the names differ.
      exclude: one or more regular expressions of names that are left out knowingly: they are not restored, and not
        missed either (see `Plan.left_out`).
      outputs: tensors; the plan then tells of the variables that their values come from. Default: of all that belong to
        the network (see `tfxfer.graph.variables.model_variables`).

    Returns:
      The plan, to be handed to `session`, or restored by hand: `plan.restore(sess)`.

    Raises:
      RestoreError: no variable was chosen, the weights are made for another input than the network (see
        `graph.preprocessing.check_weights_by`), or some are missing or mismatched, or are one in memory and would take
        different arrays: all of them are listed, and the error's `plan` reports the rest too.
      SelectionError: a regular expression is not one, or matches nothing.
      GraphError: the weights are a checkpoint, which takes a Saver, and the graph is finalized.

    Example:
      >>> np.savez("weights.npz", **{"fc/kernel": np.ones((4, 2), np.float32)})
      >>> x = tf.placeholder(tf.float32, [None, 4])
      >>> logits = tx.graph.layers.dense(x, 2, "fc")
      >>> plan = tx.plan(tx.select("fc/kernel"), tx.open_weights("weights.npz"))
      >>> [(pairing.variable, pairing.status) for pairing in plan.pairings]
      [('fc/kernel', 'restored'), ('fc/bias', 'initialised')]
    """
    weights = _opened(weights)
    outputs = list(outputs)
    chosen = _chosen(variables, weights, outputs)
    known = wholes([*model_variables(chosen[0].graph, outputs=outputs), *chosen])
    patterns = [exclude] if isinstance(exclude, str) else list(exclude)
    excluded = names.match(patterns, list(known))
    chosen = [variable for variable in chosen if name_of(variable) not in excluded]
    if not chosen:
        raise RestoreError(
            f"`exclude` ({names.listed(patterns)}) leaves no variable to be restored from {weights.path}"
        )
    table = wholes(chosen)
    _check_whole(table)
    if against := objections(chosen[0].graph, weights):
        raise RestoreError("\n".join(against))
    as_they_are = not any(weights.transformed(name) for name in table if name in weights)
    by = "Saver" if weights.checkpoint and as_they_are else "feed"
    pairings = {name: _pair(parts[0], weights, by) for name, parts in table.items()}
    trainable = {variable.op.name for variable in chosen[0].graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)}
    trainable |= set(statistics_of(chosen[0].graph))  # they are computed for the examples at hand
    others = {
        name: _pair_other(parts[0], weights, name in excluded, parts[0].op.name in trainable or parts[0].trainable)
        for name, parts in known.items()
        if name not in table
    }
    sources = {pairing.source for pairing in pairings.values()}
    wrong = [pairing for pairing in pairings.values() if pairing.status != "restored"]
    result = Plan(
        weights=weights,
        variables=tuple(chosen),
        pairings=tuple(pairings.get(name) or others[name][0] for name in known),
        unused=tuple(source for source in map(weights.source, weights) if source not in sources),
        saver=None if wrong or by == "feed" else _saver(table, pairings),
        by=by,
        left_out=tuple(name for name, (_, left_out) in others.items() if left_out),
        excluded=tuple(excluded),
    )
    if wrong:
        raise RestoreError(_explain(wrong, list(pairings), weights), result)
    _check_feeds(result)
    _check_memory([result], chosen)
    return result


def _opened(weights: object) -> Weights:
    if isinstance(weights, Weights):
        return weights
    if isinstance(weights, str | os.PathLike):
        return open_weights(weights)
    raise RestoreError(
        f"plan(variables, weights): weights must be what open_weights returned, or a path, and not {_kind(weights)}"
    )


def _chosen(variables: object, weights: Weights, outputs: Sequence[tf.Tensor]) -> list[tf.Variable]:
    alone = isinstance(variables, str) or is_variable(variables)
    if not alone and (not isinstance(variables, Iterable) or isinstance(variables, (tf.Tensor, dict, Weights))):
        raise RestoreError(_wanted(_kind(variables)))
    items: list[Any] = [variables] if alone else list(variables)  # type: ignore[call-overload]
    if not items:
        raise RestoreError(f"no variable was chosen to be restored from {weights.path}; select at least one")
    if all(isinstance(item, str) for item in items):
        return select(*items, outputs=outputs)
    wrong = dict.fromkeys(_kind(item) for item in items if not is_variable(item))
    if wrong:
        raise RestoreError(_wanted(names.listed(wrong)))
    if len({item.graph for item in items}) > 1:
        raise RestoreError("the variables are of several graphs; make a plan for each graph")
    return list({item.op.name: item for item in items}.values())


def _wanted(kind: str) -> str:
    return (
        "plan(variables, weights): variables must be tf.Variables of a graph, as select('conv.*') returns them, or "
        f"regular expressions, and not {kind}"
    )


def _kind(item: object) -> str:
    if hasattr(item, "assign") and hasattr(item, "numpy"):
        return "a tf.Variable that was made eagerly; make it within `with tf.Graph().as_default():`"
    return f"{type(item).__name__} {str(item)[:60]!r}"


def _check_whole(table: dict[str, list[tf.Variable]]) -> None:
    """Refuse a variable that is split and of which not all parts were chosen."""
    lacking = [
        f"{name} ({names.listed(part.op.name for part in parts)} of it)"
        for name, parts in table.items()
        if is_part(parts[0]) and sum(part.shape.num_elements() for part in parts) < shape_of(parts[0]).num_elements()
    ]
    if lacking:
        raise RestoreError(
            f"only some parts of what is split were chosen: {', '.join(lacking)}; choose all parts of each, as "
            "select does by the name of the whole"
        )


def _check_feeds(plan: Plan) -> None:
    """Refuse variables whose initializer does not assign a value that could be fed in the place of the initial one."""
    unfit = [
        variable.op.name
        for variable in plan.variables
        if plan.by == "feed"
        and (
            variable.initializer.type not in traversal.ASSIGNING
            or not variable.graph.is_feedable(variable.initializer.inputs[1])
        )
    ]
    if unfit:
        raise RestoreError(
            f"{names.listed(unfit)}: the initializer does not assign an initial value that can be fed, so that only a "
            f"checkpoint can be restored; convert {plan.weights.path} to one (tfxfer convert_weights)",
            plan,
        )


def _pair(variable: tf.Variable, weights: Weights, by: str) -> Pairing:
    name = name_of(variable)
    if name not in weights:
        return _describe(variable, "missing")
    tensor = weights.tensor(name)
    fits = tensor.shape == _shape(variable) and tensor.dtype == np.dtype(variable.dtype.base_dtype.as_numpy_dtype)
    return _describe(
        variable,
        "restored" if fits else "mismatched",
        source=weights.source(name),
        by=by if fits else None,
        source_shape=tensor.shape,
        source_dtype=str(tensor.dtype),
    )


def _describe(variable: tf.Variable, status: str, **source: Any) -> Pairing:
    return Pairing(name_of(variable), status, _shape(variable), variable.dtype.base_dtype.name, **source)


def _shape(variable: tf.Variable) -> tuple[int, ...]:
    # Of integers, also where tf.disable_v2_behavior() makes a shape a sequence of Dimension; -1 is what is not known.
    shape = shape_of(variable)
    sides = [None] if shape.rank is None else shape.as_list()
    return tuple(-1 if side is None else side for side in sides)


def _pair_other(variable: tf.Variable, weights: Weights, excluded: bool, trainable: bool) -> tuple[Pairing, bool]:
    """Describe a variable that was not chosen, and say whether it is missed: nobody trains it, and the file has it."""
    if excluded:
        return _describe(variable, "initialised", note=EXCLUDED), False
    pairing = _pair(variable, weights, "")
    note = IN_FILE if pairing.source else None if trainable else ABSENT
    fits = pairing.status == "restored"
    return _describe(variable, "initialised", note=note), fits and not trainable


def _saver(table: dict[str, list[tf.Variable]], pairings: dict[str, Pairing]) -> tf.train.Saver:
    # A list is what a Saver takes for parts of one variable, and for nothing else.
    saved = {pairings[name].source: parts if is_part(parts[0]) else parts[0] for name, parts in table.items()}
    with next(iter(table.values()))[0].graph.as_default():
        check_open("plan")
        return tf.train.Saver(saved, save_relative_paths=True)


def _cells(pairing: Pairing) -> tuple[str, ...]:
    return pairing.variable, str(pairing.shape), pairing.dtype, pairing.status, _origin(pairing)


def _origin(pairing: Pairing) -> str:
    if pairing.status == "mismatched":
        return f"{pairing.source} is {pairing.source_dtype} {pairing.source_shape}"
    return f"{pairing.source} (by {pairing.by})" if pairing.source else pairing.note or ""


def _explain(wrong: Sequence[Pairing], chosen: Sequence[str], weights: Weights) -> str:
    width = max(len(pairing.variable) for pairing in wrong)
    spare = [name for name in weights if name not in chosen]
    lines = [f"cannot restore {len(wrong)} of {len(chosen)} variables from {weights.path}:"]
    for pairing in wrong:
        if pairing.status == "missing":
            reason = f"not in the file{names.did_you_mean(pairing.variable, spare)}"
        else:
            reason = (
                f"variable is {pairing.dtype} {pairing.shape}, file has {pairing.source_dtype} {pairing.source_shape}"
            )
        lines.append(f"  {pairing.variable:{width}}  {reason}")
    if all(pairing.status == "missing" for pairing in wrong) and len(wrong) == len(chosen):
        lines.append(f"the file holds: {names.listed(weights, SHOWN)}")
    return "\n".join([*lines, _cure(wrong, chosen, weights)])


def _cure(wrong: Sequence[Pairing], chosen: Sequence[str], weights: Weights) -> str:
    dtypes = {pairing.dtype for pairing in wrong}
    if all(_only_dtype(pairing) for pairing in wrong) and len(dtypes) == 1:
        dtype = dtypes.pop()
        out = "OUT.safetensors" if dtype == "bfloat16" else "OUT.npz"  # .npz has no bfloat16
        command = f"`tfxfer convert_weights {shlex.quote(weights.path)} {out} --dtype={dtype}`"
        return f"nothing is cast in silence; convert the file, and take {out}: {command}"
    rules = _rules([pairing for pairing in wrong if pairing.status == "missing"], chosen, weights)
    proposed = ", ".join(f'(r"{old}", "{new}")' for old, new in rules) or r'(r"fc_(\d)", r"fc\1"), ...'
    return f"select fewer variables, or rename: open_weights(path, rename=[{proposed}])"


def _only_dtype(pairing: Pairing) -> bool:
    """Say whether `convert_weights --dtype` makes the array fit; that goes from one type of floats to another."""
    floats = ("float16", "bfloat16", "float32", "float64")
    return (
        pairing.status == "mismatched"
        and pairing.source_shape == pairing.shape
        and pairing.dtype in floats
        and pairing.source_dtype in floats
    )


def _rules(missing: Sequence[Pairing], chosen: Sequence[str], weights: Weights) -> list[tuple[str, str]]:
    """Return rename rules that cure what is missing: one for a scope, then one for each close name.

    Only what fits is proposed: an array of the shape and dtype of the variable, under a name that nobody takes.
    """
    rules = _scope_rule(missing, chosen, weights)
    if rules:
        weights = weights.renamed(rules)
    left = [name for name in weights if name not in chosen]
    for pairing in [pairing for pairing in missing if pairing.variable not in weights][:SHOWN]:
        meant = names.close(pairing.variable, [name for name in left if _fits(pairing, weights, name)])
        if meant:
            left.remove(meant)
            rules.append((f"^{re.escape(meant)}$", pairing.variable))
    return rules


def _fits(pairing: Pairing, weights: Weights, name: str) -> bool:
    return (weights.shape(name), weights.dtype(name).name) == (pairing.shape, pairing.dtype)


def _scope_rule(missing: Sequence[Pairing], chosen: Sequence[str], weights: Weights) -> list[tuple[str, str]]:
    """Return the one rule that changes a leading scope and cures most, or nothing where none cures two or more."""
    spare: dict[str, list[str]] = {}
    for name in weights:
        if name not in chosen:
            spare.setdefault(name.rpartition("/")[2], []).append(name)
    candidates = dict.fromkeys(
        _scopes(name, pairing.variable)
        for pairing in missing[:SHOWN]
        for name in spare.get(pairing.variable.rpartition("/")[2], ())
        if _fits(pairing, weights, name)
    )
    best = max(candidates, key=lambda scopes: _cured(scopes, missing, weights), default=("", ""))
    if _cured(best, missing, weights) < 2:
        return []
    rule = (f"^{re.escape(best[0])}", best[1])
    try:
        renamed = weights.renamed([rule])
    except SelectionError:
        return []
    # A rule is for all names of the file, also for those that fitted before.
    return [] if any(name in weights and name not in renamed for name in chosen) else [rule]


def _scopes(old: str, new: str) -> tuple[str, str]:
    """Return the leading scopes in which two names differ: `a/b/kernel` and `c/b/kernel` in `a/` and `c/`."""
    olds, news = old.split("/"), new.split("/")
    while olds and news and olds[-1] == news[-1]:
        olds.pop()
        news.pop()
    return "".join(f"{part}/" for part in olds), "".join(f"{part}/" for part in news)


def _cured(scopes: tuple[str, str], missing: Sequence[Pairing], weights: Weights) -> int:
    old, new = scopes
    sources = ((pairing, old + pairing.variable[len(new) :]) for pairing in missing if pairing.variable.startswith(new))
    return sum(name in weights and _fits(pairing, weights, name) for pairing, name in sources) if old != new else 0


def move(sess: tf.Session, plan: Plan) -> None:
    """Restore a plan that `check` has passed; nothing is added to the graph.

    Raises:
      WeightsError: the file changed, or its bytes fail their checksum.
    """
    if plan.by == "Saver":
        _move_by_saver(sess, plan)
        return
    for group in _groups(plan):
        # An initializer's second input is the value it assigns: fed, it loads an array and adds no op. The variable may
        # take the array's memory over, so that it must not be that of a file.
        arrays = {name: plan.weights[name] for name in dict.fromkeys(map(name_of, group))}
        feeds = {variable.initializer.inputs[1]: taken(variable, arrays[name_of(variable)]) for variable in group}
        sess.run(
            [variable.initializer for variable in group], {tensor: owned(array) for tensor, array in feeds.items()}
        )


def _groups(plan: Plan) -> Iterator[list[tf.Variable]]:
    """Yield the variables, those together that are small: each run of a session costs some milliseconds.

    Two that were made from one initial value are never in a group: only one array can be fed in its place.
    """
    group: dict[Any, tf.Variable] = {}
    size = 0
    for name, parts in wholes(plan.variables).items():
        more = plan.weights.tensor(name).nbytes
        for part in parts:
            fed = part.initializer.inputs[1].ref()
            if group and (fed in group or (part is parts[0] and size + more > GROUP_BYTES)):
                yield list(group.values())
                group, size = {}, 0
            group[fed] = part
        size += more
    yield list(group.values())


def _move_by_saver(sess: tf.Session, plan: Plan) -> None:
    now = _unchanged(plan)
    try:
        plan.saver.restore(sess, plan.weights.checkpoint)  # type: ignore[union-attr]  # `check` saw that there is one
    except (tf.errors.OpError, ValueError) as error:
        # Read by our own reader, which names variable and file, as TensorFlow does not.
        for tensor in now:
            tensor.read()
        raise WeightsError(f"cannot restore from {plan.weights.path}: {message(error)}") from None


def _unchanged(plan: Plan) -> list[Tensor]:
    """Return what is to be restored as the file holds it now; a Saver puts an array of any shape into a variable.

    Raises:
      WeightsError: the file is broken, or another than the plan was made from.
    """
    fresh = open_weights(plan.weights.checkpoint or plan.weights.path, max_bytes=sys.maxsize)
    table = {fresh.source(name): fresh.tensor(name) for name in fresh}
    planned = [(plan.weights.source(name), plan.weights.tensor(name)) for name in wholes(plan.variables)]
    changed = [
        source
        for source, was in planned
        if source not in table or (table[source].shape, table[source].dtype) != (was.shape, was.dtype)
    ]
    if changed:
        raise WeightsError(
            f"{plan.weights.path} has changed since the plan was made, in {names.listed(changed)}; "
            "call open_weights and plan again"
        )
    return [table[source] for source, _ in planned]


# --- which plans go together ---


def check(plans: Sequence[Plan], graph: tf.Graph) -> None:
    """Refuse plans that cannot be restored together into a graph, or that leave out what they should restore.

    Raises:
      RestoreError: a plan has errors or is for another graph; a variable is in two of them; a variable that the
        network reads and that nobody trains is in the file of one, but none restores or excludes it; or two variables
        are one in memory, and would take different arrays, or one is restored and the other initialised.
    """
    for plan in plans:
        if not isinstance(plan, Plan):
            raise RestoreError(f"wanted plans, as tfxfer.plan returns them, and got {_kind(plan)}")
        if any(pairing.status in WRONG for pairing in plan.pairings):
            raise RestoreError(f"the plan from {plan.weights.path} has errors:\n{plan.report()}", plan)
        if plan.variables[0].graph is not graph:
            raise RestoreError(
                f"the plan from {plan.weights.path} is for another graph; call plan and session within "
                "the same `with graph.as_default()`",
                plan,
            )
    counts = Counter(variable.op.name for plan in plans for variable in plan.variables)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise RestoreError(f"{names.listed(twice)}: in more than one plan; select each variable once")
    _check_left_out(plans)
    if plans:
        _check_memory(plans, every_variable(graph))


def _check_left_out(plans: Sequence[Plan]) -> None:
    settled = {name for plan in plans for name in (*plan.excluded, *wholes(plan.variables))}
    lines = []
    for plan in plans:
        names_left = [name for name in plan.left_out if name not in settled]
        if names_left:
            lines.append(f"  {plan.weights.path}: {', '.join(names_left)}")
            culprit = plan
    if lines:
        raise RestoreError(
            "the network reads variables that nobody trains and that are in the file, but no plan restores them, so "
            "that they would start from their initial values:\n"
            + "\n".join(lines)
            + "\nchoose them too, or leave them out by name: plan(..., exclude=[...])",
            culprit,
        )


def _check_memory(plans: Sequence[Plan], all_variables: Sequence[tf.Variable]) -> None:
    """Refuse what would be written into one memory twice, with different values."""
    restored = {variable.op.name: (plan, name_of(variable)) for plan in plans for variable in plan.variables}
    shared = aliases(v.op for v in (*all_variables, *(v for plan in plans for v in plan.variables)))
    lines = []
    for name, others in shared.items():
        for other in others if name in restored else ():
            if other not in restored:
                lines.append(f"{name} would be restored and {other} initialised")
            elif name < other and _differ(restored[name], restored[other]):
                lines.append(f"{name} and {other} would be restored from different arrays")
    if lines:
        raise RestoreError(
            "variables that have one shared_name are a single variable in memory:\n  "
            + "\n  ".join(lines)
            + "\nimport each copy by tfxfer.import_meta_graph(path, scope), which gives it a memory of its own",
            plans[0],
        )


def _differ(first: tuple[Plan, str], second: tuple[Plan, str]) -> bool:
    (plan, name), (other_plan, other_name) = first, second
    if plan.weights.shape(name) != other_plan.weights.shape(other_name):
        return True
    return plan.weights[name].tobytes() != other_plan.weights[other_name].tobytes()
