"""Find the checkpoint that a path means: a prefix, a directory, or one of the files of a checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.weights import files, identify
from tfxfer.weights.leveldb import MAGIC

STATE = "checkpoint"  # the file in which `tf.train.Saver` notes the latest prefix
PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_SHARD = re.compile(r"-(\?{5}|\d{5})-of-(\d{5})$")
_STEP = re.compile(r"(.*)-(\d+)$")
_LATEST = re.compile(r"""^\s*model_checkpoint_path\s*:\s*("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')""", re.MULTILINE)


def find_prefix(path: Path) -> Path:
    """Return the prefix that `tf.train.Saver.restore` takes.

    Args:
      path: the prefix itself (in format V1 the file, or `PREFIX-?????-of-00002` for its shards); one of the files
        `.index`, `.data-00000-of-00001` and `.meta`; the text file `checkpoint`; or a directory, which means the latest
        that its file `checkpoint` names, or without that file its only checkpoint, or the one with the highest step
        where all names are `STEM-STEP` with one stem.

    Raises:
      WeightsError: there is no checkpoint, or there are several that nothing tells apart.
    """
    whole = _whole(path)
    if is_v2(path):
        return path
    if whole != path and (is_v2(whole) or v1_parts(whole)):
        return find_prefix(whole)
    if _is_state(path):
        return _latest(path)
    if files.is_directory(path):
        return _latest(path / STATE) if files.exists(path / STATE) else _only(path)
    if parts := v1_parts(path):
        return path if parts == [path] else path.with_name(f"{_SHARD.sub('', path.name)}-?????-of-{len(parts):05d}")
    raise WeightsError(_nothing_at(path))


def is_part(path: Path) -> bool:
    """Say whether a file leads to a checkpoint beside it."""
    whole = _whole(path)
    return is_v2(path) or _is_state(path) or (whole != path and (is_v2(whole) or bool(v1_parts(whole))))


def is_v2(prefix: Path) -> bool:
    """Say whether a checkpoint of format V2 lies under this prefix."""
    return bool(prefix.name) and files.exists(prefix.with_name(prefix.name + ".index"))


def v1_parts(prefix: Path) -> list[Path]:
    """List the files of a checkpoint of format V1: one, or all its shards; none where there is no such checkpoint."""
    if not prefix.name or PART.search(prefix.name):
        return []
    if files.tail(prefix, 8) == MAGIC and not _SHARD.search(prefix.name):
        return [prefix]
    stem = re.escape(_SHARD.sub("", prefix.name))
    shards = [name for name in files.siblings(prefix.parent) if re.fullmatch(stem + _SHARD.pattern, name)]
    found = [prefix.with_name(name) for name in shards]
    whole = {int(name[-5:]) for name in shards} == {len(shards)}
    return found if whole and all(files.tail(part, 8) == MAGIC for part in found) else []


def found_in(directory: Path) -> list[str]:
    """List the prefixes of the checkpoints in a directory, of format V2 or else V1, by name."""
    everything = files.siblings(directory)
    indexed = [name.removesuffix(".index") for name in everything if name.endswith(".index")]
    likely = {_SHARD.sub("", name) for name in everything if files.tail(directory / name, 8) == MAGIC}
    return indexed or sorted(stem for stem in likely if v1_parts(directory / stem))


def _latest(state: Path) -> Path:
    # The path may be absolute and of another machine: the directory that was copied holds the checkpoint all the same.
    text = files.head(state, 1 << 20).decode("utf-8", "replace")
    found = _LATEST.search(text)
    if not found:
        raise WeightsError(f'{state} names no checkpoint: it has no line model_checkpoint_path: "..."')
    noted = Path(_unescaped(found[1][1:-1]))
    here = state.parent / noted.name
    for prefix in (here, state.parent / noted) if noted.is_absolute() else (state.parent / noted, here):
        if prefix != state.parent and (is_v2(prefix) or v1_parts(prefix)):
            return prefix if is_v2(prefix) else find_prefix(prefix)
    there = names.listed(found_in(state.parent)) or "no checkpoint"
    raise WeightsError(
        f"{state} names {noted} as the latest checkpoint, which does not exist; beside it there is {there}"
    )


def _only(directory: Path) -> Path:
    found = found_in(directory)
    if len(found) == 1:
        return find_prefix(directory / found[0])
    steps = [_STEP.fullmatch(name) for name in found]
    if found and len({match[1] if match else None for match in steps}) == 1 and all(steps):
        return find_prefix(directory / max(found, key=lambda name: int(name.rpartition("-")[2])))
    if found:
        raise WeightsError(
            f"{directory} holds several checkpoints and no file `checkpoint` that names the latest: "
            f"{names.listed(found)}; give one of them"
        )
    inside = names.listed(files.siblings(directory)) or "nothing"
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


def _whole(path: Path) -> Path:
    return path.with_name(PART.sub("", path.name)) if path.name else path


def _is_state(path: Path) -> bool:
    return b"model_checkpoint_path" in files.head(path, 1024)


def _nothing_at(path: Path) -> str:
    if files.exists(path):
        lone = "; the .index file of the checkpoint is not beside it" if _whole(path) != path else ""
        return f"{path} is no checkpoint: it is {identify.describe(path)}{lone}"
    data = [name for name in files.siblings(path.parent) if name.startswith(f"{path.name}.data-")]
    if data:
        return f"{path}.index is missing; only {names.listed(data)} is there, which does not say what it holds"
    beside = [*found_in(path.parent), *files.siblings(path.parent)]
    there = f"{path.parent} holds {names.listed(beside)}" if beside else f"there is nothing in {path.parent} either"
    return f"there is no file and no checkpoint {path}{names.did_you_mean(path.name, beside)}; {there}"
