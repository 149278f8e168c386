"""A run that is asked by other weights than its own checkpoints, by an export of it, and from other directories."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import made_runs
from tests.tools.test_predict import coloured, run
from tfxfer.runs.settings import read_settings
from tfxfer.tools import (
    average_weights,
    compare_outputs,
    evaluate,
    export_model,
    extract,
    inspect_weights,
    predict,
    report,
    store,
    train,
)
from tfxfer.weights import open_weights

SMALL = ["--model=squeezenet1_1", "--restore=none", "--image_size=32", "--endpoint=conv1:mean", "--hidden=none"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `pictures`, `run`, trained from within by a relative --data_dir, and the average `avg.ckpt`."""
    top = tmp_path_factory.mktemp("trained")
    coloured(top / "pictures", 10)
    here = os.getcwd()
    try:
        os.chdir(top)
        flags = ["--dataset=folder", "--data_dir=pictures", "--learning_rate=0.01", "--epochs=3", "--logdir=run"]
        assert run(train, *SMALL, *flags) == 0
        assert run(average_weights, "--dir=run", "--last=2", "avg.ckpt") == 0
        assert run(average_weights, "--dir=run", "--last=2", "avg.npz") == 0
        assert run(export_model, "run", "served", "--frozen_graph=frozen.pb") == 0
    finally:
        os.chdir(here)
    return top


def said(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("file", ["avg.ckpt", "avg.npz"])
def test_an_average_is_evaluated_and_leaves_the_runs_own_test_alone(trained, file, capsys):
    before = (trained / "run/test.json").read_bytes()
    assert run(evaluate, trained / "run", f"--checkpoint={trained / file}", "--json") == 0
    found = said(capsys)
    assert found["checkpoint"] == str(trained / file)
    assert (trained / "run/test.json").read_bytes() == before
    assert run(evaluate, trained / "run", f"--checkpoint={trained / file}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == f"not kept in {trained / 'run'}: {trained / file} is not a checkpoint of the run"
    assert lines[-1] == f"test accuracy {found['accuracy']:.4f}"


def test_an_average_predicts_and_is_exported_as_its_own_numbers_say(trained, tmp_path, capsys):
    picture = trained / "pictures/rose/0.png"
    given = [f"--checkpoint={trained / 'avg.ckpt'}"]
    assert run(predict, picture, f"--run={trained / 'run'}", "--json", *given) == 0
    by_run = said(capsys)["predictions"][0]["top"]
    assert run(export_model, trained / "run", tmp_path / "out", *given) == 0
    assert str(trained / "avg.ckpt") in capsys.readouterr().out
    assert run(predict, picture, f"--run={tmp_path / 'out'}", "--json") == 0
    by_export = said(capsys)["predictions"][0]["top"]
    assert [row["name"] for row in by_export] == [row["name"] for row in by_run]
    assert np.allclose([row["probability"] for row in by_export], [row["probability"] for row in by_run], atol=1e-5)
    assert run(predict, picture, f"--run={trained / 'run'}", "--json", "--checkpoint=last") == 0
    assert said(capsys)["predictions"][0]["top"] != by_run


def test_a_prefix_of_the_runs_own_is_kept_as_its_test(trained, tmp_path, capsys):
    copy = shutil.copytree(trained / "run", tmp_path / "run")
    assert run(evaluate, copy, f"--checkpoint={copy / 'model.ckpt-2'}", "--json") == 0
    assert json.loads((copy / "test.json").read_text())["checkpoint"] == "model.ckpt-2"
    assert said(capsys)["checkpoint"] == str(copy / "model.ckpt-2")


@pytest.mark.parametrize("tool", [evaluate, export_model])
def test_weights_of_another_network_are_refused_by_name(trained, tool, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", other=np.zeros(3, np.float32))
    out = [tmp_path / "out"] if tool is export_model else []
    assert run(tool, trained / "run", *out, f"--checkpoint={tmp_path / 'other.npz'}") == 1
    assert "conv1/kernel" in capsys.readouterr().err
    assert run(tool, trained / "run", *out, "--checkpoint=nowhere") == 1
    assert "nowhere" in capsys.readouterr().err


# --- exports ---


@pytest.mark.parametrize("export", ["served", "frozen.pb"])
def test_an_export_predicts_what_the_run_does(trained, export, capsys, tmp_path):
    assert run(predict, trained / "pictures", f"--run={trained / 'run'}", "--json", "--top=2") == 0
    by_run = said(capsys)["predictions"]
    assert run(predict, trained / "pictures", f"--run={trained / export}", "--json", "--top=2",
               f"--picture={tmp_path / 'drawn.png'}") == 0  # fmt: skip
    by_export = said(capsys)["predictions"]
    assert [row["path"] for row in by_export] == [row["path"] for row in by_run]
    for a, b in zip(by_run, by_export, strict=True):
        assert [row["name"] for row in a["top"]] == [row["name"] for row in b["top"]]
        assert np.allclose(*([row["probability"] for row in one["top"]] for one in (a, b)), atol=1e-5)
    assert (tmp_path / "drawn.png").exists()


def test_an_export_has_no_checkpoints_to_choose_from(trained, capsys):
    assert run(predict, trained / "pictures", f"--run={trained / 'served'}", "--checkpoint=last") == 2
    assert "is an export, which has none to choose from" in capsys.readouterr().err


def test_an_export_sets_aside_what_only_pillow_decodes_and_the_run_reads_it(trained, tmp_path, capsys):
    shutil.copy(trained / "pictures/rose/0.png", tmp_path / "a.png")
    Image.open(tmp_path / "a.png").save(tmp_path / "b.webp", lossless=True)
    assert run(predict, tmp_path, f"--run={trained / 'served'}", "--json") == 0
    found = said(capsys)
    assert [row["path"] for row in found["predictions"]] == [str(tmp_path / "a.png")]
    assert found["set_aside"][str(tmp_path / "b.webp")].startswith("is a WebP, which an export does not decode")
    assert run(predict, tmp_path, f"--run={trained / 'run'}", "--json") == 0
    a, b = said(capsys)["predictions"]
    assert a["top"] == b["top"]
    assert run(predict, tmp_path / "b.webp", f"--run={trained / 'served'}") == 1
    assert "none of the pictures can be read:" in capsys.readouterr().err


def test_a_run_on_webp_is_exported_all_the_same(tmp_path, capsys):
    for path in coloured(tmp_path / "pictures", 10).rglob("*.png"):
        Image.open(path).save(path.with_suffix(".webp"), lossless=True)
        path.unlink()
    flags = [f"--data_dir={tmp_path / 'pictures'}", "--epochs=1", f"--logdir={tmp_path / 'run'}"]
    assert run(train, *SMALL, *flags) == 0
    assert run(export_model, tmp_path / "run", tmp_path / "out") == 0


def test_the_weights_of_a_frozen_graph_of_ours_are_listed_as_those_of_its_run(trained, capsys):
    shapes = []
    for path in (trained / "frozen.pb", trained / "served"):  # the SavedModel was written with it
        assert run(inspect_weights, path, "--json") == 0
        tensors = json.loads(capsys.readouterr().out)["tensors"]
        shapes.append({tuple(tensor["shape"]) for tensor in tensors if tensor["shape"]})
    assert shapes[1] <= shapes[0]


def test_comparing_refuses_flags_of_what_is_not_compared(trained, capsys):
    both = (trained / "run", trained / "served")
    assert run(compare_outputs, *both, "--source=squeezenet_torch", "--image_size=3") == 2
    assert "--source and --image_size: for files of weights, and none is given" in capsys.readouterr().err
    assert run(compare_outputs, trained / "served", trained / "served", "--checkpoint=last") == 2
    assert "--checkpoint: for run directories, and none is given" in capsys.readouterr().err
    assert run(compare_outputs, *both, f"--images={trained / 'pictures'}", "--seed=3") == 2
    assert "--seed: not used with --images; leave one of the two out" in capsys.readouterr().err


def test_pictures_that_one_side_cannot_decode_are_shown_to_neither(trained, tmp_path, capsys):
    shutil.copy(trained / "pictures/rose/0.png", tmp_path / "a.png")
    Image.open(tmp_path / "a.png").save(tmp_path / "b.tiff")
    assert run(compare_outputs, trained / "run", trained / "served", f"--images={tmp_path}", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["pictures"] == 1
    assert f"set aside: {tmp_path / 'b.tiff'} is a TIFF, which an export does not decode" in printed.err


# --- where the examples are ---


def test_a_relative_data_dir_is_found_from_any_directory(trained, tmp_path, monkeypatch, capsys):
    stored = read_settings(trained / "run").by_name()
    assert stored["data_dir"] == str(trained / "pictures")
    monkeypatch.chdir(tmp_path)
    assert run(evaluate, trained / "run", "--json") == 0
    first = said(capsys)
    monkeypatch.chdir(trained / "run")
    assert run(evaluate, ".", "--json") == 0
    assert said(capsys)["accuracy"] == first["accuracy"]


@pytest.mark.parametrize("spelling", ["pictures", "./pictures", "../{name}/pictures/", "{top}/pictures"])
def test_a_run_goes_on_with_another_spelling_of_the_directory(trained, spelling, tmp_path, monkeypatch):
    copy = shutil.copytree(trained, tmp_path / "copy", ignore=shutil.ignore_patterns("served", "pictures"))
    (copy / "pictures").symlink_to(trained / "pictures")
    monkeypatch.chdir(trained)
    given = spelling.format(name=trained.name, top=trained)
    flags = [
        "--dataset=folder",
        f"--data_dir={given}",
        "--learning_rate=0.01",
        "--epochs=4",
        f"--logdir={copy / 'run'}",
    ]
    assert run(train, *SMALL, *flags) == 0


def test_listings_are_found_from_any_directory_too(trained, tmp_path, monkeypatch, capsys):
    lines = [f"{path.relative_to(trained / 'pictures')} {path.parent.name.replace(' ', '_')}\n"
             for path in sorted((trained / "pictures").rglob("*.png"))]  # fmt: skip
    (tmp_path / "all.txt").write_text("".join(lines))
    monkeypatch.chdir(tmp_path)
    flags = ["--listing=all.txt", f"--data_dir={trained / 'pictures'}", "--epochs=1", "--logdir=run"]
    assert run(train, *SMALL, *flags) == 0
    assert "--dataset=listing, by --listing=all.txt\n" in capsys.readouterr().out
    monkeypatch.chdir(trained)
    assert run(evaluate, tmp_path / "run") == 0
    (tmp_path / "all.txt").rename(tmp_path / "moved.txt")
    capsys.readouterr()
    assert run(evaluate, tmp_path / "run") == 1
    assert capsys.readouterr().err == (
        f"DataError: {tmp_path / 'run'} was trained on {tmp_path / 'all.txt'}, which is not there; say where it is now "
        "by --listing=...\n"
    )
    assert run(evaluate, tmp_path / "run", f"--listing={tmp_path / 'moved.txt'}") == 0


def test_examples_that_have_moved_are_said_and_the_cure_works(trained, tmp_path, capsys):
    copy = shutil.copytree(trained / "run", tmp_path / "run")
    made_runs.change_settings(copy, data_dir=str(tmp_path / "gone"))
    assert run(evaluate, copy) == 1
    assert f"{tmp_path / 'gone'}, which is not there; say where it is now by --data_dir=..." in capsys.readouterr().err
    assert run(evaluate, copy, f"--data_dir={trained / 'pictures'}") == 0
    assert run(evaluate, copy, f"--data_dir={trained / 'pictures'}", "--listing=a.txt") == 1
    assert "--listing: " in capsys.readouterr().err


# --- several runs, several tables, a partial file ---


def test_several_runs_get_a_page_each(trained, tmp_path, capsys):
    runs = [shutil.copytree(trained / "run", tmp_path / name) for name in ("a", "b")]
    assert run(report, *runs) == 0
    assert capsys.readouterr().out.count("report.html: test accuracy") == 2
    assert all((path / "report.html").exists() for path in runs)
    assert run(report, *runs, f"--out={tmp_path / 'one.html'}") == 2
    assert "is one file, and 2 runs are given" in capsys.readouterr().err
    assert run(report, tmp_path) == 1
    assert (
        f"give one or more of them: a, b; or compare them in TensorBoard: tfxfer board {tmp_path}"
        in capsys.readouterr().err
    )


def test_the_tables_of_a_store_tell_how_they_were_computed(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tfxfer.processor.features", lambda: {"avx512_bf16"})
    given = [*SMALL[:4], "--dataset=folder", f"--data_dir={trained / 'pictures'}", f"--store={tmp_path / 's'}"]
    for precision in ("float32", "bfloat16"):
        assert run(extract, tmp_path / precision, *given, f"--precision={precision}") == 0
    capsys.readouterr()
    assert run(store, "list", tmp_path / "s") == 0
    listed = capsys.readouterr().out
    tables = [line for line in listed.splitlines() if "at once" in line]
    assert len(tables) == 2
    assert all("conv1/mean:0 float32 64, computed in " in line and "with weights of no file" in line for line in tables)
    assert {"float32", "bfloat16"} == {line.partition("computed in ")[2].split()[0] for line in tables}


def test_a_file_that_has_not_all_names_the_deepest_endpoint_that_it_reaches(trained, tmp_path, capsys):
    pictures = [f"--data_dir={trained / 'pictures'}", "--image_size=64", "--model=squeezenet1_1"]
    assert run(train, *pictures, "--restore=none", "--endpoint=fire3:mean", "--hidden=none", "--epochs=1",
               "--train=.*", f"--logdir={tmp_path / 'a'}") == 0  # fmt: skip
    weights = f"--weights={tmp_path / 'a'}"
    capsys.readouterr()
    assert run(train, *pictures, weights, "--endpoint=fire5:mean", f"--logdir={tmp_path / 'b'}") == 1
    message = capsys.readouterr().err
    reached = message.strip().rpartition("--endpoint=")[2]
    assert "go no further than the file does, which has all that" in message
    assert {name for name in open_weights(tmp_path / "a") if name.startswith("fire4")} == set()
    assert run(train, *pictures, weights, f"--endpoint={reached}:mean", "--hidden=none", "--epochs=1",
               f"--logdir={tmp_path / 'c'}") == 0  # fmt: skip
    assert reached.startswith(("fire3", "pool3"))
    assert "open_weights(" not in message
