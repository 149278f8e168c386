"""Download weights and data sets by name, and check each file against a pinned digest.

    tfxfer fetch vgg16_notop_h5 mnist
    tfxfer fetch --list

A file gets its name after it is complete and its digest is right. A file that exists, even one that you put there by
hand, is checked and not downloaded again. An archive is unpacked beside itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from absl import flags
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tfxfer import extras, files, names
from tfxfer.errors import TfxferError
from tfxfer.tools import _flags, _pager

CHUNK = 1 << 18  # bytes


class FetchError(TfxferError):
    """A file that cannot be downloaded, or that has other bytes than the pinned ones."""


class File(NamedTuple):
    """One file: its path below --dir, its size in bytes, `algorithm:digest`, and the URLs of the same bytes."""

    path: str
    size: int
    digest: str
    urls: tuple[str, ...]


class Item(NamedTuple):
    """A download; `unpacked` is the folder, below --dir, into which its archive is unpacked."""

    what: str
    files: tuple[File, ...]
    unpacked: str = ""


# --- what there is ---

CVDF = "https://storage.googleapis.com/cvdf-datasets/mnist"
EXAMPLES = "https://storage.googleapis.com/download.tensorflow.org/example_images"
KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
KERAS_DATA = "https://storage.googleapis.com/download.tensorflow.org/data"
MICROSOFT = "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F"
# Davi Frossard's page, and tensorlayer's copy of his file.
FROSSARD = (
    "https://www.cs.toronto.edu/~frossard/vgg16",
    "https://media.githubusercontent.com/media/tensorlayer/pretrained-models/master/models",
)


def _file(path: str, size: int, digest: str, *folders: str) -> File:
    algorithm = {32: "md5", 64: "sha256"}[len(digest)]
    return File(path, size, f"{algorithm}:{digest}", tuple(f"{folder}/{Path(path).name}" for folder in folders))


def _keras(network: str, part: str, size: int, digest: str) -> File:
    return _file(f"{network}_weights_tf_dim_ordering_tf_kernels{part}.h5", size, digest, f"{KERAS}/{network}")


def _mnist(name: str, size: int, digest: str) -> File:
    return _file(f"mnist/{name}", size, digest, CVDF)


# The Git LFS pointer models/vgg16_weights.npz of github.com/tensorlayer/pretrained-models; tensorlayer's loader, which
# downloads Frossard's file, expects as many bytes.
VGG16_NPZ = _file(
    "vgg16_weights.npz", 553_436_134, "0b1445ee85249139b7394a068291a161e2a5d0ae67a3a7bf12a6933f5741a8c8", *FROSSARD
)
# `file_hash` in keras/src/applications/vgg16.py, vgg19.py and imagenet_utils.py of Keras 3.
VGG16 = _keras("vgg16", "", 553_467_096, "64373286793e3c8b2b4e3219cbf3544b")
VGG16_NOTOP = _keras("vgg16", "_notop", 58_889_256, "6d6bbae143d832006294945121d1f1fc")
VGG19 = _keras("vgg19", "", 574_710_816, "cbe5617147190e668d6c5d5026f83318")
VGG19_NOTOP = _keras("vgg19", "_notop", 80_134_624, "253f8cb515780f3b799900260a226db6")
CLASS_INDEX = _file("imagenet_class_index.json", 35_363, "c2c37ea517e94d9795004a39431a14cb", KERAS_DATA)
# url_checksums/mnist.txt of tensorflow-datasets 4.9.10; torchvision/datasets/mnist.py has the md5 of the same files.
MNIST = (
    _mnist("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    _mnist("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    _mnist("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    _mnist("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)
# datasets/tf_flowers/checksums.tsv of tensorflow-datasets 4.9.10.
FLOWERS = _file(
    "flower_photos.tgz", 228_813_984, "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c", EXAMPLES
)
# url_checksums/cats_vs_dogs.txt of tensorflow-datasets 4.9.10; Hugging Face's cats_vs_dogs/dataset_infos.json agrees.
PETS = _file(
    "kagglecatsanddogs_5340.zip",
    824_887_076,
    "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
    MICROSOFT,
)
# slim's vgg_16_2016_08_28.tar.gz is not here: no digest of it is published, and nothing is fetched without one.

ITEMS = {
    "vgg16_npz": Item("VGG16, ImageNet, all layers, .npz (Davi Frossard)", (VGG16_NPZ,)),
    "vgg16_h5": Item("VGG16, ImageNet, all layers (Keras)", (VGG16,)),
    "vgg16_notop_h5": Item("VGG16, ImageNet, convolutions only (Keras)", (VGG16_NOTOP,)),
    "vgg19_h5": Item("VGG19, ImageNet, all layers (Keras)", (VGG19,)),
    "vgg19_notop_h5": Item("VGG19, ImageNet, convolutions only (Keras)", (VGG19_NOTOP,)),
    "imagenet_class_index": Item("the names of ImageNet's 1000 classes (Keras)", (CLASS_INDEX,)),
    "mnist": Item("MNIST, 70,000 handwritten digits, four idx files", MNIST),
    "flower_photos": Item("3,670 photographs of flowers, 5 classes", (FLOWERS,), unpacked="flower_photos"),
    "cats_and_dogs": Item("25,000 photographs of cats and dogs, a few broken", (PETS,), unpacked="cats_and_dogs"),
}


# --- the tool ---


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_string("dir", "downloads", "Directory to download to; made if it is missing.", flag_values=values)
    flags.DEFINE_bool("list", False, "List the downloads and fetch nothing.", flag_values=values)
    flags.DEFINE_bool(
        "overwrite", False, "Fetch files with a wrong digest again, and move the old ones aside.", flag_values=values
    )
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    items = _items(_flags.parse(values, argv, __doc__))
    if values.list:
        _show()
        return 0
    if not items:
        raise _flags.UsageError("name what is to be fetched; `tfxfer fetch --list` shows the names")
    extras.load("pooch")
    folder = Path(values.dir)
    missing = _missing(items, folder, values.overwrite)
    for item in items:
        _fetch(item, missing, folder)
    return 0


def _items(wanted: Sequence[str]) -> list[Item]:
    unknown = {name: ", ".join(names.nearest(name, ITEMS)) for name in wanted if name not in ITEMS}
    if unknown:
        lines = [f"no download is called {name!r}; nearest: {near}" for name, near in unknown.items()]
        raise _flags.UsageError("\n".join([*lines, "`tfxfer fetch --list` shows them all"]))
    return [ITEMS[name] for name in dict.fromkeys(wanted)]


def _show() -> None:
    table = Table("name", "size", "what it is", "from", box=None, pad_edge=False)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    table.columns[1].justify = "right"
    for name, item in ITEMS.items():
        hosts = dict.fromkeys(urlsplit(url).netloc for file in item.files for url in file.urls)
        table.add_row(name, decimal(sum(file.size for file in item.files)), item.what, ", ".join(hosts))
    # What is piped is read by programs: lines are never cut to a terminal's width.
    Console(width=None if sys.stdout.isatty() else 1000, highlight=False).print(table)


def _missing(items: Sequence[Item], folder: Path, overwrite: bool) -> list[File]:
    """Return the files to download; first refuse all that would replace a file without --overwrite."""
    missing, wrong = [], []
    for file, unpacked in ((file, item.unpacked) for item in items for file in item.files):
        path = folder / file.path
        fault = _fault(file, path) if path.exists() else ""
        if path.exists() and not fault:
            _pager.say(f"{path}: there already, its digest is right")
        elif fault and not overwrite:
            wrong.append(f"  {path} has {fault}")
        elif unpacked and (folder / unpacked).exists() and not overwrite:
            _pager.say(f"{folder / unpacked}: there already")
        else:
            missing.append(file)
    if wrong:
        cure = "move what is there away, or let --overwrite move it aside and fetch again"
        raise FetchError("\n".join(["what is there is not what was to be fetched:", *wrong, cure]))
    return missing


def _fetch(item: Item, missing: list[File], folder: Path) -> None:
    """Download the missing files of an item, and unpack its archive."""
    fresh = [file for file in item.files if file in missing]
    for file in fresh:
        try:
            _download(file, folder / file.path)
        except FetchError as error:
            raise FetchError(f"{error}\n{_by_hand(missing, folder)}") from None
        missing.remove(file)
    if item.unpacked:
        unpacked = folder / item.unpacked
        if fresh:
            _move_aside(unpacked)  # It was unpacked from another archive.
        if not unpacked.exists():
            _unpack(folder / item.files[0].path, unpacked)


def _by_hand(missing: Sequence[File], folder: Path) -> str:
    lines = ["try again later, or put by hand what is missing and run the same command again, which checks it:"]
    for file in missing:
        lines.append(f"  {(folder / file.path).absolute()}    {file.size:,} bytes, {file.digest}")
        lines += [f"    from {url}" for url in file.urls]
    return "\n".join(lines)


# --- downloading ---


def _download(file: File, path: Path) -> None:
    """Download beside the name, check, then rename, so that a short or wrong file never gets the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    faults = []
    for url in file.urls:
        _pager.say(f"{path}: {decimal(file.size)} from {urlsplit(url).netloc}")
        with _beside(path) as folder:
            part = Path(folder, path.name)
            fault = _receive(file, url, part)
            if not fault:
                files.sync(part)
                _move_aside(path)
                os.replace(part, path)
                files.sync_folder(path.parent)
                _pager.say(f"{path}: downloaded, its digest is right")
                return
        faults.append(f"  {fault}")
    raise FetchError("\n".join([f"cannot download {path.name}:", *faults]))


def _receive(file: File, url: str, part: Path) -> str:
    """Download and check; return what went wrong, or nothing."""
    import requests

    host = urlsplit(url).netloc
    try:
        with _progress_bar(part.name, file.size) as bar:
            extras.load("pooch").HTTPDownloader(progressbar=bar, chunk_size=CHUNK)(url, part, None)
    except requests.HTTPError as error:
        return f"{host} answers {error}"
    except requests.RequestException as error:
        done = part.stat().st_size
        failure = f"{host} broke off after {done:,} of {file.size:,} bytes" if done else f"could not reach {host}"
        return f"{failure}: {_reason(error)}"
    fault = _fault(file, part)
    return f"what {host} sent is thrown away, it has {fault}" if fault else ""


def _reason(error: BaseException) -> str:
    """Return the system's message, which is in the innermost of the errors that requests and urllib3 wrap."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return getattr(error, "strerror", None) or str(error)


def _fault(file: File, path: Path) -> str:
    """Return what is wrong with the bytes at a path, or nothing."""
    algorithm = file.digest.partition(":")[0]
    digest = f"{algorithm}:{extras.load('pooch').file_hash(path, algorithm)}"
    if digest == file.digest:
        return ""
    return f"{path.stat().st_size:,} bytes and {digest}, not {file.size:,} and {file.digest}"


@contextlib.contextmanager
def _progress_bar(name: str, size: int) -> Iterator[SimpleNamespace]:
    """Show rich's bar on a terminal; yield it with the methods that pooch calls on tqdm's."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=size)
        advance, reset = partial(progress.advance, task), partial(progress.reset, task)
        yield SimpleNamespace(total=size, update=advance, reset=reset, close=progress.stop)


def _beside(path: Path) -> tempfile.TemporaryDirectory:
    """Make a folder beside a path for files that are not complete yet."""
    return tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=files.PART, dir=path.parent)


def _move_aside(path: Path) -> None:
    if os.path.lexists(path):
        _pager.say(f"{path}: moved aside to {files.move_aside(path).name}")


# --- unpacking ---


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack beside the folder, then rename; a single top-level folder of its name becomes the folder itself.

    Not by pooch's Untar and Unzip: before Python 3.12 the first writes outside of the folder where a member's name says
    so, and the second leaves `..` out of a name without a word.
    """
    _pager.say(f"{folder}: unpacking {archive.name}")
    with _beside(folder) as beside:
        whole = Path(beside, "whole")
        whole.mkdir()
        count = 0
        for name, stream in _members(archive):
            inside = PurePosixPath(name)
            if stream is None or inside.is_absolute() or ".." in inside.parts:
                raise FetchError(f"{archive} is not unpacked: {name!r} is not a plain file inside the archive's folder")
            (whole / inside).parent.mkdir(parents=True, exist_ok=True)
            with stream, (whole / inside).open("xb") as file:
                shutil.copyfileobj(stream, file)
            count += 1
        os.rename(whole / folder.name if os.listdir(whole) == [folder.name] else whole, folder)
    _pager.say(f"{folder}: {count:,} files")


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield name and bytes of each file in a tar or zip archive; None for the bytes of a link, a device or a pipe."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in (info for info in zipped.infolist() if not info.is_dir()):
                yield info.filename, None if stat.S_ISLNK(info.external_attr >> 16) else zipped.open(info)
        return
    with tarfile.open(archive) as tar:
        for member in (member for member in tar if not member.isdir()):
            yield member.name, tar.extractfile(member) if member.isreg() else None


if __name__ == "__main__":
    sys.exit(_flags.run(main))
