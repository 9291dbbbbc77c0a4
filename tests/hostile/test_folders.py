"""Traps in a folder of images: the right images are read once, the rest is refused by name, and nothing waits."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_cli.config.tree import DataSettings
from ssl_cli.data import search
from ssl_cli.data.folder import Files
from ssl_cli.data.glance import glance
from ssl_cli.data.loader import Loader, read_all
from ssl_cli.data.regular import MOST, open_regular
from ssl_cli.errors import DataError
from ssl_cli.events import Skipped
from ssl_cli.names import shown
from tests.data.files import open_folder
from tests.data.pictures import save

GOOD = ("a/one.png", "b/two.png")
IS_ROOT = os.geteuid() == 0


def good(root: Path) -> Path:
    for shade, name in enumerate(GOOD):
        save(root / name, 50 + shade)
    return root


def seen(source: Files, deadline: float = 60.0) -> tuple[list[str], list[Skipped]]:
    """Return the names of the images that are read, relative to the folder, and what was skipped."""
    skipped: list[Skipped] = []
    names: list[str] = []
    for images, _, index in read_all(source, skipped=skipped, deadline=deadline):
        assert all(image.dtype == torch.uint8 and image.shape[0] == 3 for image in images)
        names += [os.path.relpath(source.path(k), source.name) for k in index.tolist()]
    assert all(skip.reason.isprintable() and skip.reason and shown(skip.path).isprintable() for skip in skipped)
    return names, skipped


def deep(root: Path, name: str, count: int) -> None:
    """Make folders in one another, beyond the longest path there may be."""
    top = os.open(root, os.O_RDONLY)
    for _ in range(count):
        os.mkdir(name, dir_fd=top)
        inner = os.open(name, os.O_RDONLY, dir_fd=top)
        os.close(top)
        top = inner
    descriptor = os.open("deep.png", os.O_WRONLY | os.O_CREAT, dir_fd=top)
    os.write(descriptor, (root / GOOD[0]).read_bytes())
    os.close(descriptor)
    os.close(top)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def links(root: Path, targets: dict[str, str]) -> None:
    for name, target in targets.items():
        (root / name).symlink_to(target)


# What is in the folder before it is listed, which further images it has, and how many files or folders are skipped.
LISTED: dict[str, tuple[Callable[[Path], object], tuple[str, ...], int]] = {
    "a dangling link": (lambda root: (root / "x.png").symlink_to(root / "nothing"), (), 0),
    "a link to itself": (lambda root: (root / "x.png").symlink_to("x.png"), (), 0),
    "two links to one another": (
        lambda root: links(root, {"x.png": "y.png", "y.png": "x.png"}),
        (),
        0,
    ),
    "a link to the folder": (lambda root: (root / "a" / "loop").symlink_to(root), (), 0),
    "a link to the parent": (lambda root: (root / "b" / "up").symlink_to(".."), (), 0),
    "a chain of links": (
        lambda root: links(root, {f"{k}.png": f"{k + 1}.png" for k in range(60)}),
        (),
        0,
    ),
    "a link to an image that is there": (lambda root: (root / "x.png").symlink_to(GOOD[0]), (), 0),
    "a second name of an image": (lambda root: (root / "x.png").hardlink_to(root / GOOD[0]), ("x.png",), 0),
    "links to one image outside": (
        lambda root: links(root, {f"{k}.png": str(save(root.parent / "far.png")) for k in range(3)}),
        ("0.png",),
        0,
    ),
    "a pipe": (lambda root: os.mkfifo(root / "x.jpg"), (), 0),
    "a socket": (lambda root: listening(root / "x.jpg"), (), 0),
    "a device by a link": (lambda root: (root / "x.jpg").symlink_to("/dev/zero"), (), 0),
    "a terminal by a link": (lambda root: (root / "x.jpg").symlink_to("/dev/tty"), (), 0),
    "a folder named as an image": (lambda root: (root / "x.jpg").mkdir(), (), 0),
    "an image in a folder named as one": (lambda root: save(root / "x.jpg" / "y.png"), ("x.jpg/y.png",), 0),
    "an empty folder": (lambda root: (root / "empty").mkdir(), (), 0),
    "a hidden folder": (lambda root: save(root / ".hidden" / "x.png"), (), 0),
    "a hidden image": (lambda root: save(root / ".x.png"), (), 0),
    "a name of 255 bytes": (lambda root: save(root / ("n" * 251 + ".png")), ("n" * 251 + ".png",), 0),
    "a name that is not UTF-8": (
        lambda root: save(root / os.fsdecode(b"\xff\xfe.png")),
        (os.fsdecode(b"\xff\xfe.png"),),
        0,
    ),
    "escape codes in a name": (lambda root: save(root / "\x1b[31mx.png"), ("\x1b[31mx.png",), 0),
    "escape codes in a bad one's name": (lambda root: (root / "\x1b]0;x\x07.png").write_bytes(b"no"), (), 1),
    "a line break in a name": (lambda root: save(root / "x\ny.png"), ("x\ny.png",), 0),
    "markup in a name": (lambda root: save(root / "[red]x[/red].png"), ("[red]x[/red].png",), 0),
    "right to left in a name": (lambda root: save(root / "x\u202egnp.png"), ("x\u202egnp.png",), 0),
    "spaces in a name": (lambda root: save(root / " .png"), (" .png",), 0),
    "a name like a flag": (lambda root: save(root / "--out.png"), ("--out.png",), 0),
    "suffixes in both cases": (
        lambda root: [save(root / "x.PNG"), save(root / "x.png")],
        ("x.PNG", "x.png"),
        0,
    ),
    "an empty file": (lambda root: (root / "x.png").touch(), (), 1),
    "a file of 100 GB, all of it a hole": (lambda root: os.truncate(save(root / "x.webp"), 10**11), (), 1),
    "folders in a hundred folders": (lambda root: deep(root, "d", 100), ("d/" * 100 + "deep.png",), 0),
    "folders in a thousand folders": (lambda root: deep(root, "d", 1000), ("d/" * 1000 + "deep.png",), 0),
    "a path longer than there may be": (lambda root: deep(root, "d" * 100, 100), (), 1),
    "a file without permission": (lambda root: save(root / "x.png").chmod(0), () if not IS_ROOT else ("x.png",), 1),
    "a folder without permission": (lambda root: save(root / "shut" / "x.png").parent.chmod(0), (), 1),
}  # fmt: skip


SLOW = ("folders in a thousand folders",)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in LISTED])
def test_what_is_listed(tmp_path: Path, name: str) -> None:
    trap, further, bad = LISTED[name]
    if IS_ROOT and "without permission" in name:
        pytest.skip("root may read everything")
    root = good(tmp_path / "root")
    try:
        trap(root)
        names, skipped = seen(open_folder(root))
        assert sorted(names) == sorted((*GOOD, *further))
        assert len(skipped) == bad
        assert glance(DataSettings(source=str(root)), 0).images >= len(names)  # it does not look where links lead
    finally:
        for path in (root / "shut", root / "x.png"):
            if path.exists() and not path.is_symlink():
                path.chmod(0o700)
        subprocess.run(["rm", "-rf", str(root)], check=False)  # deeper than Python's own goes


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


AFTERWARDS: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "a pipe": lambda path: replaced(path, os.mkfifo),
    "a folder": lambda path: replaced(path, Path.mkdir),
    "a socket": lambda path: replaced(path, listening),
    "a link to a device": lambda path: replaced(path, lambda p: p.symlink_to("/dev/zero")),
    "a link to random numbers": lambda path: replaced(path, lambda p: p.symlink_to("/dev/urandom")),
    "a link to itself": lambda path: replaced(path, lambda p: p.symlink_to(p.name)),
    "cut off": lambda path: os.truncate(path, 40),
    "empty": lambda path: os.truncate(path, 0),
    "another kind of file": lambda path: path.write_text("no image"),
}


@pytest.mark.parametrize("name", AFTERWARDS)
def test_what_changes_after_it_is_listed(tmp_path: Path, name: str) -> None:
    root = good(tmp_path)
    trap = save(root / "b" / "x.png")
    source = open_folder(root)
    AFTERWARDS[name](trap)
    names, skipped = seen(source)
    assert names == list(GOOD)
    assert [skip.path for skip in skipped] == [str(trap)]
    assert "longer than" not in skipped[0].reason  # it is refused at once


def test_a_folder_that_is_deleted_after_it_is_listed(tmp_path: Path) -> None:
    source = open_folder(good(tmp_path / "root"))
    shutil.rmtree(tmp_path / "root")
    with pytest.raises(DataError, match="2 of 2 images"):
        seen(source)


def test_links_whose_files_are_deleted_while_they_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = good(tmp_path / "root")
    far = save(tmp_path / "far.png")
    (root / "link.png").symlink_to(far)
    walk = search.walk

    def deleting(*given: object) -> object:
        found = list(walk(*given))  # type: ignore[arg-type]
        far.unlink()
        (root / GOOD[0]).unlink()
        return iter(found)

    monkeypatch.setattr(search, "walk", deleting)
    assert len(open_folder(root)) == 2  # the deleted one is skipped where it is read


@pytest.mark.parametrize("size", [100, 70 * 2**20])
def test_a_file_that_grows_is_read_as_it_was(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.webp"
    path.write_bytes(b"RIFF")
    os.truncate(path, size)
    with open_regular(path) as file:
        with path.open("ab") as more:
            more.write(bytes(1000))
        assert len(file.read()) == size


def test_a_file_that_grows_all_the_while_does_not_hold_up_a_read(tmp_path: Path) -> None:
    root, stop = good(tmp_path), threading.Event()
    path = save(root / "b" / "x.webp")

    def grow() -> None:
        with path.open("ab") as file:
            while not stop.is_set():
                file.write(bytes(4096))

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        names, _ = seen(open_folder(root))
    finally:
        stop.set()
        thread.join()
    assert set(GOOD) <= set(names)


def test_too_large_a_file_is_refused_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.touch()
    os.truncate(path, MOST + 1)
    with pytest.raises(DataError, match=r"it has 4.3 GB; at most 4.3 GB are read"):
        open_regular(path)


def test_an_array_without_its_numbers_takes_no_memory(tmp_path: Path) -> None:
    root = good(tmp_path)
    np.save(root / "b" / "x.npy", np.zeros((20, 20, 3), np.uint8))
    source = open_folder(root)
    (root / "b" / "x.npy").write_bytes(
        (root / "b" / "x.npy").read_bytes().replace(b"(20, 20, 3)", b"(13300, 13300, 3)")
    )
    names, skipped = seen(source)
    assert names == list(GOOD)
    assert "damaged" in skipped[0].reason


class Hanging(Files):
    """Images on a network disk that is gone for one of them."""

    release = threading.Event()

    def read(self, index: int, cap: int | None = None) -> torch.Tensor:
        if self.path(index).endswith("gone.png"):
            self.release.wait()
        return super().read(index, cap)


def test_a_disk_that_is_gone_costs_the_file_and_not_the_run(tmp_path: Path) -> None:
    for k in range(12):
        save(tmp_path / f"{k:02}.png", k)
    save(tmp_path / "gone.png")
    found = open_folder(tmp_path)
    source = Hanging(found.name, found.parts)
    try:
        loader = Loader(source, 4, 0, threads=2, deadline=0.5)
        batches = list(loader.batches(0, 9))
    finally:
        Hanging.release.set()
    assert [skip.path for skip in loader.skipped] == [str(tmp_path / "gone.png")]
    assert "longer than 0.5 seconds" in loader.skipped[0].reason
    assert all(len(batch) == 4 and 12 not in batch.index for batch in batches)


@pytest.mark.slow
def test_a_hundred_thousand_files(tmp_path: Path) -> None:
    root = good(tmp_path)
    folder = root / "many"
    folder.mkdir()
    whole = (root / GOOD[0]).read_bytes()
    (folder / "0.png").write_bytes(whole)
    for k in range(1, 100_000):
        if k % 10_000:
            (folder / f"{k}.png").hardlink_to(folder / f"{k - k % 10_000}.png")
        else:
            (folder / f"{k}.png").write_bytes(whole)
    assert len(open_folder(root)) == 100_002


RUN = [
    "--batch", "4", "--epochs", "1", "--image-size", "16", "--width", "0.0625", "--precision", "fp32",
    "--set", "run.evaluate=false",
]  # fmt: skip


@pytest.mark.slow
def test_a_run_prints_no_escape_code_of_a_name(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for k in range(12):
        save(root / f"\x1b[31mclass\n[red]{k % 2}" / f"\x1b]0;{k}\x07.png", k)
    damaged = root / "\x1b[31mclass\n[red]0" / "\x1b[2J.tif"
    Image.effect_noise((80, 60), 90).save(damaged, "TIFF", compression="tiff_lzw")
    damaged.write_bytes(damaged.read_bytes()[:200] + b"\xff" * 100 + damaged.read_bytes()[300:])
    os.mkfifo(root / "\x1b[31mclass\n[red]0" / "\x1b[5m.png")
    done = subprocess.run(
        [sys.executable, "-m", "ssl_cli", "pretrain", str(root), "--out", str(tmp_path / "run"), *RUN],
        capture_output=True, check=False, timeout=300, env={**os.environ, "CI": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"tempfile.tif" not in done.stderr  # libtiff's own line
    log = (tmp_path / "run" / "train.log").read_bytes()
    assert b"\x1b" not in log
    assert b"tempfile.tif" in log
