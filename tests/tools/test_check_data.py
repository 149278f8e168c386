"""tools/check_data.py: folders, listings and runs, what is written, and planted faults in real pictures."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tfxfer as tx
from tests.tools.test_predict import coloured, run
from tfxfer.tools import check_data, extract, report, train

NETWORK = ["--model=squeezenet1_1", "--restore=none", "--image_size=64", "--endpoint=fire2:mean"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Coloured pictures with one of each fault."""
    top = coloured(tmp_path_factory.mktemp("check") / "pictures", 12)
    for path in top.rglob("*.png"):
        Image.open(path).resize((48, 36), Image.Resampling.NEAREST).save(path)
    shutil.copy(top / "rose/1.png", top / "grass/copy.png")
    shutil.copy(top / "rose/2.png", top / "rose/copy.png")
    Image.open(top / "blue sky/3.png").convert("RGB").save(top / "blue sky/copy.jpg", quality=95)
    (top / "rose/text.jpg").write_text("no picture")
    Image.new("RGB", (40, 40), (40, 200, 30)).save(top / "grass/plain.tif")
    Image.open(top / "grass/4.png").resize((16, 12)).save(top / "grass/tiny.webp")
    return top


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store") / "store"


def test_every_fault_of_a_folder_is_found_and_written(pictures, store, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(check_data, pictures, *NETWORK, f"--store={store}", f"--out={out}") == 0
    said = capsys.readouterr().out
    assert re.search(r"exact \(2\): .*\n  \S*rose/1\.png = \S*grass/copy\.png \(across classes\)\n", said)
    assert re.search(r"unreadable \(1\): .*\n  \S*text\.jpg ", said)
    rows = list(csv.DictReader((out / "findings.csv").read_text().splitlines()))
    kinds = {(row["kind"], Path(row["path"]).name) for row in rows}
    assert {("unreadable", "text.jpg"), ("exact", "copy.png"), ("tiny", "tiny.webp"),
            ("one-coloured", "plain.tif")} <= kinds  # fmt: skip
    assert any(row["kind"] == "label" and row["path"].endswith("grass/copy.png") for row in rows)
    value = json.loads((out / "findings.json").read_text())
    assert value["examples"] == 36 + 5
    assert "<script" not in (out / "index.html").read_text()
    assert run(check_data, pictures, *NETWORK, f"--store={store}", f"--out={out}") == 1
    assert "exists; take another name, or let --overwrite move what is there aside" in capsys.readouterr().err
    assert run(check_data, pictures, *NETWORK, f"--store={store}", f"--out={out}", "--overwrite", "--folds=0") == 0
    assert "labels were not checked: --folds=0" in capsys.readouterr().out
    assert json.loads((out / "findings.json.old-1").read_text()) == value


def test_the_listing_that_is_written_has_what_is_left_and_is_read_by_training(pictures, store, tmp_path, capsys):
    listing = tmp_path / "new" / "clean.txt"
    flags = [*NETWORK, f"--store={store}", "--leave_out=unreadable,exact,tiny,one-coloured"]
    assert run(check_data, pictures, *flags, f"--write_listing={listing}") == 0
    assert "with 36 of 41 pictures" in capsys.readouterr().out
    data = tx.data.listing(listing, root=pictures, size=(8, 8))
    paths = {path for split in (data.train, data.validation, data.test) for path in split.images.paths}
    names = {str(Path(path).relative_to(pictures)) for path in paths}
    gone = {"grass/copy.png", "rose/1.png", "rose/copy.png", "rose/text.jpg", "grass/plain.tif", "grass/tiny.webp"}
    every = {str(path.relative_to(pictures)) for path in pictures.rglob("*.*")}
    assert names == every - gone
    assert data.class_names == ("blue sky", "grass", "rose")
    assert run(check_data, listing, f"--data_dir={pictures}", *NETWORK, f"--store={store}", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["examples"], value["counts"]["exact"], value["counts"]["tiny"]) == (len(names), 0, 0)


@pytest.mark.parametrize("name", ["classes.txt", "clean.txt", "clean.validation.txt", "clean.test.txt"])
def test_nothing_is_computed_where_a_file_of_the_listing_exists_and_overwrite_moves_it_aside(
    name, pictures, store, tmp_path, capsys, monkeypatch
):
    for split in ("train", "val", "test"):
        shutil.copytree(pictures / "grass", tmp_path / "divided" / split / "grass")
        shutil.copytree(pictures / "rose", tmp_path / "divided" / split / "rose")
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine\n")
    arguments = [tmp_path / "divided", *NETWORK, f"--store={store}", f"--write_listing={out / 'clean.txt'}"]
    with monkeypatch.context() as patched:
        patched.setattr("tfxfer.store.extraction.extract", lambda *_, **__: pytest.fail("features are computed"))
        assert run(check_data, *arguments) == 1
    assert f"{out / name} exists; take another name, or let --overwrite move" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in out.iterdir()} == {name: "mine\n"}
    assert run(check_data, *arguments, "--overwrite", "--folds=0") == 0
    assert f"moved {out / name} to {out / name}.old-1" in capsys.readouterr().out
    assert (out / f"{name}.old-1").read_text() == "mine\n"
    assert (out / "classes.txt").read_text() == "grass\nrose\n"


def test_a_classes_txt_that_says_the_same_is_not_in_the_way(pictures, store, tmp_path):
    (tmp_path / "classes.txt").write_text("blue sky\ngrass\nrose\n")
    listing = tmp_path / "clean.txt"
    assert run(check_data, pictures, *NETWORK, f"--store={store}", f"--write_listing={listing}", "--folds=0") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"classes.txt", "clean.txt"}


def test_a_run_is_checked_in_its_splits_and_its_report_shows_it(pictures, store, tmp_path, capsys):
    logdir = tmp_path / "run"
    flags = [*NETWORK, f"--data_dir={pictures}", f"--store={store}", "--hidden=none", "--epochs=1"]
    assert run(train, *flags, f"--logdir={logdir}") == 0
    assert run(check_data, f"--run={logdir}", f"--store={store}", f"--write_listing={tmp_path / 'a.txt'}") == 0
    assert "suspects.json" in capsys.readouterr().out
    findings = json.loads((logdir / "suspects.json").read_text())["findings"]
    assert {finding["split"] for finding in findings} & {"train", "validation", "test"}
    assert {"a.txt", "a.validation.txt", "a.test.txt", "classes.txt"} <= {path.name for path in tmp_path.iterdir()}
    assert run(report, logdir) == 0
    assert "Suspects in the data" in (logdir / "report.html").read_text()


@pytest.mark.parametrize("decode", ["scaled", pytest.param("exact", marks=pytest.mark.slow)])
def test_the_features_of_a_training_are_not_computed_again(decode, tmp_path, capsys, monkeypatch):
    pictures, generator = tmp_path / "pictures", np.random.default_rng(0)
    for label in ("cat", "dog"):
        (pictures / label).mkdir(parents=True)
        for number in range(20):  # three times as large as the network takes them
            pixels = generator.integers(0, 256, (24, 24, 3), np.uint8)
            Image.fromarray(pixels).resize((192, 192)).save(pictures / label / f"{number}.jpg")
    store, logdir = f"--store={tmp_path / 'store'}", tmp_path / "run"
    flags = [*NETWORK, f"--data_dir={pictures}", store, f"--decode={decode}", "--hidden=none", "--epochs=1"]
    assert run(train, *flags, f"--logdir={logdir}") == 0
    monkeypatch.setattr("tfxfer.store.extraction.fill", lambda *_: pytest.fail("features are computed again"))
    assert run(check_data, pictures, *NETWORK, store, f"--decode={decode}", "--folds=2") == 0
    assert run(check_data, f"--run={logdir}", store, "--folds=2") == 0
    assert "40 pictures: " in capsys.readouterr().out


def test_folders_that_are_splits_show_copies_across_them(pictures, store, tmp_path, capsys):
    for split in ("train", "val"):
        for name in ("grass", "rose"):
            shutil.copytree(pictures / name, tmp_path / split / name)
    assert run(check_data, tmp_path, *NETWORK, f"--store={store}", "--json") == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    exact = [each for each in findings if each["kind"] == "exact"]
    assert "across classes and across splits" in [each["reason"] for each in exact]
    assert sum(each["split"] != each["other_split"] for each in exact) >= 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "UsageError: give either DIR, the pictures to check, or --run"),
        (["absent", *NETWORK], "DataError: absent is not there"),
        (["empty", *NETWORK], "DataError: empty has neither subfolders nor pictures"),
        (["few", *NETWORK], r"classes have fewer pictures than --folds=5: a \(2\), b \(3\); take --folds=2$"),
        (["bad", *NETWORK], "DataError: bad: none of the 1 pictures can be decoded"),
        (["few", *NETWORK, "--folds=2", "--leave_out=copies", "--write_listing=x"], "copies is not a kind of finding"),
        (["--run=absent"], "RunError: "),
        (["few", *NETWORK, "--listing=x"], "UsageError: --listing: give --run too"),
    ],
)
def test_what_cannot_be_checked_is_refused(arguments, message, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "few/a", "few/b", "bad/a"):
        (tmp_path / folder).mkdir(parents=True)
    for number, name in enumerate(("a", "a", "b", "b", "b")):
        shutil.copy(pictures / f"grass/{number}.png", tmp_path / "few" / name)
    (tmp_path / "bad/a/text.jpg").write_text("no picture")
    assert run(check_data, *arguments) in (1, 2)
    assert re.search(message, capsys.readouterr().err, re.MULTILINE)
    assert not (tmp_path / "x").exists()


# --- real pictures ---


def planted(flowers: Path, top: Path) -> dict[str, str]:
    """Link all flowers into a folder, with 20 of them re-encoded beside; return what each is a copy of."""
    generator = random.Random(1)
    paths = sorted(flowers.rglob("*.jpg"))
    for path in paths:
        link = top / path.relative_to(flowers)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    copies = {}
    for path in generator.sample(paths, 20):
        image, scale = Image.open(path).convert("RGB"), generator.uniform(0.85, 1.1)
        copy = top / path.parent.name / f"copy_{path.name}"
        size = (round(image.width * scale), round(image.height * scale))
        image.resize(size, Image.Resampling.BICUBIC).save(copy, quality=generator.randint(50, 90))
        copies[str(copy)] = str(top / path.relative_to(flowers))
    return copies


@pytest.mark.slow
@pytest.mark.parametrize("network", ["squeezenet1_0", "efficientnet_lite0"])
def test_swapped_labels_and_copies_of_real_flowers_are_found(network, real_data, tmp_path):
    copies = planted(real_data("flowers"), tmp_path / "flowers")
    weights = {"squeezenet1_0": "weights/squeezenet1_0.npz",
               "efficientnet_lite0": "formats/efficientnet-lite0-57934424.pth"}[network]  # fmt: skip
    flags = [f"--model={network}", f"--weights={real_data(weights)}", f"--data_dir={tmp_path / 'flowers'}"]
    flags += ["--endpoint=fire9:mean"] if network == "squeezenet1_0" else []
    assert run(extract, tmp_path / "codes", *flags) == 0
    codes, labels = np.load(tmp_path / "codes/codes.npy"), np.load(tmp_path / "codes/labels.npy")
    paths = (tmp_path / "codes/paths.txt").read_text().splitlines()
    near = tx.check_data(codes, labels, tx.data.Pictures(paths), folds=0).of_kind("near")
    right = [each for each in near if copies.get(each.path, copies.get(each.other)) in (each.path, each.other)]
    # One pair of sunflowers was there before.
    assert (len(right), len(near) - len(right)) == (20, 1)
    original = np.array([place for place, path in enumerate(paths) if path not in copies])
    codes, labels = codes[original], labels[original]
    for seed in range(5):
        generator = np.random.default_rng(seed)
        swapped = generator.choice(600, 30, replace=False)
        given = labels.copy()
        given[swapped] = (labels[swapped] + generator.integers(1, 5, 30)) % 5
        suspects = [each.index for each in tx.check_data(codes, given).of_kind("label")[:60]]
        assert np.isin(swapped, suspects).sum() >= 24
