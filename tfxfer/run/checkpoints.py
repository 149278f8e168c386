"""Checkpoints that are whole or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import files

SAVING = ".saving"


def write(
    sess: tf.Session,
    saver: tf.train.Saver,
    prefix: str | os.PathLike[str],
    *,
    sidecars: Mapping[str, Any] | None = None,
    write_meta_graph: bool = True,
) -> None:
    """Save a checkpoint in a folder beside, flush it, and move it to its place, the index last.

    A checkpoint that has an index is whole, whenever the process is killed and however full the disk is.

    Args:
      sess: the session whose variables are saved.
      saver: of the variables to save.
      prefix: as `tf.train.Saver.restore` takes it; its folder is made if it is missing.
      sidecars: suffix to value: `{"state": ...}` becomes `<prefix>.state.json`.
      write_meta_graph: whether to write `<prefix>.meta` too.

    Raises:
      OSError, tf.errors.OpError: it could not be written; nothing is left of it.
    """
    prefix = Path(prefix)
    beside = prefix.parent / SAVING
    prefix.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        with sess.graph.as_default():
            saver.save(sess, str(beside / prefix.name), write_state=False, write_meta_graph=write_meta_graph)
        for suffix, value in (sidecars or {}).items():
            files.write_json(beside / f"{prefix.name}.{suffix}.json", value)
        for file in sorted(beside.iterdir(), key=lambda file: file.suffix == ".index"):
            files.sync(file)
            os.replace(file, prefix.parent / file.name)
        files.sync_folder(prefix.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
