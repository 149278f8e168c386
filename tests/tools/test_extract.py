"""tools/extract.py: what it writes, that it writes all or nothing, in which precision, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tools.test_predict import COLOURS, coloured, run
from tfxfer import processor
from tfxfer.store import compute, features
from tfxfer.tools import extract, make_listing, store, train

NETWORK = ["--model=squeezenet1_1", "--restore=none", "--image_size=64"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return coloured(tmp_path_factory.mktemp("coloured") / "pictures", 10)


def flags(pictures: Path, *more: str) -> list[str]:
    return [*NETWORK, "--dataset=folder", f"--data_dir={pictures}", *more]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_writes_what_people_go_on_with(pictures, tmp_path, capsys):
    out = tmp_path / "new" / "codes"
    assert run(extract, out, *flags(pictures, "--endpoint=fire2")) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{out}: fire2 (30, 15, 15, 128), computed in float32"
    assert sorted(os.listdir(out)) == [
        "classes.txt", "codes", "codes.npy", "labels", "labels.npy", "paths.txt", "splits.txt"]  # fmt: skip
    codes = np.load(out / "codes.npy", mmap_mode="r")
    assert (codes.shape, codes.dtype) == ((30, 15, 15, 128), np.float32)
    assert np.fromfile(out / "codes", np.float32).tobytes() == codes.tobytes()
    labels = np.load(out / "labels.npy")
    classes = (out / "classes.txt").read_text().splitlines()
    paths = (out / "paths.txt").read_text().splitlines()
    assert (classes, labels.dtype) == (list(COLOURS), np.int64)
    assert [Path(path).parent.name for path in paths] == [classes[label] for label in labels]
    assert sorted(paths) == sorted(map(str, pictures.rglob("*.png")))
    # As the well-known notebooks read it.
    with open(out / "labels", newline="") as file:
        delimiter = "\n" if sys.version_info < (3, 13) else ","  # Python 3.13 takes the line's end no longer
        assert [row for [row] in csv.reader(file, delimiter=delimiter)] == [classes[label] for label in labels]
    assert (out / "splits.txt").read_text().splitlines() == ["train"] * 24 + ["validation"] * 3 + ["test"] * 3
    assert os.listdir(tmp_path / "new") == ["codes"]


def test_a_class_whose_folder_is_not_unicode_keeps_its_bytes(pictures, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(pictures / "rose", data / "rose")
    shutil.copytree(pictures / "grass", os.fsdecode(os.fsencode(data) + b"/caf\xe9"))
    assert run(extract, out, *flags(data, "--endpoint=conv1:mean")) == 0
    assert (out / "classes.txt").read_bytes() == b"caf\xe9\nrose\n"
    labels = [(b"caf\xe9", b"rose")[label] for label in np.load(out / "labels.npy")]
    assert (out / "labels").read_bytes().splitlines() == labels
    assert list(features.read(out).class_names) == [os.fsdecode(b"caf\xe9"), "rose"]


def test_the_codes_tell_the_classes_apart_in_scikit_learn(pictures, tmp_path):
    from sklearn.neighbors import KNeighborsClassifier

    assert run(extract, tmp_path / "out", *flags(pictures, "--endpoint=fire2:mean")) == 0
    codes, labels = np.load(tmp_path / "out/codes.npy"), np.load(tmp_path / "out/labels.npy")
    assert codes.shape == (30, 128)
    assert KNeighborsClassifier(1).fit(codes[:24], labels[:24]).score(codes[24:], labels[24:]) == 1


def test_a_store_is_filled_once_and_serves_training_too(pictures, tmp_path, monkeypatch):
    store = f"--store={tmp_path / 'store'}"
    assert run(extract, tmp_path / "a", *flags(pictures, store)) == 0
    computed = []
    fill = compute.writer
    monkeypatch.setattr(compute, "writer", lambda *args: computed.append(args) or fill(*args))
    assert run(extract, tmp_path / "b", *flags(pictures, store)) == 0
    assert run(train, *flags(pictures, store), "--epochs=1", f"--logdir={tmp_path / 'run'}") == 0
    assert computed == []
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert run(extract, tmp_path / "c", *flags(pictures, store, "--endpoint=fire2:mean")) == 0
    assert len(computed) == 1


def test_what_is_there_is_moved_aside_only_if_asked(pictures, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    assert run(extract, out, *flags(pictures, "--endpoint=conv1:mean")) == 0
    before = contents(out)
    capsys.readouterr()
    assert run(extract, out, *flags(pictures, "--endpoint=pool1:mean")) == 1
    assert re.search("DataError: .*out already holds files; .*--overwrite", capsys.readouterr().err)
    assert contents(out) == before
    for number in (1, 2):
        assert run(extract, out, *flags(pictures, "--endpoint=pool1:mean", "--overwrite")) == 0
        assert f"moved {out} to {out}.old-{number}" in capsys.readouterr().out
    assert contents(tmp_path / "out.old-1") == before
    assert contents(tmp_path / "out.old-2") == contents(out)
    (tmp_path / "file").touch()
    assert run(extract, tmp_path / "file", *flags(pictures)) == 1
    assert "file is not a folder" in capsys.readouterr().err


def test_links_to_nothing_are_neither_written_through_nor_replaced(pictures, tmp_path, capsys):
    out, old = tmp_path / "out", tmp_path / "out.old-1"
    for link in (out, old):
        link.symlink_to(tmp_path / "gone")
    assert run(extract, out, *flags(pictures, "--endpoint=conv1:mean")) == 1
    assert "out is not a folder; give a folder, or let --overwrite move it aside" in capsys.readouterr().err
    assert run(extract, out, *flags(pictures, "--endpoint=conv1:mean", "--overwrite")) == 0
    assert f"moved {out} to {out}.old-2" in capsys.readouterr().out
    assert old.is_symlink()
    assert (tmp_path / "out.old-2").is_symlink()
    assert (out / "codes.npy").is_file()


def test_nothing_is_left_where_it_fails(pictures, tmp_path, monkeypatch):

    def full(*args):
        raise OSError(28, "No space left", "codes")

    monkeypatch.setattr(features, "_write_labels", full)
    assert run(extract, tmp_path / "out", *flags(pictures, "--endpoint=conv1:mean")) == 1
    assert os.listdir(tmp_path) == []


def test_digits_and_listings_too(pictures, tmp_path):
    root = Path(__file__).resolve().parents[2]
    weights = f"--weights={root / 'checkpoints/digits_autoencoder'}"
    assert run(extract, tmp_path / "digits", weights) == 0
    assert np.load(tmp_path / "digits/codes.npy", mmap_mode="r").shape == (1797, 7 * 7 * 32)
    assert (tmp_path / "digits/paths.txt").read_text().splitlines()[-1] == "test/359"
    assert run(make_listing, pictures, tmp_path / "lists", "--validation=0.2") == 0
    lists = [f"--{name}={tmp_path / 'lists' / file}.txt" for name, file in
             (("listing", "train"), ("validation_listing", "val"))]  # fmt: skip
    given = [*NETWORK, "--endpoint=conv1:mean", "--dataset=listing", *lists, f"--data_dir={pictures}"]
    assert run(extract, tmp_path / "listed", *given) == 0
    assert (tmp_path / "listed/splits.txt").read_text().split() == ["train"] * 24 + ["validation"] * 6


def test_the_classifier_of_a_run_is_extracted_with_its_own_classes(pictures, tmp_path):
    given = [f"--data_dir={pictures}", "--dataset=folder", "--model=squeezenet1_1", "--endpoint=pool10"]
    small = ["--restore=none", "--image_size=64", "--epochs=1"]
    assert run(train, *given, *small, f"--logdir={tmp_path / 'run'}") == 0
    assert run(extract, tmp_path / "out", *given, f"--weights={tmp_path / 'run'}") == 0
    assert np.load(tmp_path / "out/codes.npy").shape == (30, 3)


def test_crops_take_the_place_of_the_training_pictures_alone(pictures, tmp_path):
    given = flags(pictures, f"--store={tmp_path / 'store'}", "--endpoint=conv1:mean")
    for name, more in (("plain", []), ("three", ["--augment=3"]), ("again", ["--augment=3"]), ("other", ["--seed=0"])):
        assert run(extract, tmp_path / name, *given, *more) == 0
    plain, three = (np.load(tmp_path / f"{name}/codes.npy") for name in ("plain", "three"))
    assert three.shape == (24 * 3 + 6, 64)
    assert np.array_equal(three[72:], plain[24:])
    assert np.isclose(three[:72:3], plain[:24], rtol=1e-3).all(axis=1).sum() == 0
    assert len(np.unique(three[:72], axis=0)) == 72
    paths, labels, splits = (
        {name: read(tmp_path / name) for name in ("plain", "three")}
        for read in (
            lambda folder: (folder / "paths.txt").read_text().splitlines(),
            lambda folder: np.load(folder / "labels.npy").tolist(),
            lambda folder: (folder / "splits.txt").read_text().splitlines(),
        )
    )
    for column in (paths, labels, splits):
        assert column["three"][:72] == [value for value in column["plain"][:24] for _ in range(3)]
        assert column["three"][72:] == column["plain"][24:]
    assert contents(tmp_path / "again") == contents(tmp_path / "three")
    assert contents(tmp_path / "other") == contents(tmp_path / "plain")


@pytest.mark.slow
def test_several_workers_give_the_same_files_and_nothing_else_on_the_terminal(pictures, tmp_path):
    given = flags(pictures, "--endpoint=fire2", "--batch_size=8", "--augment=2")
    assert run(extract, tmp_path / "one", *given) == 0
    command = [Path(sys.executable).with_name("tfxfer"), "extract", tmp_path / "two", *given, "--workers=2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'two'}: fire2 (54, 15, 15, 128), computed in float32\n"
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


def test_half_the_room_on_disk_rounds(pictures, tmp_path):
    given = flags(pictures, f"--store={tmp_path / 'store'}", "--endpoint=conv1:mean")
    assert run(extract, tmp_path / "whole", *given) == 0
    assert run(extract, tmp_path / "half", *given, "--store_dtype=float16") == 0
    whole, half = (np.load(tmp_path / f"{name}/codes.npy") for name in ("whole", "half"))
    assert half.dtype == np.float32
    assert np.array_equal(half, whole.astype(np.float16))


# --- precision ---


def test_bfloat16_is_refused_where_the_processor_has_none_and_auto_does_without(
    pictures, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(processor, "features", lambda: {"avx2", "avx512f"})
    assert run(extract, tmp_path / "out", *flags(pictures, "--precision=bfloat16")) == 1
    said = capsys.readouterr().err
    assert re.search("this processor has none of amx_bf16, avx512_bf16, and would be 0.4 times as fast", said)
    assert "leave --precision out, or give --precision=auto" in said
    given = flags(pictures, "--precision=auto", "--endpoint=conv1:mean", "--batch_size=4")
    assert run(extract, tmp_path / "out", *given) == 0
    said = capsys.readouterr().out
    assert "--precision=auto: frozen layers compute in float32: this processor has none of amx_bf16" in said
    assert "computed in float32" in said


def test_bfloat16_has_a_table_of_its_own_and_auto_takes_what_is_there(pictures, tmp_path, capsys, monkeypatch):
    # Where the processor has no units for it, TensorFlow leaves the graph as it is, or oneDNN emulates them.
    monkeypatch.setattr(processor, "features", lambda: {"avx512_bf16"})
    given = flags(pictures, f"--store={tmp_path / 'a'}", "--endpoint=fire2:mean")
    for name in ("bfloat16", "auto", "float32"):
        assert run(extract, tmp_path / name, *given, f"--precision={name}") == 0
        assert f"computed in {name.replace('auto', 'bfloat16')}" in capsys.readouterr().out.splitlines()[-1]
    assert run(extract, tmp_path / "folded", *given, "--precision=folded") == 0
    assert capsys.readouterr().out.endswith("computed in float32 with batch normalisation and padding folded\n")
    assert run(store, "list", tmp_path / "a") == 0
    listed = capsys.readouterr().out
    for how in ("in bfloat16", "in float32", "in float32 with batch normalisation and padding folded"):
        assert f"computed {how} with weights of no file" in listed
    assert len(list((tmp_path / "a").glob("*/about.json"))) == 3
    assert contents(tmp_path / "auto") == contents(tmp_path / "bfloat16")
    fast, exact = (np.load(tmp_path / name / "codes.npy") for name in ("bfloat16", "float32"))
    np.testing.assert_allclose(fast, exact, atol=0.02 * np.abs(exact).max())


# --- refusals ---


@pytest.mark.parametrize(("more", "status", "error"), [
    (["--endpoint=fc6"], 1, r"GraphError: squeezenet1_1 has no endpoint 'fc6'.*; it has input, conv1, pool1, fire2"),
    (["--endpoint=fire9:max"], 1, "has no endpoint 'max'; it has mean"),
    (["--endpoint=pool10:mean"], 1, r"pool10 \(.*, 1000\) has no positions to average over; leave :mean out"),
    (["--image_size=8"], 1, "DataError: images are 8x8; squeezenet1_1 needs at least 17x17"),
    (["--data_dir=nowhere"], 1, "nowhere is not there"),
    (["--data_dir={empty}"], 1, "has neither subfolders nor pictures"),
    (["--dataset=listing"], 1, "needs --listing"),
    (["--restore=.*"], 1, "RestoreError: --weights is needed"),
    (["--model=autoencoder"], 2, "--image_size: not used with --model=autoencoder; leave one of the two out"),
    (["--weights={other}", "--restore=.*"], 1, "is of vgg16, by the input spec beside it"),
    (["--augment=3", "--dataset=digits", "--model=autoencoder"], 2, "--data_dir: give --dataset=mnist or"),
    (["--augment=0"], 2, "augment"),
    (["--workers=0"], 2, "workers"),
    (["--store_dtype=int8"], 2, "store_dtype"),
    (["--batch_size=0"], 2, "batch_size"),
    (["{empty}"], 2, "unexpected argument"),
])  # fmt: skip
def test_what_cannot_be_done_is_said_without_a_traceback(pictures, tmp_path, capsys, more, status, error):
    places = {"empty": tmp_path / "empty", "other": tmp_path / "other"}
    places["empty"].mkdir()
    if "other" in more[0]:
        of_another_model(places["other"])
    given = flags(pictures, *(each.format(**places) for each in more))
    assert run(extract, tmp_path / "out", *given) == status
    said = capsys.readouterr().err
    assert re.search(error, said), said
    assert "Traceback" not in said
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in places.values() if path.exists())


def of_another_model(folder: Path) -> None:
    """Make a copy of a checkpoint with an input spec beside it that is VGG16's."""
    source = Path(__file__).resolve().parents[2] / "checkpoints"
    folder.mkdir()
    for file in source.glob("digits_autoencoder.*"):
        shutil.copy(file, folder)
    input_spec = {"model": "vgg16", "source": "test", "size": [64, 64], "channels": "RGB", "mean": [0, 0, 0],
                "scale": [1, 1, 1], "resize": "crop", "class_names": []}  # fmt: skip
    (folder / "digits_autoencoder.input_spec.json").write_text(json.dumps(input_spec))
