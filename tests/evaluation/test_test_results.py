"""What a run leaves behind of its test: the file, its mistakes, and their pictures, also when things go wrong."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from tfxfer.data import Pictures, Split
from tfxfer.errors import RunError
from tfxfer.evaluation.evaluate import Evaluation
from tfxfer.evaluation.test_results import record
from tfxfer.runs import test_examples

NAMES = ("ant", 'bee "<b>"', "cät/..")


def guessed(n=40, classes=3, seed=0, images=None) -> tuple[Evaluation, Split]:
    """A model that is wrong about two times in three, on random images."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), n).astype(np.float32)
    labels = generator.integers(0, classes, n)
    if images is None:
        images = generator.integers(0, 256, (n, 8, 6, 1)).astype(np.uint8)
    accuracy = float(np.mean(probabilities.argmax(axis=1) == labels))
    metrics = {"loss": 1.5, "accuracy": accuracy}
    return Evaluation(metrics, probabilities, labels, NAMES[:classes]), Split(images, labels)


def pixels(path: Path) -> np.ndarray:
    return (imread(path)[..., :3] * 255).round().astype(np.uint8)


def test_the_file_holds_what_the_test_gave(tmp_path):
    result, split = guessed()
    found = record(tmp_path, result, split, str(tmp_path / "best/model.ckpt-12"))
    stored = json.loads((tmp_path / "test.json").read_text())
    assert stored == found
    assert stored["checkpoint"] == "best/model.ckpt-12"
    mistakes = stored.pop("mistakes")
    assert stored == {"checkpoint": "best/model.ckpt-12", **result.to_json()}
    assert (stored["examples"], stored["top_k"], stored["class_names"]) == (40, {"1": result.accuracy}, list(NAMES))
    assert np.sum(stored["confusion"]) == 40
    assert len(mistakes) == min(25, round((1 - result.accuracy) * 40))


def test_each_mistake_says_what_was_taken_for_what_how_surely_and_where_it_is(tmp_path):
    result, split = guessed()
    mistakes = record(tmp_path, result, split, "x", most=5)["mistakes"]
    assert len(mistakes) == 5
    assert [one["probability"] for one in mistakes] == sorted((one["probability"] for one in mistakes), reverse=True)
    for rank, one in enumerate(mistakes, 1):
        index = one["index"]
        assert one["true"] == NAMES[split.labels[index]] != one["predicted"]
        assert one["predicted"] == NAMES[result.probabilities[index].argmax()]
        assert one["probability"] == result.probabilities[index].max()
        assert one["probability_of_true"] == result.probabilities[index, split.labels[index]]
        assert one["path"] is None
        assert one["picture"].startswith(f"mistakes/{rank:02}-")
        np.testing.assert_array_equal(pixels(tmp_path / one["picture"]), np.repeat(split.images[index], 3, axis=-1))


def photographs(folder: Path, size=(300, 200), count=12) -> list[str]:
    generator = np.random.default_rng(1)
    folder.mkdir()
    for number in range(count):
        colour = generator.integers(0, 256, 3)
        Image.fromarray(np.full((*size, 3), colour, np.uint8)).save(folder / f"{number} bird.png")
    return sorted(str(path) for path in folder.iterdir())


@pytest.mark.parametrize(("size", "small"), [((320, 320), (160, 160)), ((224, 100), (160, 71)), ((32, 48), (32, 48))])
def test_pictures_of_files_are_as_the_model_saw_them_and_no_side_is_above_160(tmp_path, size, small):
    paths = photographs(tmp_path / "birds")
    images = Pictures(paths, size)
    result, split = guessed(12, images=images)
    for one in record(tmp_path, result, split, "x")["mistakes"]:
        assert one["path"] == paths[one["index"]]
        found = pixels(tmp_path / one["picture"])
        assert found.shape == (*small, 3)
        np.testing.assert_array_equal(found[0, 0], images[one["index"]][0, 0])
    assert images.size == size


def test_arrays_larger_than_160_are_thinned_out(tmp_path):
    images = np.zeros((12, 3, 1000, 4), np.uint8)
    images[..., 500:, :] = 255
    result, split = guessed(12, images=images)
    [one, *_] = record(tmp_path, result, split, "x")["mistakes"]
    found = imread(tmp_path / one["picture"])
    assert found.shape == (1, 160, 4)
    assert (found[0, :79].max(), found[0, 81:].min()) == (0, 1)


@pytest.mark.parametrize(
    "images", [np.zeros((12, 4, 4, 2), np.uint8), np.zeros((12, 4, 4, 3), np.float32), np.zeros((12, 9), np.uint8)]
)
def test_what_is_no_picture_has_none(tmp_path, images):
    result, split = guessed(12, images=images)
    found = record(tmp_path, result, split, "x")["mistakes"]
    assert {one["picture"] for one in found} == {None}


def test_a_picture_that_is_gone_or_has_changed_is_left_out_and_the_others_stay(tmp_path):
    paths = photographs(tmp_path / "birds")
    result, split = guessed(12, images=Pictures(paths, (20, 20)))
    gone, broken = (int(index) for index in result.mistakes()[:2])
    os.unlink(paths[gone])
    Path(paths[broken]).write_bytes(b"text")
    found = record(tmp_path, result, split, "x")["mistakes"]
    assert [one["index"] for one in found if one["picture"] is None] == [gone, broken]
    assert len(found) > 3


def files_of(run: Path) -> set[str]:
    return {path.name for path in (run / "mistakes").iterdir()}


def test_another_test_replaces_the_pictures_of_the_one_before_and_nothing_else(tmp_path):
    record(tmp_path, *guessed(seed=0), "x")
    before = files_of(tmp_path)
    (tmp_path / "mistakes/mine.png").write_text("not ours")
    found = record(tmp_path, *guessed(seed=1), "x")["mistakes"]
    assert files_of(tmp_path) == {Path(one["picture"]).name for one in found} | {"mine.png"}
    assert not before & files_of(tmp_path)
    again = record(tmp_path, *guessed(seed=1), "x")["mistakes"]
    assert again == found


def test_a_test_without_mistakes_leaves_no_pictures(tmp_path):
    record(tmp_path, *guessed(), "x")
    result, split = guessed()
    right = Evaluation(result.metrics, np.eye(3, dtype=np.float32)[result.labels], result.labels, NAMES)
    assert record(tmp_path, right, split, "x")["mistakes"] == []
    assert files_of(tmp_path) == set()


@pytest.mark.parametrize("dies_at", range(1, 9))
def test_whenever_it_is_killed_every_picture_that_the_file_names_is_there(tmp_path, dies_at):
    record(tmp_path, *guessed(seed=0), "x", most=5)
    child = os.fork()
    if not child:
        replace, calls = os.replace, iter(range(1, 99))

        def die(*names):
            if next(calls) == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*names)

        os.replace = die
        record(tmp_path, *guessed(seed=1), "x", most=5)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]) == (dies_at <= 7)  # five pictures and two files
    stored = json.loads((tmp_path / "test.json").read_text())
    assert len(stored["mistakes"]) == 5
    assert all((tmp_path / one["picture"]).stat().st_size for one in stored["mistakes"])
    record(tmp_path, *guessed(seed=2), "x", most=5)
    assert len(files_of(tmp_path)) == 5


def test_many_classes_make_a_file_with_a_line_for_each_and_not_for_each_number(tmp_path):
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(1000), 50).astype(np.float32)
    names = tuple(f"class {number}" for number in range(1000))
    labels = generator.integers(0, 1000, 50)
    result = Evaluation({"loss": 1.0, "accuracy": 0.0}, probabilities, labels, names)
    record(tmp_path, result, Split(np.zeros((50, 4, 4, 1), np.uint8), labels), "x")
    text = (tmp_path / "test.json").read_text()
    assert 2000 < len(text.splitlines()) < 2100
    assert np.shape(json.loads(text)["confusion"]) == (1000, 1000)


def test_a_full_disk_is_said_and_the_test_before_stays(tmp_path):
    """A limit on the size of files stands in for a full disk."""
    record(tmp_path, *guessed(seed=0), "x", most=3)
    before = (tmp_path / "test.json").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, limits[1]))
    try:
        with pytest.raises(RunError, match=r"cannot write test\.json and mistakes/ in .*: File too large"):
            record(tmp_path, *guessed(seed=1), "x", most=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (tmp_path / "test.json").read_bytes() == before
    assert all((tmp_path / one["picture"]).exists() for one in json.loads(before)["mistakes"])


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path):
    (tmp_path / "mistakes").touch()
    with pytest.raises(RunError, match=r"cannot write test\.json and mistakes/ in .*: File exists"):
        record(tmp_path, *guessed(), "x")


def test_examples_are_taken_one_at_a_time(tmp_path):
    taken = []

    class Watched:
        shape, dtype = (40, 8, 6, 1), np.dtype(np.uint8)

        def __getitem__(self, indices):
            taken.append(len(indices))
            return np.zeros((len(indices), 8, 6, 1), np.uint8)

    result, split = guessed(images=Watched())
    kept = record(tmp_path, result, split, "x")["mistakes"]
    assert len(taken) == 40 + len(kept)  # each for its digest, mistakes for their pictures
    assert set(taken) == {1}


def test_every_example_has_a_line_with_what_it_was_taken_for(tmp_path):
    result, split = guessed()
    result.probabilities[3, 1] = np.nan
    record(tmp_path, result, split, "x")
    lines = test_examples.read(tmp_path)
    assert [line.right for line in lines] == (result.predictions == result.labels).tolist()
    assert [line.true for line in lines] == [NAMES[label] for label in split.labels]
    assert lines[3].predicted == ""
    assert lines[5].digest == hashlib.sha256(split.images[5].tobytes()).hexdigest()
    paths = photographs(tmp_path / "birds", count=3)
    result, split = guessed(3, images=Pictures(paths, (8, 8)))
    os.unlink(paths[2])
    record(tmp_path, result, split, "x")
    lines = test_examples.read(tmp_path)
    assert [line.path for line in lines] == paths
    assert lines[0].digest == hashlib.sha256(Path(paths[0]).read_bytes()).hexdigest()
    assert lines[2].digest == ""
