"""tools/plot_features.py: from features on disk to a picture, and what is said when there is none."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from tests.store.test_features import codes, store
from tfxfer.tools import _flags, plot_features

COMMAND = Path(sys.executable).with_name("tfxfer")


def run(*args: object) -> int:
    return _flags.run(plot_features.main, ["tfxfer plot_features", *map(str, args)])


def test_it_draws_what_extract_wrote(tmp_path):
    codes(tmp_path / "codes")
    done = subprocess.run([COMMAND, "plot_features", "codes", "out.png"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("out.png: PCA of 12 rows of 8 numbers: across and up, ")
    drawn = imread(tmp_path / "out.png")
    assert len(np.unique(drawn.reshape(-1, drawn.shape[-1]), axis=0)) > 50, "points, ticks and letters, smoothed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes", "out.png"]


def test_the_same_rows_and_seed_give_the_same_bytes(tmp_path, capsys):
    folder = codes(tmp_path / "codes", 40)
    for name in ("a", "b"):
        assert run(folder, tmp_path / f"{name}.png", "--method=tsne", "--seed=3", "--most=30") == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert "t-SNE of 30 rows of 8 numbers, perplexity 9.67, seed 3" in capsys.readouterr().out


def test_a_store_and_one_split_can_be_drawn(tmp_path, capsys):
    assert run(store(tmp_path / "store"), tmp_path / "store.png") == 0
    assert run(codes(tmp_path / "codes"), tmp_path / "test.png", "--split=test", "--title=only test") == 0
    assert "PCA of 3 rows" in capsys.readouterr().out


@pytest.mark.parametrize(("args", "status", "message"), [
    (["{tmp}", "{tmp}/out.png"], 1, "DataError: .* holds no features"),
    (["{tmp}/codes", "{tmp}/no/out.png"], 1, "DataError: .*out.png: the folder does not exist"),
    (["{tmp}/codes", "{tmp}/codes/codes.npy"], 1, "codes.npy exists and is not a picture that tfxfer drew"),
    (["{tmp}/codes", "{tmp}/out.png", "--split=validation"], 1, "has no rows of the split validation"),
    (["{tmp}/two", "{tmp}/out.png"], 1, "two has 2 rows to draw; at least 3 are needed"),
    (["{tmp}/codes"], 2, "1 arguments are too few, 2 are needed"),
    (["{tmp}/codes", "{tmp}/out.png", "--method=umap"], 2, "should be one of <pca\\|tsne>"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_said(tmp_path, capsys, args, status, message):
    codes(tmp_path / "codes")
    codes(tmp_path / "two", 2, 2)
    assert run(*(arg.format(tmp=tmp_path) for arg in args)) == status
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "Traceback" not in error
    assert not (tmp_path / "out.png").exists()
