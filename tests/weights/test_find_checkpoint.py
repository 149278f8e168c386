"""Which checkpoint a path means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests import tables
from tfxfer.errors import WeightsError
from tfxfer.weights import bundle, find_checkpoint, open_weights

TABLE = tables.table(tables.block([(b"", tables.field(1, 1))]))


def v2(prefix: Path) -> Path:
    """Put the files of a V2 checkpoint there."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    for end in (".index", ".data-00000-of-00001", ".meta"):
        prefix.with_name(prefix.name + end).write_bytes(TABLE if end == ".index" else b"\x0a\x02\x12\x00")
    return prefix


def state(directory: Path, text: str, name: str = "checkpoint") -> Path:
    """Write the file that names the latest checkpoint."""
    (directory / name).write_text(text, "utf-8")
    return directory


def test_a_prefix_and_each_of_its_files_mean_the_checkpoint(tmp_path):
    prefix = v2(tmp_path / "model.ckpt-100")
    for end in ("", ".index", ".data-00000-of-00001", ".meta"):
        assert bundle.find_prefix(Path(f"{prefix}{end}")) == prefix


def test_a_directory_means_the_latest_that_its_state_names(tmp_path):
    v2(tmp_path / "model.ckpt-100")
    v2(tmp_path / "model.ckpt-200")
    for text in (
        'model_checkpoint_path: "model.ckpt-100"\nall_model_checkpoint_paths: "model.ckpt-200"\n',
        "model_checkpoint_path: 'model.ckpt-100'",
        f'all_model_checkpoint_paths: "model.ckpt-200"\nmodel_checkpoint_path: "{tmp_path}/model.ckpt-100"\n',
        'model_checkpoint_path: "/home/somebody/else/model.ckpt-100"\n',
        'model_checkpoint_path: "runs/old/model.ckpt-100"\n',
    ):
        state(tmp_path, text)
        assert bundle.find_prefix(tmp_path) == tmp_path / "model.ckpt-100"
        assert bundle.find_prefix(tmp_path / "checkpoint") == tmp_path / "model.ckpt-100"


def test_a_state_may_have_another_name_and_point_into_another_directory(tmp_path):
    prefix = v2(tmp_path / "best" / "m")
    state(tmp_path, 'model_checkpoint_path: "best/m"', name="best.latest")
    assert bundle.find_prefix(tmp_path / "best.latest") == prefix
    state(tmp_path, f'model_checkpoint_path: "{prefix}"')
    (tmp_path / "elsewhere").mkdir()
    state(tmp_path / "elsewhere", f'model_checkpoint_path: "{prefix}"')
    assert bundle.find_prefix(tmp_path / "elsewhere") == prefix


def test_a_copied_directory_means_its_own_checkpoint_even_where_the_old_one_still_exists(tmp_path):
    old, new = v2(tmp_path / "old" / "m-1"), v2(tmp_path / "new" / "m-1")
    state(new.parent, f'model_checkpoint_path: "{old}"')
    assert bundle.find_prefix(new.parent) == new


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (r"mod\303\251le-1", "modéle-1"),
        (r"a\"b", 'a"b'),
        (r"a\\b", "a\\b"),
        (r"a\tb", "a\tb"),
        ("plain é", "plain é"),
        (r"caf\351", "caf\xe9"),
    ],
)
def test_names_in_a_state_may_be_escaped(tmp_path, text, name):
    prefix = v2(tmp_path / name)
    state(tmp_path, f'model_checkpoint_path: "{text}"')
    assert bundle.find_prefix(tmp_path) == prefix


def test_a_directory_without_a_state_means_its_only_checkpoint_or_the_highest_step(tmp_path):
    v2(tmp_path / "model.ckpt-9")
    assert bundle.find_prefix(tmp_path) == tmp_path / "model.ckpt-9"
    v2(tmp_path / "model.ckpt-100")
    assert bundle.find_prefix(tmp_path) == tmp_path / "model.ckpt-100"
    v2(tmp_path / "other-1000")
    with pytest.raises(WeightsError) as caught:
        bundle.find_prefix(tmp_path)
    assert "holds several checkpoints and no file `checkpoint` that names the latest" in str(caught.value)
    assert "model.ckpt-100, model.ckpt-9, other-1000; give one of them" in str(caught.value)


def test_what_is_missing_is_named_with_what_is_there(tmp_path):
    v2(tmp_path / "model.ckpt-100")
    with pytest.raises(
        WeightsError, match=r"/model\.ckpt-10 is neither a file nor a checkpoint \(did you mean model\.ckpt-100\?\)"
    ):
        bundle.find_prefix(tmp_path / "model.ckpt-10")
    with pytest.raises(WeightsError, match=r"there is nothing in .*/nowhere either"):
        bundle.find_prefix(tmp_path / "nowhere" / "m")
    state(tmp_path, 'model_checkpoint_path: "model.ckpt-300"')
    with pytest.raises(
        WeightsError, match=r"names model\.ckpt-300 as the latest .* does not exist; beside it there is model\.ckpt-100"
    ):
        bundle.find_prefix(tmp_path)


def test_a_directory_without_a_checkpoint_is_told_with_what_it_holds(tmp_path):
    with pytest.raises(
        WeightsError, match=r"holds no checkpoint \(no file `checkpoint`, no \*\.index\); it holds nothing"
    ):
        bundle.find_prefix(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(WeightsError, match=r"it holds notes\.txt"):
        bundle.find_prefix(tmp_path)
    state(tmp_path, "nonsense: model_checkpoint_path")
    with pytest.raises(WeightsError, match="checkpoint names no checkpoint: it has no line model_checkpoint_path"):
        bundle.find_prefix(tmp_path)
    state(tmp_path, 'model_checkpoint_path: "."')
    with pytest.raises(WeightsError, match=r"which does not exist"):
        bundle.find_prefix(tmp_path)


def test_parts_without_their_index_are_named_as_such(tmp_path):
    prefix = v2(tmp_path / "m")
    (tmp_path / "m.index").unlink()
    for end in (".data-00000-of-00001", ".meta"):
        with pytest.raises(
            WeightsError, match=r"is not a checkpoint: .*; the \.index file of the checkpoint is not beside it"
        ):
            bundle.find_prefix(Path(f"{prefix}{end}"))
    with pytest.raises(WeightsError, match=r"m\.index is missing; only m\.data-00000-of-00001 is there"):
        bundle.find_prefix(prefix)


def test_paths_that_no_file_system_can_hold_are_refused(tmp_path):
    for name in ("a" * 5000, "a\0b"):
        with pytest.raises(WeightsError, match="neither a file nor a checkpoint"):
            bundle.find_prefix(tmp_path / name)


def test_a_file_of_format_v1_and_its_shards_are_found(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(TABLE)
    (tmp_path / "model.ckpt.meta").write_bytes(b"\x0a\x02\x12\x00")
    for path in (tmp_path / "model.ckpt", tmp_path / "model.ckpt.meta", tmp_path):
        assert bundle.find_prefix(path) == tmp_path / "model.ckpt"
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(2):
        (shards / f"export-0000{number}-of-00002").write_bytes(TABLE)
    pattern = shards / "export-?????-of-00002"
    state(shards, 'model_checkpoint_path: "export-?????-of-00002"')
    for path in (shards / "export", pattern, shards):
        assert bundle.find_prefix(path) == pattern
    assert [path.name for path in find_checkpoint.v1_parts(pattern)] == [
        "export-00000-of-00002",
        "export-00001-of-00002",
    ]
    (shards / "export-00001-of-00002").unlink()
    with pytest.raises(WeightsError, match="neither a file nor a checkpoint"):
        bundle.find_prefix(pattern)


def test_large_directories_are_searched_fast(tmp_path):
    import time

    for number in range(3000):
        (tmp_path / f"picture{number}.jpg").touch()
    start = time.process_time()
    with pytest.raises(WeightsError, match=r"it holds picture0\.jpg"):
        bundle.find_prefix(tmp_path)
    assert time.process_time() - start < 1


def saved(directory: Path, *steps: int) -> np.ndarray:
    """Save by TensorFlow to the paths DIRECTORY/model.ckpt-STEP, or without steps to DIRECTORY/ itself."""
    directory.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.Session() as sess:
        variable = tf.get_variable("fc/kernel", [3])
        sess.run(tf.global_variables_initializer())
        for path in [f"{directory}/model.ckpt-{step}" for step in steps] or [f"{directory}/"]:
            tf.train.Saver().save(sess, path)
        return sess.run(variable)


def test_a_checkpoint_without_a_stem_is_opened_by_all_its_paths(tmp_path):
    value = saved(tmp_path / "model")
    other = saved(tmp_path / "other")
    (tmp_path / "other" / "checkpoint").unlink()
    for folder, expected in (("model", value), ("other", other)):
        prefix = f"{tmp_path / folder}/"
        for path in (prefix, prefix[:-1], prefix + ".index", prefix + ".meta", prefix + ".data-00000-of-00001"):
            weights = open_weights(path)
            assert weights["fc/kernel"].tolist() == expected.tolist()
            assert weights.checkpoint == prefix
    with tf.Graph().as_default(), tf.Session() as sess:
        variable = tf.get_variable("fc/kernel", [3])
        tf.train.Saver().restore(sess, open_weights(tmp_path / "other").checkpoint)
        assert sess.run(variable).tolist() == other.tolist()


def test_a_checkpoint_without_a_stem_in_the_folder_where_one_works_is_opened_by_all_its_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = saved(Path("model"))
    assert 'model_checkpoint_path: "."' in Path("model/checkpoint").read_text()
    assert open_weights("model")["fc/kernel"].tolist() == value.tolist()
    monkeypatch.chdir("model")
    for path in (".", "./", ".index", "./.index", ".meta", ".data-00000-of-00001", "checkpoint"):
        weights = open_weights(path)
        assert weights["fc/kernel"].tolist() == value.tolist()
        assert weights.checkpoint == "./"


def test_a_state_whose_fields_share_a_line_or_follow_a_byte_order_mark_is_read(tmp_path):
    saved(tmp_path, 7, 6)
    paths = 'all_model_checkpoint_paths: "model.ckpt-6" model_checkpoint_path: "model.ckpt-7"'
    for text in (paths, '\ufeffmodel_checkpoint_path: "model.ckpt-7"'):
        state(tmp_path, text)
        assert open_weights(tmp_path).checkpoint == str(tmp_path / "model.ckpt-7")


def test_a_slash_at_the_end_means_the_checkpoint_without_a_stem_and_none_the_one_of_that_name(tmp_path):
    inside = saved(tmp_path / "model")
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.get_variable("beside", [])
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, str(tmp_path / "model"))
    assert list(open_weights(tmp_path / "model")) == ["beside"]
    assert open_weights(f"{tmp_path / 'model'}/")["fc/kernel"].tolist() == inside.tolist()


@pytest.mark.parametrize(
    "noted",
    [
        r"C:\\Users\\me\\model.ckpt-7",
        r".\\model.ckpt-7",
        r"\\\\server\\share\\model.ckpt-7",
        "C:/Users/me/model.ckpt-7",
        r"C:\Users\new\model.ckpt-7",
    ],
)
def test_a_state_that_was_written_on_windows_names_the_checkpoint_beside_it(tmp_path, noted):
    saved(tmp_path, 7, 6)
    state(tmp_path, f'model_checkpoint_path: "{noted}"\n')
    assert find_checkpoint.find_prefix(tmp_path) == tmp_path / "model.ckpt-7"


def test_a_state_of_windows_may_point_into_a_folder_below(tmp_path):
    saved(tmp_path / "save", 7)
    state(tmp_path, 'model_checkpoint_path: "save\\\\model.ckpt-7"\n')
    assert find_checkpoint.find_prefix(tmp_path) == tmp_path / "save" / "model.ckpt-7"


def test_a_prefix_may_begin_with_a_hyphen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, 1)
    for file in tmp_path.glob("model.ckpt-1.*"):
        file.rename(tmp_path / file.name.replace("model.ckpt", "-m"))
    assert list(open_weights("-m-1")) == ["fc/kernel"]


def test_a_folder_of_exports_says_which_path_to_give(tmp_path):
    for number in ("9", "10"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    with pytest.raises(WeightsError, match=r"holds no checkpoint, but a SavedModel in 10, 9; give .*/10$"):
        open_weights(tmp_path)
