"""Splits: held, divided, thinned out, checked."""

import re
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from tfxfer.data import Data, Split
from tfxfer.data.splits import check, labels_outside, make_folds, stratified
from tfxfer.errors import DataError


def split_of(labels, shape=(4, 4, 1)):
    labels = np.asarray(labels, np.int64)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones(shape, np.uint8)
    return Split(images, labels)


def data_of(labels, class_names=("cat", "dog", "eel")):
    return Data(split_of(labels), split_of([0, 1, 2]), split_of([2, 1, 0, 0]), class_names)


LABELS = np.repeat(np.arange(3), [60, 30, 10])


def test_a_split_has_the_length_of_its_images():
    assert len(split_of([0, 1, 1])) == 3
    assert len(Split(np.zeros((5, 2, 2, 3), np.uint8))) == 5


def test_take_gives_the_examples_asked_for_in_that_order():
    taken = split_of([0, 1, 2, 1]).take(np.array([3, 0, 3]))
    assert taken.images[:, 0, 0, 0].tolist() == [3, 0, 3]
    assert taken.labels.tolist() == [1, 0, 1]


def test_take_works_without_labels():
    taken = Split(np.zeros((5, 2, 2, 3), np.uint8)).take(np.array([1, 2]))
    assert len(taken) == 2
    assert taken.labels is None


def test_take_asks_the_images_for_nothing_but_the_indices():
    class Decoded:
        shape, dtype = (3, 2, 2, 3), np.dtype(np.uint8)

        def __len__(self):
            return 3

        def __getitem__(self, indices):
            return np.full((len(indices), 2, 2, 3), 9, np.uint8)

    assert Split(Decoded(), np.array([0, 1, 2])).take(np.array([2, 0])).images.shape == (2, 2, 2, 3)


def test_a_split_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        split_of([0]).labels = None


# few


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 2**32 - 1), st.data())
def test_few_takes_as_many_as_asked_and_of_every_class(counts, seed, draw):
    labels = np.repeat(np.arange(len(counts)), counts)
    examples = draw.draw(st.integers(len(counts), len(labels)))
    few = data_of(labels, tuple("abcdef"[: len(counts)])).few(examples, seed).train
    assert len(few) == len(few.labels) == len(np.unique(few.images[:, 0, 0, 0])) == examples
    assert set(few.labels) == set(labels)
    assert np.array_equal(few.labels, labels[few.images[:, 0, 0, 0]])


@given(st.integers(0, 2**32 - 1), st.integers(3, 100))
def test_few_takes_each_class_at_its_share(seed, examples):
    taken = np.bincount(data_of(LABELS).few(examples, seed).train.labels)
    assert np.all(np.abs(taken - examples * np.array([0.6, 0.3, 0.1])) < 2)


def test_few_is_decided_by_its_seed():
    first, again, other = (data_of(LABELS).few(20, seed).train.images[:, 0, 0, 0].tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_smaller_few_is_part_of_a_larger():
    small, large = (set(data_of(LABELS).few(n, 5).train.images[:, 0, 0, 0]) for n in (12, 40))
    assert small < large


def test_few_leaves_validation_and_test_alone():
    data = data_of(LABELS)
    few = data.few(10, 0)
    assert few.validation is data.validation
    assert few.test is data.test
    assert few.class_names is data.class_names


def test_few_of_all_is_all():
    assert data_of(LABELS).few(100, 3).train.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("examples", [-1, 0, 2, 101])
def test_few_refuses_fewer_than_the_classes_and_more_than_there_are(examples):
    message = rf"cannot take {examples} training examples of 100 in 3 classes; ask for 3 \(one a class\) to 100 \(all\)"
    with pytest.raises(DataError, match=message):
        data_of(LABELS).few(examples, 0)


def test_few_refuses_a_train_split_without_labels():
    with pytest.raises(DataError, match="train has no labels, so no stratified subset"):
        replace(data_of(LABELS), train=Split(np.zeros((9, 4, 4, 1), np.uint8))).few(5, 0)


# folds


def test_the_folds_are_scikit_learns():
    wanted = StratifiedKFold(5, shuffle=True, random_state=7).split(LABELS, LABELS)
    for (train, fold), (theirs, their_fold) in zip(make_folds(LABELS, 5, 7, "abc"), wanted, strict=True):
        assert (train.tolist(), fold.tolist()) == (theirs.tolist(), their_fold.tolist())


@pytest.mark.parametrize(
    ("labels", "folds", "rest", "message"),
    [
        ([0] * 3 + [1] * 4, 5, 1, r"`folds=5`: give 2 to 3, for the classes with fewer examples: a \(3\), b \(4\)$"),
        ([0] * 3 + [1] * 4, 2, 2, r"`folds=2`: give 3$"),
        ([0] * 5 + [1] * 9, 6, 2, r"`folds=6`: give 2 to 5, for the classes with fewer examples: a \(5\)$"),
        ([0] * 3 + [1] * 3, 1, 1, r"`folds=1`: give 2 to 3$"),
        ([0] * 3, 2, 1, "all 3 examples are of one class; there must be 2 or more"),
        ([0] * 3 + [1], 2, 1, r"folds need 2 examples of each class or more; add some of b \(1\), or leave it out"),
        ([0] * 3 + [1] * 2, 2, 2, r"folds need 3 examples of each class or more; add some of b \(2\), or leave it out"),
    ],
)
def test_folds_that_cannot_be_are_refused_with_the_numbers_that_can(labels, folds, rest, message):
    with pytest.raises(DataError, match=message):
        make_folds(np.array(labels), folds, 0, "ab", rest=rest)


@given(st.lists(st.integers(3, 20), min_size=2, max_size=5), st.integers(2, 20), st.integers(0, 2**32 - 1))
def test_each_example_is_tested_once_and_every_class_is_trained_on_in_each_fold(counts, folds, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    third = len(labels) // 3
    cuts = (slice(0, third), slice(third, 2 * third), slice(2 * third, None))
    images = split_of(labels).images
    data = Data(*[Split(images[cut], labels[cut]) for cut in cuts], class_names=tuple("abcde"[: len(counts)]))
    try:
        parts = data.folds(folds, seed)
    except DataError as error:
        [low, *high] = re.findall(r"give (\d+)(?: to (\d+))?", str(error))[0]
        assert not int(low) <= folds <= int(high[0] or low)
        parts = data.folds(int(low), seed)
    tested = np.concatenate([part.test.images[:, 0, 0, 0] for part in parts])
    assert np.array_equal(np.sort(tested), np.arange(len(labels)))
    for part in parts:
        check(part)
        seen = np.concatenate([split.images[:, 0, 0, 0] for split in (part.train, part.validation, part.test)])
        assert np.array_equal(np.sort(seen), np.arange(len(labels)))
        assert np.array_equal(part.train.labels, labels[part.train.images[:, 0, 0, 0]])


def test_the_shares_of_a_fold_are_those_of_the_classes_and_a_ninth_of_the_rest_validates():
    part = data_of(LABELS).folds(5, 0)[2]
    shares = [np.bincount(split.labels).tolist() for split in (part.train, part.validation, part.test)]
    assert np.sum(shares, axis=0).tolist() == [63, 32, 12]  # of all three splits
    assert np.all(np.abs(np.array(shares[2]) - np.array([63, 32, 12]) / 5) < 1)
    assert 9 <= sum(shares[1]) <= 10
    assert np.all(np.abs(np.array(shares[1]) - np.array(shares[0]) / 8) < 1)


def test_a_test_that_is_given_stays_out_also_where_it_validates_too():
    data = replace(data_of(LABELS), fixed_test=True)
    for part in data.folds(4, 0):
        assert sum(map(len, (part.train, part.validation, part.test))) == 103
        assert part.fixed_test
    second = split_of([0, 1, 2])
    for fixed, size in ((True, 100), (False, 103)):
        part = Data(split_of(LABELS), second, second, ("cat", "dog", "eel"), fixed_test=fixed).folds(4, 0)[0]
        assert sum(map(len, (part.train, part.validation, part.test))) == size


def test_folds_are_decided_by_their_seed():
    first, again, other = (data_of(LABELS).folds(3, seed)[0].test.labels.tolist() for seed in (1, 1, 2))
    assert first == again
    tests = [[part.test.images[:, 0, 0, 0].tolist() for part in data_of(LABELS).folds(3, seed)] for seed in (1, 2)]
    assert tests[0] != tests[1]
    assert len(other) == len(first)


def test_folds_of_what_has_no_labels_or_has_features_are_refused():
    with pytest.raises(DataError, match="the examples have no labels, so no stratified folds"):
        replace(data_of(LABELS), test=Split(np.zeros((9, 4, 4, 1), np.uint8))).folds(3, 0)
    computed = Split(np.zeros((9, 4, 4, 1), np.uint8), np.arange(9) % 3, {"pool": np.zeros((9, 2))})
    with pytest.raises(
        DataError, match="there are features that were computed from the examples already; divide these"
    ):
        replace(data_of(LABELS), test=computed).folds(3, 0)


# stratified


def test_stratified_parts_have_each_class_at_its_share():
    parts = stratified(LABELS, (8, 1, 1), seed=0)
    assert [np.bincount(LABELS[part]).tolist() for part in parts] == [[48, 24, 8], [6, 3, 1], [6, 3, 1]]


@given(
    st.lists(st.integers(3, 30), min_size=1, max_size=5),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(0, 2**32 - 1),
)
def test_stratified_parts_are_disjoint_and_leave_nothing_out(counts, proportions, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    assume(len(labels) * min(proportions) / sum(proportions) >= len(counts) + 1)
    parts = stratified(labels, proportions, seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    for part, proportion in zip(parts, proportions, strict=True):
        assert part.dtype == np.int64
        assert np.all(np.diff(part) > 0)
        assert abs(len(part) - len(labels) * proportion / sum(proportions)) <= 1


def test_sizes_that_add_up_are_met_exactly():
    assert [len(part) for part in stratified(LABELS, (71, 13, 16), seed=0)] == [71, 13, 16]


def test_fractions_ratios_and_sizes_mean_the_same():
    fractions, ratios, sizes = (stratified(LABELS, p, seed=4) for p in ((0.8, 0.1, 0.1), (8, 1, 1), (80, 10, 10)))
    assert [part.tolist() for part in fractions] == [part.tolist() for part in ratios]
    assert [part.tolist() for part in fractions] == [part.tolist() for part in sizes]


def test_stratified_is_decided_by_its_seed():
    first, again, other = (stratified(LABELS, (8, 1, 1), seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_stratified_takes_class_names_as_labels():
    parts = stratified(np.array(["cat", "dog"] * 10), (1, 1), seed=0)
    assert [len(part) for part in parts] == [10, 10]


def test_stratified_splits_classes_that_have_just_one_example_a_part():
    parts = stratified(np.array([0] * 40 + [1] * 3), (34, 5, 4), seed=0)
    assert 1 in np.array([0] * 40 + [1] * 3)[parts[0]]


@pytest.mark.parametrize(
    ("proportions", "message"),
    [
        ((98, 2), r"cannot split 100 examples of 3 classes into 98 \+ 2: each part needs room for every class"),
        ((110, -10), r"cannot split 100 examples of 3 classes into 110 \+ -10"),
        ((1, 0), r"into 100 \+ 0: each part"),
        ((), r"proportions \(\) add up to 0; they must be positive, as in \(8, 1, 1\)"),
    ],
)
def test_stratified_refuses_parts_too_small_for_the_classes(proportions, message):
    with pytest.raises(DataError, match=message):
        stratified(LABELS, proportions, seed=0)


def test_stratified_names_every_class_with_too_few_examples():
    labels = np.repeat(["cat", "dog", "eel"], [40, 1, 2])
    message = r"into 3 parts, for 2 of 3 classes have fewer examples: dog \(1\), eel \(2\); add some, or leave"
    with pytest.raises(DataError, match=message):
        stratified(labels, (8, 1, 1), seed=0)


def test_stratified_refuses_no_examples_and_a_wrong_seed():
    with pytest.raises(DataError, match="cannot split 0 examples of 0 classes"):
        stratified(np.empty(0, np.int64), (8, 1, 1), seed=0)
    with pytest.raises(DataError, match="`seed=-1` is out of range"):
        stratified(LABELS, (8, 1, 1), seed=-1)


# check


def test_check_accepts_good_data_with_and_without_labels():
    data = data_of(LABELS)
    check(data)
    check(Data(*(Split(split.images) for split in (data.train, data.validation, data.test)), ()))


def changed(**splits):
    return replace(data_of(LABELS), **splits)


BAD = {
    "images that are not bytes": (
        changed(test=Split(np.zeros((4, 4, 4, 1), np.float32), np.zeros(4, np.int64))),
        "test.images is float32 (4, 4, 4, 1), not uint8 [n, height, width, channels]",
    ),
    "images without channels": (
        changed(test=Split(np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.int64))),
        "test.images is uint8 (4, 4, 4), not uint8 [n, height, width, channels]",
    ),
    "images of several shapes": (
        changed(validation=split_of([0, 1], shape=(5, 4, 1))),
        "images differ in shape among the splits: train (4, 4, 1), validation (5, 4, 1), test (4, 4, 1); resize them",
    ),
    "an empty split": (changed(validation=split_of([])), "validation has no examples"),
    "counts that disagree": (
        changed(test=replace(split_of([0, 1, 2]), labels=np.zeros(2, np.int64))),
        "test has 3 images, but 2 labels",
    ),
    "labels of another dtype": (
        changed(test=replace(split_of([0, 1]), labels=np.zeros(2, np.int32))),
        "test.labels is int32 (2,), not int64 [n]; convert it with labels.astype(np.int64)",
    ),
    "labels in one-hot form": (
        changed(test=replace(split_of([0, 1]), labels=np.eye(2, 3, dtype=np.int64))),
        "test.labels is int64 (2, 3), not int64 [n]",
    ),
    "train labels of no shape": (
        changed(train=replace(split_of([0]), labels=np.float64(1))),
        "train.labels is float64 (), not int64 [n]",
    ),
    "labels out of range": (
        changed(validation=split_of([0, 1, 3, 2, -1])),
        "validation.labels: 2 of 5 labels are outside 0..2, the first at index 2: 3",
    ),
    "labels without class names": (
        replace(data_of(LABELS), class_names=()),
        "train.labels: 100 of 100 labels are without a class: no class has a name, the first at index 0: 0",
    ),
    "empty classes": (
        changed(train=split_of([1, 1, 1])),
        "train has no example of 2 of 3 classes: 0 (cat), 2 (eel)",
    ),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD.keys())
def test_check_refuses(data, message):
    with pytest.raises(DataError, match=re.escape(f"the data cannot be used:\n  {message}")):
        check(data)


def test_check_lists_all_problems_at_once():
    data = changed(train=split_of([0, 1, 7]), test=Split(np.zeros((0, 4, 4, 1), np.uint8)))
    with pytest.raises(DataError) as caught:
        check(data)
    assert str(caught.value).splitlines() == [
        "the data cannot be used:",
        "  train.labels: 1 of 3 labels are outside 0..2, the first at index 2: 7",
        "  test has no examples",
        "  train has no example of 1 of 3 classes: 2 (eel)",
    ]


def test_labels_that_are_all_classes_are_not_outside():
    assert labels_outside(np.array([0, 9]), 10) == ""
