"""Draw features as points in a plane, a colour and marker a class: do the classes come apart?

    tfxfer extract codes --model=squeezenet1_0 --weights=squeezenet1_0.npz --dataset=folder --data_dir=flowers
    tfxfer plot_features codes flowers.png --method=tsne

The first argument is a folder that `tfxfer extract` wrote, a store, or a table of one (STORE/ADDRESS); the second is
the PNG to write. A picture that tfxfer drew is replaced, any other file is refused. PCA keeps distances as far as a
plane can, t-SNE keeps neighbours together. The same rows and seed give the same picture. TensorFlow is not loaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from tfxfer.tools import _flags, _pager

METHODS = ("pca", "tsne")
SPLITS = ("all", "train", "validation", "test")


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_enum(
        "method",
        "pca",
        METHODS,
        "pca: the two directions of largest variance; tsne: neighbours stay neighbours, from the first 50 of those.",
        flag_values=values,
    )
    flags.DEFINE_enum("split", "all", SPLITS, "Which rows, as splits.txt has them.", flag_values=values)
    flags.DEFINE_integer(
        "most", 5000, "Draw at most so many rows, by chance where there are more.", 3, flag_values=values
    )
    flags.DEFINE_integer("seed", 0, "Seed of --method and of --most.", 0, 2**32 - 1, flag_values=values)
    flags.DEFINE_string("title", None, "Title of the picture; default: what the features are.", flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    path, out = _flags.parse(values, argv, __doc__, at_least=2, at_most=2)

    from tfxfer import extras, files
    from tfxfer.errors import DataError
    from tfxfer.plots import scatter
    from tfxfer.plots.png import check_free
    from tfxfer.store import features

    if not Path(out).absolute().parent.is_dir():
        raise DataError(f"{out}: the folder does not exist")
    check_free(out)
    extras.load("matplotlib")
    table = features.read(path)
    rows = scatter.chosen(table, values.split, values.most, values.seed)
    points, how = scatter.project(table, rows, values.method, values.seed)
    labels = None if table.labels is None else table.labels[rows]
    picture = scatter.draw(points, labels, table.class_names, values.title or table.name, how)
    files.write_bytes(Path(out), picture)
    _pager.say(f"{out}: {how}")
    return 0


if __name__ == "__main__":
    sys.exit(_flags.run(main))
