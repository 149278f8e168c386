"""tools/fetch.py against a server on loopback, with entries of its own in the table; nothing goes to the network."""

from __future__ import annotations

import errno
import hashlib
import http.server
import importlib.util
import io
import os
import pty
import re
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pooch
import pytest

from tfxfer.tools import _flags, fetch

BODY = bytes(range(256)) * 4096  # 1 MiB, four of the pieces in which fetch downloads


# --- a host, and what it serves ---


class Host:
    """A web server on loopback: `serve` says what it answers, `asked` lists what it was asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes, int | None]] = {}
        self.asked: list[str] = []
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.append(self.path)
                status, body, length = host.answers.get(self.path, (404, b"<html>no such page</html>", None))
                self.send_response(status)
                if length is not None:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def serve(self, path: str, body: bytes, status: int = 200, length: int | None = -1) -> str:
        """Answer with a body and its length, or another, or none; return the URL."""
        self.answers[path] = (status, body, len(body) if length == -1 else length)
        return f"http://{self.name}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("NO_PROXY", "*")
    host = Host()
    yield host
    host.close()


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., fetch.File]:
    """Put a file of these bytes under a name of the table, in place of what is there."""
    monkeypatch.setattr(fetch, "ITEMS", {})

    def offer(name: str, path: str, body: bytes, *urls: str, unpacked: str = "") -> fetch.File:
        file = fetch.File(path, len(body), f"sha256:{hashlib.sha256(body).hexdigest()}", urls)
        earlier = fetch.ITEMS.get(name, fetch.Item("", ())).files
        fetch.ITEMS[name] = fetch.Item(f"what {name} is", (*earlier, file), unpacked)
        return file

    return offer


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    return lambda *args: fetch.main(["tfxfer fetch", *args, f"--dir={tmp_path / 'downloads'}"])


def below(folder: Path) -> list[str]:
    """List all files and folders, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- downloading ---


def test_a_file_is_downloaded_checked_and_named(host, offer, run, tmp_path, capsys):
    offer("weights", "sub/weights.bin", BODY, host.serve("/weights.bin", BODY))
    assert run("weights") == 0
    path = tmp_path / "downloads/sub/weights.bin"
    assert path.read_bytes() == BODY
    assert below(tmp_path) == ["downloads", "downloads/sub", "downloads/sub/weights.bin"]
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: 1.0 MB from {host.name}",
        f"{path}: downloaded, its digest is right",
    ]


def test_what_is_downloaded_is_as_readable_as_any_other_file(host, offer, run, tmp_path):
    offer("weights", "weights.bin", BODY, host.serve("/weights.bin", BODY))
    run("weights")
    (tmp_path / "other").touch()
    assert (tmp_path / "downloads/weights.bin").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_name_given_twice_is_fetched_once(host, offer, run):
    offer("weights", "weights.bin", BODY, host.serve("/weights.bin", BODY))
    run("weights", "weights")
    assert host.asked == ["/weights.bin"]


def test_an_md5_digest_is_as_good_as_a_sha256(host, offer, run, tmp_path):
    file = offer("weights", "weights.bin", BODY, host.serve("/weights.bin", BODY))
    md5 = f"md5:{hashlib.md5(BODY, usedforsecurity=False).hexdigest()}"
    fetch.ITEMS["weights"] = fetch.Item("", (file._replace(digest=md5),))
    assert run("weights") == 0
    assert (tmp_path / "downloads/weights.bin").read_bytes() == BODY


def test_wrong_bytes_are_refused_and_thrown_away(host, offer, run, tmp_path):
    file = offer("weights", "weights.bin", BODY, host.serve("/weights.bin", b"<html>sorry</html>"))
    got = f"sha256:{hashlib.sha256(b'<html>sorry</html>').hexdigest()}"
    told = f"  what {host.name} sent is thrown away, it has 18 bytes and {got}, not 1,048,576 and {file.digest}\n"
    with pytest.raises(fetch.FetchError, match=rf"cannot download weights\.bin:\n{told}"):
        run("weights")
    assert below(tmp_path) == ["downloads"]


def test_a_body_cut_short_is_refused(host, offer, run, tmp_path):
    half = len(BODY) // 2
    offer("weights", "weights.bin", BODY, host.serve("/weights.bin", BODY[:half], length=len(BODY)))
    with pytest.raises(fetch.FetchError, match=rf"{host.name} broke off after 524,288 of 1,048,576 bytes: \w+"):
        run("weights")
    assert below(tmp_path) == ["downloads"]


def test_a_body_cut_short_is_refused_where_no_length_is_announced(host, offer, run, tmp_path):
    offer("weights", "weights.bin", BODY, host.serve("/weights.bin", BODY[:1000], length=None))
    with pytest.raises(fetch.FetchError, match=r"is thrown away, it has 1,000 bytes and sha256:\w+, not 1,048,576"):
        run("weights")
    assert below(tmp_path) == ["downloads"]


def test_a_page_that_is_gone_is_told_by_its_status(host, offer, run, tmp_path):
    offer("weights", "weights.bin", BODY, f"http://{host.name}/gone.bin")
    with pytest.raises(fetch.FetchError, match=rf"{host.name} answers 404 .*Not Found for url: http://.*/gone\.bin\n"):
        run("weights")
    assert below(tmp_path) == ["downloads"]


def test_the_second_place_is_tried_when_the_first_fails(host, offer, run, tmp_path, capsys):
    wrong, gone = host.serve("/wrong", b"wrong"), f"http://{host.name}/gone"
    offer("weights", "weights.bin", BODY, wrong, gone, host.serve("/right", BODY))
    assert run("weights") == 0
    assert host.asked == ["/wrong", "/gone", "/right"]
    assert below(tmp_path / "downloads") == ["weights.bin"]


def test_when_every_place_fails_each_is_told(host, offer, run):
    offer("weights", "weights.bin", BODY, host.serve("/wrong", b"wrong"), f"http://{host.name}/gone")
    with pytest.raises(fetch.FetchError, match=r"(?s)cannot download weights\.bin:\n  what .*\n  .* answers 404 "):
        run("weights")


def test_an_interrupted_download_leaves_nothing(host, offer, tmp_path, monkeypatch):
    offer("weights", "weights.bin", BODY, host.serve("/weights.bin", BODY))

    def interrupt(path: str, algorithm: str) -> str:
        assert Path(path).read_bytes() == BODY
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch, "file_hash", interrupt)
    assert _flags.run(fetch.main, ["fetch", "weights", f"--dir={tmp_path}"]) == 130
    assert below(tmp_path) == []


def test_a_full_disk_leaves_nothing(host, offer, tmp_path, monkeypatch, capsys):
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetch.files, "sync", full)
    offer("weights", "weights.bin", BODY, host.serve("/weights.bin", BODY))
    assert _flags.run(fetch.main, ["fetch", "weights", f"--dir={tmp_path}"]) == 1
    assert capsys.readouterr().err == "OSError: No space left on device\n"
    assert below(tmp_path) == []


# --- no network ---


@pytest.fixture
def nobody() -> str:
    """A host that refuses connections: a port that was just given back."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_without_a_network_one_message_says_where_to_put_which_file(nobody, offer, tmp_path, monkeypatch, capsys):
    first = offer("data", "set/a.gz", b"aaaa", f"http://{nobody}/a.gz")
    second = offer("data", "set/b.gz", b"bb", f"http://{nobody}/b.gz", f"http://{nobody}/mirror/b.gz")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.chdir(tmp_path)
    assert _flags.run(fetch.main, ["tfxfer fetch", "data"]) == 1
    assert capsys.readouterr().err == (
        "FetchError: cannot download a.gz:\n"
        f"  could not reach {nobody}: Connection refused\n"
        "try again later, or put by hand what is missing and run the same command again, which checks it:\n"
        f"  {tmp_path}/downloads/set/a.gz    4 bytes, {first.digest}\n"
        f"    from http://{nobody}/a.gz\n"
        f"  {tmp_path}/downloads/set/b.gz    2 bytes, {second.digest}\n"
        f"    from http://{nobody}/b.gz\n"
        f"    from http://{nobody}/mirror/b.gz\n"
    )
    assert below(tmp_path) == ["downloads", "downloads/set"]


def test_without_names_on_the_network_the_host_is_told(offer, run, monkeypatch):
    def lookup(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setenv("NO_PROXY", "*")
    offer("weights", "weights.bin", BODY, "https://host.invalid/weights.bin")
    with pytest.raises(fetch.FetchError, match=r"could not reach host\.invalid: Name or service not known\n"):
        run("weights")


def test_only_what_is_missing_is_asked_for_by_hand(host, nobody, offer, run, tmp_path):
    offer("data", "a.gz", b"aaaa", host.serve("/a.gz", b"aaaa"))
    offer("data", "b.gz", b"bb", f"http://{nobody}/b.gz")
    with pytest.raises(fetch.FetchError, match=r"which checks it:\n  .*/b\.gz    2 bytes") as raised:
        run("data")
    assert "a.gz" not in str(raised.value)
    assert below(tmp_path / "downloads") == ["a.gz"]


# --- what is there already ---


def test_a_file_put_there_by_hand_is_checked_and_not_downloaded(host, offer, run, tmp_path, capsys):
    offer("weights", "weights.bin", BODY, host.serve("/weights.bin", BODY))
    path = tmp_path / "downloads/weights.bin"
    path.parent.mkdir()
    path.write_bytes(BODY)
    assert run("weights") == 0
    assert run("weights", "--overwrite") == 0
    assert host.asked == []
    assert capsys.readouterr().out == f"{path}: there already, its digest is right\n" * 2


def test_wrong_files_are_refused_all_at_once_and_left_alone(host, offer, run, tmp_path):
    for name in "abc":
        offer(name, f"{name}.bin", BODY, host.serve(f"/{name}.bin", BODY))
    (tmp_path / "downloads").mkdir()
    for name in "bc":
        (tmp_path / f"downloads/{name}.bin").write_bytes(b"mine")
    with pytest.raises(
        fetch.FetchError, match=r"what is there is not what was to be fetched:\n  .*/b\.bin has"
    ) as raised:
        run("a", "b", "c")
    mine = f"has 4 bytes and sha256:{hashlib.sha256(b'mine').hexdigest()}, not 1,048,576 and sha256:"
    assert str(raised.value).count(mine) == 2
    assert str(raised.value).endswith("\nmove what is there away, or let --overwrite move it aside and fetch again")
    assert host.asked == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "downloads").iterdir()} == {
        "b.bin": b"mine",
        "c.bin": b"mine",
    }


def test_overwrite_moves_the_old_file_aside(host, offer, run, tmp_path, capsys):
    offer("weights", "weights.bin", BODY, host.serve("/weights.bin", BODY))
    path = tmp_path / "downloads/weights.bin"
    path.parent.mkdir()
    for old in (b"first", b"second"):
        path.write_bytes(old)
        assert run("weights", "--overwrite") == 0
        assert path.read_bytes() == BODY
    assert path.with_name("weights.bin.old-1").read_bytes() == b"first"
    assert path.with_name("weights.bin.old-2").read_bytes() == b"second"
    assert f"{path}: moved aside to weights.bin.old-2\n" in capsys.readouterr().out


def test_overwrite_leaves_the_old_file_where_the_download_fails(host, offer, run, tmp_path):
    offer("weights", "weights.bin", BODY, host.serve("/weights.bin", b"wrong"))
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/weights.bin").write_bytes(b"mine")
    with pytest.raises(fetch.FetchError, match="is thrown away"):
        run("weights", "--overwrite")
    assert below(tmp_path / "downloads") == ["weights.bin"]
    assert (tmp_path / "downloads/weights.bin").read_bytes() == b"mine"


# --- archives ---


def tar_of(*members: tuple[str, bytes | str], kind: bytes = tarfile.REGTYPE) -> bytes:
    """Make a .tgz of names and bytes; a str instead of bytes makes a member of that kind that points there."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = kind, content
            else:
                info.size = len(content)
            tar.addfile(info, None if isinstance(content, str) else io.BytesIO(content))
    return packed.getvalue()


def zip_of(*members: tuple[str, bytes], mode: int = stat.S_IFREG | 0o644) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            zipped.writestr(info, content)
    return packed.getvalue()


PHOTOS = (("photos/rose/1.jpg", b"one"), ("photos/tulip/2.jpg", b"two"), ("photos/LICENSE", b"free"))
UNPACKED = ["LICENSE", "rose", "rose/1.jpg", "tulip", "tulip/2.jpg"]


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_an_archive_is_unpacked_beside_itself(pack, host, offer, run, tmp_path, capsys):
    body = pack(*PHOTOS)
    offer("photos", "photos.tgz", body, host.serve("/photos.tgz", body), unpacked="photos")
    assert run("photos") == 0
    folder = tmp_path / "downloads"
    assert below(folder) == sorted(["photos", "photos.tgz", *(f"photos/{name}" for name in UNPACKED)])
    assert (folder / "photos/tulip/2.jpg").read_bytes() == b"two"
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"{folder / 'photos'}: unpacking photos.tgz",
        f"{folder / 'photos'}: 3 files",
    ]


def test_an_archive_without_a_folder_of_its_name_gets_one(host, offer, run, tmp_path):
    body = zip_of(("Pets/", b""), ("Pets/Cat/1.jpg", b"one"), ("readme.txt", b"read"))
    offer("pets", "pets.zip", body, host.serve("/pets.zip", body), unpacked="pets")
    run("pets")
    assert below(tmp_path / "downloads/pets") == ["Pets", "Pets/Cat", "Pets/Cat/1.jpg", "readme.txt"]


def test_an_archive_that_is_there_is_unpacked_again_only_if_its_folder_is_gone(host, offer, run, tmp_path, capsys):
    body = tar_of(*PHOTOS)
    offer("photos", "photos.tgz", body, host.serve("/photos.tgz", body), unpacked="photos")
    run("photos")
    (tmp_path / "downloads/photos").rename(tmp_path / "elsewhere")
    run("photos")
    assert below(tmp_path / "downloads/photos") == UNPACKED
    capsys.readouterr()
    run("photos")
    assert capsys.readouterr().out == f"{tmp_path / 'downloads/photos.tgz'}: there already, its digest is right\n"
    assert host.asked == ["/photos.tgz"]


def test_a_folder_whose_archive_was_thrown_away_is_enough(host, offer, run, tmp_path, capsys):
    body = tar_of(*PHOTOS)
    offer("photos", "photos.tgz", body, host.serve("/photos.tgz", body), unpacked="photos")
    (tmp_path / "downloads/photos").mkdir(parents=True)
    assert run("photos") == 0
    assert host.asked == []
    assert capsys.readouterr().out == f"{tmp_path / 'downloads/photos'}: there already\n"


def test_the_folder_of_an_archive_that_is_overwritten_is_moved_aside_too(host, offer, run, tmp_path):
    body = tar_of(*PHOTOS)
    offer("photos", "photos.tgz", body, host.serve("/photos.tgz", body), unpacked="photos")
    (tmp_path / "downloads/photos").mkdir(parents=True)
    (tmp_path / "downloads/photos/mine.jpg").write_bytes(b"mine")
    (tmp_path / "downloads/photos.tgz").write_bytes(b"another")
    run("photos", "--overwrite")
    assert below(tmp_path / "downloads/photos") == UNPACKED
    assert below(tmp_path / "downloads/photos.old-1") == ["mine.jpg"]
    assert (tmp_path / "downloads/photos.tgz.old-1").read_bytes() == b"another"


HOSTILE = {
    "parent": tar_of(*PHOTOS, ("photos/../../outside", b"x")),
    "absolute": tar_of(*PHOTOS, ("/tmp/tfxfer-outside", b"x")),  # noqa: S108
    "symbolic link": tar_of(*PHOTOS, ("photos/link", "rose/1.jpg"), kind=tarfile.SYMTYPE),
    "link to the outside": tar_of(("photos/link", "../.."), ("photos/link/outside", b"x"), kind=tarfile.SYMTYPE),
    "hard link": tar_of(*PHOTOS, ("photos/link", "photos/rose/1.jpg"), kind=tarfile.LNKTYPE),
    "pipe": tar_of(*PHOTOS, ("photos/pipe", ""), kind=tarfile.FIFOTYPE),
    "device": tar_of(*PHOTOS, ("photos/null", ""), kind=tarfile.CHRTYPE),
    "parent in a zip": zip_of(*PHOTOS, ("photos/../../outside", b"x")),
    "absolute in a zip": zip_of(*PHOTOS, ("/tmp/tfxfer-outside", b"x")),  # noqa: S108
    "symbolic link in a zip": zip_of(("photos/link", b"../.."), mode=stat.S_IFLNK | 0o777),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_an_archive_that_reaches_out_of_its_folder_is_not_unpacked(what, host, offer, run, tmp_path):
    body = HOSTILE[what]
    offer("photos", "photos.tgz", body, host.serve("/photos.tgz", body), unpacked="photos")
    with pytest.raises(fetch.FetchError, match=r"tgz is not unpacked: '.*' is not a plain file inside the"):
        run("photos")
    assert below(tmp_path) == ["downloads", "downloads/photos.tgz"]
    assert not Path("/tmp/tfxfer-outside").exists()  # noqa: S108


# --- what is shown ---

# The tool as a user starts it, but for its table: one file, from the URL that is the first argument.
ONE_FILE = """
import sys
from tfxfer.tools import _flags, fetch
url, digest, size = sys.argv[1:4]
fetch.ITEMS = {"weights": fetch.Item("", (fetch.File("weights.bin", int(size), digest, (url,)),))}
sys.exit(_flags.run(fetch.main, ["fetch", "weights", *sys.argv[4:]]))
"""


def command(file: fetch.File, folder: Path) -> list[str]:
    return [sys.executable, "-c", ONE_FILE, file.urls[0], file.digest, str(file.size), f"--dir={folder}"]


def test_what_is_piped_has_no_control_codes(host, offer, tmp_path):
    file = offer("weights", "weights.bin", BODY, host.serve("/weights.bin", BODY))
    env = {key: value for key, value in os.environ.items() if key not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    done = subprocess.run(command(file, tmp_path), capture_output=True, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        f"{tmp_path}/weights.bin: 1.0 MB from {host.name}",
        f"{tmp_path}/weights.bin: downloaded, its digest is right",
    ]
    assert re.search(rb"[^\n -~]", done.stdout) is None


def test_a_terminal_shows_a_bar(host, offer, tmp_path):
    file = offer("weights", "weights.bin", BODY, host.serve("/weights.bin", BODY))
    ours, terminal = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run(command(file, tmp_path), stdout=subprocess.PIPE, stderr=terminal, env=env)
    os.close(terminal)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "\x1b[" in shown
    assert re.search(r"weights\.bin.*1\.0/1\.0 MB", shown)


def test_list_shows_every_name_and_fetches_nothing(run, tmp_path, capsys):
    assert run("--list") == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", "size", "what", "it", "is", "from"]
    assert [line.split()[0] for line in lines] == list(fetch.ITEMS)
    row = r"vgg16_notop_h5 +58\.9 MB  VGG16, ImageNet, convolutions only \(Keras\) +storage\.googleapis\.com *"
    assert re.fullmatch(row, lines[2])
    assert below(tmp_path) == []


def test_list_is_not_cut_where_it_is_piped(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    run("--list")
    assert "www.cs.toronto.edu, media.githubusercontent.com" in capsys.readouterr().out


def test_unknown_names_are_answered_with_the_nearest_all_at_once(run, tmp_path):
    with pytest.raises(_flags.UsageError, match=r"no download is called 'vgg16'; nearest: vgg16_h5, ") as raised:
        run("vgg16", "mnist", "flowers")
    assert "\nno download is called 'flowers'; nearest: flower_photos, " in str(raised.value)
    assert str(raised.value).endswith("\n`tfxfer fetch --list` shows them all")
    assert below(tmp_path) == []


def test_no_name_is_bad_usage(capsys):
    assert _flags.run(fetch.main, ["tfxfer fetch"]) == 2
    assert capsys.readouterr().err == "UsageError: name what is to be fetched; `tfxfer fetch --list` shows the names\n"


# --- the table ---

FILES = [file for item in fetch.ITEMS.values() for file in item.files]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.path)
def test_every_file_is_pinned_and_comes_encrypted(file):
    assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", file.digest)
    assert file.size > 0
    assert file.urls
    assert all(url.startswith("https://") and url.endswith(f"/{Path(file.path).name}") for url in file.urls)


def test_no_two_files_have_the_same_place():
    places = [file.path for file in FILES] + [item.unpacked for item in fetch.ITEMS.values() if item.unpacked]
    assert len(set(places)) == len(places)
    assert all(len(item.files) == 1 for item in fetch.ITEMS.values() if item.unpacked)


@pytest.mark.parametrize("name", [name for name in fetch.ITEMS if "h5" in name or "class_index" in name])
def test_the_digests_of_keras_are_those_in_its_source(name):
    [file] = fetch.ITEMS[name].files
    applications = Path(importlib.util.find_spec("keras").origin).parent / "src/applications"
    source = (applications / f"{name[:5] if 'h5' in name else 'imagenet_utils'}.py").read_text("utf-8")
    get_file = re.search(rf'"{Path(file.path).name}",.*?file_hash="(\w+)"', source, re.DOTALL)
    assert file.digest == f"md5:{get_file[1]}"
    assert file.urls[0] in re.sub(r'"\s*"', "", source)


def test_the_digests_of_mnist_are_those_of_the_real_files(real_data):
    for file in fetch.ITEMS["mnist"].files:
        path = real_data("mnist") / Path(file.path).name
        assert path.stat().st_size == file.size
        assert f"sha256:{pooch.file_hash(path)}" == file.digest
