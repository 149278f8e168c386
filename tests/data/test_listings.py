"""Listings: lines of a path and a label, where pictures may lie, which labels fit together."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tfxfer.data import Pictures, decoding, listing
from tfxfer.data.listings import _is_inside, find, format_line, read
from tfxfer.errors import DataError


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(list(path.name.encode()))
    Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8)).save(path, "PNG")
    return path


def lines(*labels: object, name: str = "{}.png") -> str:
    """Write a line for each label; the pictures are called 0.png, 1.png, ..."""
    return "".join(f"{name.format(number)} {label}\n" for number, label in enumerate(labels))


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder of 30 pictures."""
    for number in range(30):
        picture(tmp_path / f"{number}.png")
    return tmp_path


def written(top: Path, text: str, name: str = "list.txt") -> Path:
    (top / name).write_text(text)
    return top / name


def paths(data) -> list[str]:
    return [Path(path).name for split in (data.train, data.validation, data.test) for path in split.images.paths]


def refused(*args, **options) -> str:
    with pytest.raises(DataError) as error:
        listing(*args, **options)
    return str(error.value)


def problems(top: Path, text: str, **options) -> list[str]:
    """Return what is wrong with the lines, without the head."""
    head, *rest = refused(written(top, text), **options).splitlines()
    assert head == f"{top / 'list.txt'}: {len(rest)} lines cannot be used:"
    return [line.strip() for line in rest]


# --- lines ---


def test_a_listing_is_divided_like_a_folder(top):
    data = listing(written(top, lines(*["cat"] * 20, *["dog"] * 10)), size=(7, 9))
    assert data.class_names == ("cat", "dog")
    assert [np.bincount(split.labels).tolist() for split in (data.train, data.validation, data.test)] == [
        [16, 8],
        [2, 1],
        [2, 1],
    ]
    for split in (data.train, data.validation, data.test):
        assert isinstance(split.images, Pictures)
        assert split.images[:].shape == (len(split), 7, 9, 3)
        assert [int(Path(path).stem) >= 20 for path in split.images.paths] == (split.labels == 1).tolist()
    assert data.notes == ()
    tested = [path for part in data.folds(5, 0) for path in part.test.images.paths]
    assert sorted(tested) == sorted(str(top / f"{number}.png") for number in range(30))


def test_lines_may_be_written_in_many_ways(tmp_path):
    text = (
        "\ufeff# a comment\r\n\n   \t\n0.png cat\n  # another\n\t1.png \t dog\t \n"
        "with blanks in it.png cat\r\n./sub/../2.png dog\nümläut.png cat\n3.png\tdog"
    )
    (tmp_path / "list.txt").write_text(text, "utf-8", newline="")
    found = read(tmp_path / "list.txt", tmp_path, faults := [])
    assert faults == []
    assert [(Path(line.path).relative_to(tmp_path).as_posix(), line.label) for line in found] == [
        ("0.png", "cat"),
        ("1.png", "dog"),
        ("with blanks in it.png", "cat"),
        ("2.png", "dog"),
        ("ümläut.png", "cat"),
        ("3.png", "dog"),
    ]
    assert found[0].at == "list.txt:4:"


NAMES = st.text(st.characters(exclude_characters="\n\r\0/", codec="utf-8"), min_size=1)


@given(st.lists(NAMES, min_size=1, max_size=4).map("/".join), st.integers(0, 10**9 - 1))
def test_what_is_written_as_a_line_is_read_as_it_was(tmp_path_factory, path, label):
    file = tmp_path_factory.getbasetemp() / "line.txt"
    if re.search(r"^[ \t#]|[ \t]$", path) or ".." in path.split("/"):
        return
    file.write_bytes(format_line(path, label).encode())
    [line] = read(file, Path("root"), faults := [])
    assert faults == []
    assert Path(line.path) == Path("root") / re.sub(r"(^|/)(\./)+", r"\1", path)
    assert line.label == label


@given(st.text(), st.text())
def test_no_text_does_harm(tmp_path_factory, one, other):
    file = tmp_path_factory.getbasetemp() / "text.txt"
    file.write_bytes(f"{one} {other}\n{other}".encode("utf-8", "surrogatepass"))
    try:
        found = read(file, Path("root"), [])
    except DataError:
        return
    assert all(_is_inside(line.path, Path("root")) for line in found)


@pytest.mark.parametrize("path", ["", " a.png", "#a.png", "a.png ", "\ta.png", "a\nb.png", "a\r.png"])
def test_a_path_that_no_line_can_hold_is_refused(path):
    with pytest.raises(DataError, match="cannot be a path of a listing"):
        format_line(path, 0)


def test_lines_without_a_label_are_named_by_their_numbers(top):
    text = "0.png 0\n1.png\n\nmy picture.JPG\n" + "x" * 100 + "\n"
    assert problems(top, text) == [
        "list.txt:2: '1.png' has no label; write `path label`",
        "list.txt:4: 'my picture.JPG' has no label; write `path label`",
        f"list.txt:5: '{'x' * 77}...' has no label; write `path label`",
    ]


def test_of_very_many_bad_lines_some_are_listed_and_the_others_counted(top):
    message = refused(written(top, lines(*range(5)) + "x\n" * 50))
    assert len(message.splitlines()) == 22
    assert message.startswith(f"{top / 'list.txt'}: 50 lines cannot be used:\n")
    assert message.endswith("\n  and 30 more")


# --- where pictures lie ---


def test_paths_are_relative_to_the_listing_unless_a_root_is_told(top, tmp_path_factory):
    elsewhere = written(tmp_path_factory.mktemp("lists"), lines(*[0, 1] * 15))
    assert len(paths(listing(elsewhere, root=top))) == 30
    assert refused(elsewhere).startswith(f"{elsewhere}: 30 of 30 pictures cannot be used, more than `most_bad=0.1`:")
    assert f"  {elsewhere.parent / '7.png'} is not there\n" in refused(elsewhere, proportions=(1, 1, 1))


def test_absolute_paths_inside_the_root_are_taken(top):
    data = listing(written(top, lines(*[0, 1] * 15, name=f"{top}/{{}}.png")))
    assert len(paths(data)) == 30


def test_a_relative_root_gives_relative_paths(top, monkeypatch):
    written(top, lines(*[0, 1] * 15))
    monkeypatch.chdir(top)
    assert set(listing("list.txt").train.images.paths) <= {f"{number}.png" for number in range(30)}


def test_paths_outside_of_the_root_are_refused(top):
    inner = top / "inner"
    text = f"a.png 0\n../1.png 0\nsub/../../2.png 1\n/etc/passwd 1\n../inner-not/x.png 0\n.. 0\n{inner}/b.png 1\n"
    inner.mkdir()
    outside = {2: "../1.png", 3: "sub/../../2.png", 4: "/etc/passwd", 5: "../inner-not/x.png", 6: ".."}
    assert problems(inner, text) == [
        f"list.txt:{row}: {path!r} is outside of {inner}; name another root" for row, path in outside.items()
    ]
    found = find(written(inner, "../1.png 0\n/0.png 1\n"), root="/")
    assert found.paths == ["/1.png", "/0.png"]


def test_a_picture_that_is_not_there_is_set_aside(top):
    data = listing(written(top, lines(*[0, 1] * 15) + "gone.png 1\n"))
    assert data.set_aside == {str(top / "gone.png"): "is not there"}
    assert data.notes == (f"set aside 1 of 31 pictures:\n  {top / 'gone.png'} is not there",)


# --- labels ---


def test_integers_are_numbered_in_their_order(top):
    data = listing(written(top, lines(*[10, 9, 2] * 10)))
    assert data.class_names == ("2", "9", "10")
    labels = [2 - int(Path(path).stem) % 3 for path in data.train.images.paths]
    assert data.train.labels.tolist() == labels


def test_names_are_numbered_in_their_order_and_stay_apart(top):
    assert listing(written(top, lines(*["b", "B", "b."] * 10))).class_names == ("B", "b", "b.")


def test_integers_get_the_names_of_a_classes_txt_beside_the_listing(top):
    written(top, "dog\r\n\n golden retriever \ncät\n", "classes.txt")
    data = listing(written(top, lines(*[2, 1, 0] * 10)))
    assert data.class_names == ("dog", "golden retriever", "cät")
    assert data.train.labels[0] == 2 - int(Path(data.train.images.paths[0]).stem) % 3


def test_names_need_no_classes_txt_but_a_file_of_classes_decides_their_order(top):
    file = written(top, lines(*["cat", "dog"] * 15))
    written(top, "something\nelse\n", "classes.txt")
    assert listing(file).class_names == ("cat", "dog")
    assert listing(file, classes=written(top, "dog\ncat\n", "order.txt")).class_names == ("dog", "cat")


def test_a_class_of_the_file_without_a_picture_is_refused(top):
    written(top, "cat\ndog\neel\n", "classes.txt")
    assert refused(written(top, lines(*[0, 1] * 15))) == (
        f"{top / 'list.txt'}: 1 of 3 classes have no picture: eel; add some, or take these classes out"
    )


def test_labels_of_two_kinds_are_refused_the_rarer_of_them(top):
    assert problems(top, lines(0, 1, "cat", 1, "dog")) == [
        "list.txt:3: the label 'cat' is a name, but 3 others are integers",
        "list.txt:5: the label 'dog' is a name, but 3 others are integers",
    ]
    assert problems(top, lines("cat", "dog", "7", "dog")) == [
        "list.txt:3: the label '7' is an integer, but 3 others are names"
    ]


@pytest.mark.parametrize("label", ["-1", "+1", "0.5", "1.", ".5", "1e3", "-2E-7", "1234567890"])
def test_numbers_that_number_no_class_are_refused(top, label):
    message = f"list.txt:3: the label {label!r} is neither a name nor an integer from 0 to 999,999,999"
    assert problems(top, lines(0, 1, label)) == [message]


@pytest.mark.parametrize("label", ["3d", "e5", "1-2", "n01440764", "-", "१२"])
def test_names_may_hold_digits(top, label):
    assert listing(written(top, lines(*["cat", label] * 15))).class_names == tuple(sorted(["cat", label]))


def test_labels_that_the_classes_do_not_have_are_refused(top):
    written(top, "cat\ndog\n", "classes.txt")
    assert problems(top, lines(0, 1, 2, 0)) == ["list.txt:3: the label '2' is beyond the 2 classes that have names"]
    assert problems(top, lines("cat", "dgo", "dog"), classes=top / "classes.txt") == [
        "list.txt:2: the label 'dgo' is none of the 2 classes"
    ]
    assert problems(top, lines("cat", "doge", "dog"), classes=top / "classes.txt") == [
        "list.txt:2: the label 'doge' is none of the 2 classes (did you mean dog?)"
    ]


def test_one_path_with_two_labels_is_refused(top):
    assert problems(top, "0.png 1\n1.png 0\n./0.png 1\nx/../0.png 0\n") == [
        f"list.txt:4: {top / '0.png'} has the label 0, but 1 in list.txt:1"
    ]


def test_one_class_is_refused(top):
    assert refused(written(top, lines(*[7] * 9))) == (
        f"{top / 'list.txt'}: a classifier needs two classes or more, and there is only one, 7 (9 pictures)"
    )


def test_a_class_with_one_picture_is_refused(top):
    assert "1 of 3 classes have fewer pictures than there are splits, 3: eel (1)" in refused(
        written(top, lines(*["cat", "dog"] * 10, "eel"))
    )


@pytest.mark.parametrize(("text", "held"), [("", "none"), ("\n \n", "none"), ("a\nb\na\n", "a more than once")])
def test_a_file_of_classes_must_name_each_once(top, text, held):
    file = written(top, text, "classes.txt")
    message = f"{file} must name each class once, one a line, and names {held}"
    assert refused(written(top, lines(0, 1))) == message


# --- several listings ---


def test_a_listing_of_the_validation_split_serves_as_test_too(top):
    train, validation = written(top, lines(*[0, 1] * 10)), written(top, "20.png 0\n21.png 1\n22.png 1\n", "val.txt")
    data = listing(train, validation)
    assert (len(data.train), len(data.validation), data.test is data.validation) == (20, 3, True)
    assert data.validation.images.paths == tuple(str(top / f"{number}.png") for number in (20, 21, 22))
    assert data.validation.labels.tolist() == [0, 1, 1]
    assert data.notes == ("a listing of a test split is missing: the validation split serves as test too",)


def test_three_listings_are_the_three_splits_in_their_order(top):
    texts = {"a.txt": "3.png x\n1.png y\n", "b.txt": "2.png y\n", "c.txt": "0.png x\n"}
    data = listing(*(written(top, text, name) for name, text in texts.items()))
    assert paths(data) == ["3.png", "1.png", "2.png", "0.png"]
    assert data.notes == ("validation has no picture of x", "test has no picture of y")


def test_listings_may_lie_in_different_folders(top):
    for number in range(4):
        picture(top / "other" / f"o{number}.png")
    train = written(top, lines(0, 1))
    data = listing(train, written(top / "other", lines(0, 1, name="o{}.png"), "val.txt"))
    assert data.validation.images.paths[0] == str(top / "other" / "o0.png")


def test_a_listing_of_the_test_split_needs_one_of_the_validation_split(top):
    message = "a listing of the test split needs one of the validation split too"
    assert refused(written(top, lines(0, 1)), test=top / "list.txt") == message


def test_labels_of_all_listings_must_fit_together(top):
    train, validation = written(top, lines("cat", "dog", "cat")), written(top, "0.png 3\n", "val.txt")
    assert refused(train, validation).splitlines() == [
        f"{train}, {validation}: 2 lines cannot be used:",
        "  val.txt:1: the label '3' is an integer, but 3 others are names",
        f"  val.txt:1: {top / '0.png'} has the label 3, but cat in list.txt:1",
    ]


def test_a_class_that_train_lacks_is_refused(top):
    message = refused(written(top, lines(0, 1)), written(top, "2.png 2\n", "val.txt"))
    assert "train has no example of 1 of 3 classes: 2 (2)" in message


def test_a_validation_split_whose_pictures_are_all_bad_is_refused(top):
    message = refused(written(top, lines(*[0, 1] * 10)), written(top, "gone.png 0\n", "val.txt"))
    assert "validation has no examples\n  test has no examples" in message


def test_the_same_pictures_in_two_listings_are_noted(top):
    data = listing(written(top, lines(*[0, 1] * 10)), written(top, "4.png 0\n21.png 1\n", "val.txt"))
    assert data.notes[-1].splitlines() == [
        "1 pictures are identical in two splits, whose numbers are then not independent:",
        f"  {top / '4.png'} (train) = {top / '4.png'} (validation)",
    ]


# --- what is not a listing ---


def test_a_listing_that_cannot_be_read_is_refused(top):
    cure = "give a file of lines `path label`"
    assert refused(top / "no.txt") == f"{top / 'no.txt'} cannot be read (No such file or directory); {cure}"
    assert refused(top) == f"{top} cannot be read (Is a directory); {cure}"
    assert refused(top / "0.png") == f"{top / '0.png'} is not a text; {cure}, in UTF-8"
    assert refused(written(top, "# nothing\n\n")) == f"{top / 'list.txt'} has no lines `path label`"
    (top / "utf16.txt").write_text(lines(0, 1), "utf-16")
    assert refused(top / "utf16.txt").startswith(f"{top / 'utf16.txt'} is not a text")


def test_options_are_those_of_a_folder(top, tmp_path_factory):
    index = tmp_path_factory.mktemp("index") / "index.json"
    file = written(top, lines(*[0, 1] * 15))
    options = {"split": "digest", "proportions": (1, 1, 1), "resize": "plain", "index": index}
    data = listing(file, **options)
    assert index.exists()
    assert data.train.images.resize == "plain"
    before = set(paths(data)[: len(data.train)])
    picture(top / "30.png")
    after = listing(written(top, lines(*[0, 1] * 15, 0)), seed=5, **options)
    assert before <= set(paths(after)[: len(after.train)])
    (top / "3.png").write_bytes(b"")
    assert "1 of 31 pictures cannot be used, more than `most_bad=0`:" in refused(file, most_bad=0)


# --- real pictures ---


def test_cats_and_dogs(real_data, tmp_path):
    root = real_data("cats_dogs/train")
    names = sorted(path.name for path in root.glob("*.jpg"))[::20]
    file = written(tmp_path, "".join(f"{name} {name.split('.')[0]}\n" for name in names))
    data = listing(file, root=root, size=(150, 150))
    assert data.class_names == ("cat", "dog")
    assert data.train.images[:4].shape == (4, 150, 150, 3)
    assert data.train.images.digest(0) == decoding.sha256(Path(data.train.images.paths[0]).read_bytes())
