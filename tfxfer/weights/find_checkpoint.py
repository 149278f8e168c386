"""Find the checkpoint that a path means: a prefix, a directory, or one of the files of a checkpoint.

`Saver.save(sess, "model/")` writes `model/.index`: the prefix is `model/`, without a stem. No Path ends in a slash, so
such a prefix is a str; all others are Paths. `f"{prefix}.index"` is right for both.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PureWindowsPath

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.formats.leveldb import MAGIC
from tfxfer.weights import identify

STATE = "checkpoint"  # the file in which `tf.train.Saver` notes the latest prefix
PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_SHARD = re.compile(r"-(\?{5}|\d{5})-of-(\d{5})$")
_STEP = re.compile(r"(.*)-(\d+)$")
_GRAPHS = ("saved_model.pb", "saved_model.pbtxt")  # of a SavedModel
_LATEST = re.compile(r"""(?<!\w)model_checkpoint_path\s*:\s*("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')""")


Prefix = Path | str


def find_prefix(path: Prefix) -> Prefix:
    """Return the prefix that `tf.train.Saver.restore` takes.

    Args:
      path: the prefix itself (in format V1 the file, or `PREFIX-?????-of-00002` for its shards); one of the files
        `.index`, `.data-00000-of-00001` and `.meta`; the text file `checkpoint`; or a directory, which means the latest
        that its file `checkpoint` names, or without that file its only checkpoint, or the one with the highest step
        where all names are `STEM-STEP` with one stem.

    Raises:
      WeightsError: no checkpoint is found, or several that nothing tells apart.
    """
    whole = _whole(path)
    if is_v2(path):
        return path
    path = Path(path)
    if whole != path and (is_v2(whole) or v1_parts(whole)):
        return find_prefix(whole)
    if _is_state(path):
        return _latest(path)
    if reading.is_directory(path):
        return _latest(path / STATE) if reading.exists(path / STATE) else _only(path)
    if parts := v1_parts(path):
        return path if parts == [path] else path.with_name(f"{_SHARD.sub('', path.name)}-?????-of-{len(parts):05d}")
    raise WeightsError(_nothing_at(path))


def prefix(text: str) -> Prefix:
    """Return the prefix that a text means: a Path, or the text itself where it ends in a slash."""
    return text if text.endswith("/") else Path(text)


def is_part(path: Prefix) -> bool:
    """Say whether a file leads to a checkpoint beside it."""
    whole = _whole(path)
    return is_v2(path) or _is_state(Path(path)) or (whole != path and (is_v2(whole) or bool(v1_parts(whole))))


def is_v2(prefix: Prefix) -> bool:
    """Say whether a checkpoint of format V2 lies under this prefix."""
    return bool(isinstance(prefix, str) or prefix.name) and reading.exists(Path(f"{prefix}.index"))


def v1_parts(prefix: Prefix) -> list[Path]:
    """List the files of a checkpoint of format V1: one, or all its shards; none where the checkpoint does not exist."""
    if isinstance(prefix, str) or not prefix.name or PART.search(prefix.name):
        return []
    if reading.tail(prefix, 8) == MAGIC and not _SHARD.search(prefix.name):
        return [prefix]
    stem = re.escape(_SHARD.sub("", prefix.name))
    shards = [name for name in reading.siblings(prefix.parent) if re.fullmatch(stem + _SHARD.pattern, name)]
    found = [prefix.with_name(name) for name in shards]
    whole = {int(name[-5:]) for name in shards} == {len(shards)}
    return found if whole and all(reading.tail(part, 8) == MAGIC for part in found) else []


def found_in(directory: Path) -> list[str]:
    """List the prefixes of the checkpoints in a directory, of format V2 or else V1, by name; one may be empty."""
    everything = reading.siblings(directory)
    indexed = [name.removesuffix(".index") for name in everything if name.endswith(".index")]
    likely = {_SHARD.sub("", name) for name in everything if reading.tail(directory / name, 8) == MAGIC}
    return indexed or sorted(stem for stem in likely if v1_parts(directory / stem))


def _latest(state: Path) -> Prefix:
    # The path may be absolute and of another machine: the directory that was copied holds the checkpoint all the same.
    text = reading.head(state, 1 << 20).decode("utf-8", "replace")
    found = _LATEST.search(text)
    if not found:
        raise WeightsError(f'{state} names no checkpoint: it has no line model_checkpoint_path: "..."')
    noted = found[1][1:-1]
    for place in _places(noted, str(state.parent)):
        candidate = prefix(place)
        if is_v2(candidate) or (candidate != state.parent and v1_parts(candidate)):
            return candidate if is_v2(candidate) else find_prefix(candidate)
    there = names.listed(name or "./" for name in found_in(state.parent)) or "no checkpoint"
    raise WeightsError(
        f"{state} names {_unescaped(noted)} as the latest checkpoint, which does not exist; beside it there is {there}"
    )


def _places(noted: str, beside: str) -> list[str]:
    """List where a checkpoint may lie that a state file in the folder `beside` names.

    Windows writes backslashes, single ones where somebody edited the file. A dot is the checkpoint without a stem.
    """
    places = []
    texts = [_unescaped(noted), noted]
    for text in dict.fromkeys([*texts, *(text.replace("\\", "/") for text in texts)]):
        path = "" if text == "." else text
        elsewhere = os.path.isabs(path) or PureWindowsPath(path).is_absolute()
        here, there = os.path.join(beside, os.path.basename(path)), os.path.join(beside, path)
        places += [here, there] if elsewhere else [there, here]
    return places


def _only(directory: Path) -> Prefix:
    found = found_in(directory)
    if len(found) == 1:
        return find_prefix(prefix(os.path.join(directory, found[0])))
    steps = [_STEP.fullmatch(name) for name in found]
    if found and len({match[1] if match else None for match in steps}) == 1 and all(steps):
        return find_prefix(directory / max(found, key=lambda name: int(name.rpartition("-")[2])))
    if found:
        raise WeightsError(
            f"{directory} holds several checkpoints and no file `checkpoint` that names the latest: "
            f"{names.listed(name or './' for name in found)}; give one of them"
        )
    if exports := [name for name in reading.siblings(directory) if is_saved_model(directory / name)]:
        newest = max(exports, key=lambda name: (name.isdecimal() and int(name), name))
        raise WeightsError(
            f"{directory} holds no checkpoint, but a SavedModel in {names.listed(exports)}; give {directory / newest}"
        )
    if foreign := identify.folder(directory):
        raise WeightsError(f"{directory} holds no weights that tfxfer reads: it is {foreign}")
    inside = names.listed(reading.siblings(directory)) or "nothing"
    raise WeightsError(f"{directory} holds no checkpoint (no file `checkpoint`, no *.index); it holds {inside}")


def _unescaped(text: str) -> str:
    # Protobuf's text format escapes bytes as octal numbers: a UTF-8 path comes as \303\251.
    def byte(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code, 8) & 255) if code.isdigit() else {"n": "\n", "r": "\r", "t": "\t"}.get(code, code)

    if "\\" not in text:
        return text
    plain = re.sub(r"\\([0-7]{1,3}|.)", byte, text)
    try:
        return plain.encode("latin-1").decode()
    except UnicodeError:
        return plain


def is_saved_model(path: Path) -> bool:
    """Say whether the path is a SavedModel directory, or the graph in one."""
    return any(reading.exists(path / graph) for graph in _GRAPHS) or (path.name in _GRAPHS and reading.exists(path))


def _whole(path: Prefix) -> Prefix:
    return prefix(PART.sub("", str(path)) or "./")


def _is_state(path: Path) -> bool:
    return b"model_checkpoint_path" in reading.head(path, 1024)


def _nothing_at(path: Path) -> str:
    if reading.exists(path):
        lone = "; the .index file of the checkpoint is not beside it" if _whole(path) != path else ""
        return f"{path} is not a checkpoint: it is {identify.describe(path)}{lone}"
    data = [name for name in reading.siblings(path.parent) if name.startswith(f"{path.name}.data-")]
    if data:
        return f"{path}.index is missing; only {names.listed(data)} is there, which does not say what it holds"
    beside = [*found_in(path.parent), *reading.siblings(path.parent)]
    there = f"{path.parent} holds {names.listed(beside)}" if beside else f"there is nothing in {path.parent} either"
    return f"{path} is neither a file nor a checkpoint{names.did_you_mean(path.name, beside)}; {there}"
