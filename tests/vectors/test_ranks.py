"""Several ranks write the file that one writes, bit for bit, and continue one another's."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssl_cli import distributed
from ssl_cli.cli import main
from ssl_cli.errors import DataError
from ssl_cli.events import Encoded, Evaluated, Event, Skipped
from ssl_cli.vectors import embed as embedding
from ssl_cli.vectors import ranks
from ssl_cli.vectors.embed import embed

PARTS = 4
"""Of three images, in a set of ten."""
Make = Callable[..., list[Event]]


@pytest.fixture
def by_ranks(run: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(embedding, "PART", 3)

    def made(size: int, output: Path, data: Path, start: int = 0) -> list[Event]:
        """Embed as each rank of a world of this size in turn, rank 0 last; return its events."""
        sent: list[list[bytes]] = [[] for _ in range(size)]
        found: list[Event] = []
        for own in reversed(range(size)):

            def gather(data: bytes, own: int = own) -> list[bytes]:
                sent[own].append(data)
                return [of[len(sent[own]) - 1] for of in sent] if own == 0 else []

            def broadcast(data: bytes, own: int = own) -> bytes:
                identity, first = json.loads(data)
                assert own or first == start
                return json.dumps([identity, start]).encode()

            monkeypatch.setattr(distributed, "world_size", lambda: size)
            monkeypatch.setattr(distributed, "rank", lambda own=own: own)
            monkeypatch.setattr(distributed, "gather_bytes", gather)
            monkeypatch.setattr(distributed, "broadcast_bytes", broadcast)
            found = list(embed(str(run), output, str(data), device="cpu"))
            assert bool(found) == (own == 0)
        return found

    return made


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_file_is_that_of_one_process(by_ranks: Make, photos: Path, tmp_path: Path, size: int) -> None:
    by_ranks(1, tmp_path / "one.npy", photos)
    found = by_ranks(size, tmp_path / "several.npy", photos)
    assert (tmp_path / "several.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()
    assert (tmp_path / "several.paths.csv").read_bytes() == (tmp_path / "one.paths.csv").read_bytes()
    assert [event.done for event in found if isinstance(event, Encoded)] == list(range(0, 10, 3 * size))
    assert isinstance(found[-1], Evaluated)
    assert found[-1].result["images"] == 10


def test_images_of_any_rank_that_cannot_be_read_are_named(by_ranks: Make, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for path in photos.rglob("*.png"):
        (tmp_path / "set" / f"{path.parent.name} {path.name}").write_bytes(path.read_bytes())
    for bad in ("cats c.png", "dogs ü.png"):  # the second one is a part of its own
        (tmp_path / "set" / bad).write_bytes(b"no image")
    found = by_ranks(2, tmp_path / "v.npy", tmp_path / "set")
    assert [Path(event.path).name for event in found if isinstance(event, Skipped)] == ["cats c.png", "dogs ü.png"]
    assert np.load(tmp_path / "v.npy").shape[0] == 8


@pytest.mark.parametrize("rows", [4, 5, 6])
def test_what_one_process_left_several_continue(
    by_ranks: Make, run: Path, photos: Path, tmp_path: Path, rows: int
) -> None:
    """Rows of a part of which some are lost are made anew, with the others of their part."""
    by_ranks(1, tmp_path / "one.npy", photos)
    output = tmp_path / "v.npy"
    events = embed(str(run), output, str(photos), device="cpu")
    while (event := next(events)) and not (isinstance(event, Encoded) and event.done == 6):
        pass
    events.close()  # type: ignore[attr-defined]
    rest = output.with_name(".v.npy.partial")
    size = rest.stat().st_size // 6
    os.truncate(rest, rows * size)
    found = by_ranks(2, output, photos, start=rows // 3 * 3)
    assert isinstance(found[-1], Evaluated)
    assert found[-1].result["continued_at"] == rows // 3 * 3
    assert output.read_bytes() == (tmp_path / "one.npy").read_bytes()


def test_a_rank_with_other_images_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "broadcast_bytes", lambda data: b'[{"images": ["a", 3]}, 6]')
    assert ranks.agreed({"images": ("a", 3)}, 0) == 6
    with pytest.raises(DataError, match="Rank 1 has another checkpoint"):
        ranks.agreed({"images": ["a", 4]}, 0)


def test_a_list_on_stdin_is_for_one_process(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", str(run), "-", "-o", str(tmp_path / "v.npy"), "--devices", "2"]) == 2
    assert "one process alone" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_and_a_kill(run: Path, photos: Path, tmp_path: Path) -> None:
    """Real ranks, one of which dies: the other ends, and three continue."""
    paths = [str(tmp_path), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    hook = (
        "import os\n"
        "def patch():\n"
        "    from ssl_cli.vectors import embed\n"
        "    embed.PART, whole = 2, embed.encode\n"
        "    def encode(*args, **given):\n"
        "        if os.environ.get('DIES') == os.environ.get('RANK') and len(done) == 1: os.kill(os.getpid(), 9)\n"
        "        done.append(1)\n"
        "        return whole(*args, **given)\n"
        "    done = []\n"
        "    embed.encode = encode\n"
    )
    (tmp_path / "patched.py").write_text(hook)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif os.environ.get('RANK'):\n    import atexit, builtins\n    import patched; patched.patch()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}

    def embedded(name: str, *words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "ssl_cli", "embed", str(run), str(photos), "-o", str(tmp_path / name), *words]
        return subprocess.run(
            [*command, "--device", "cpu", "--json"], env={**environment, **more}, capture_output=True, timeout=300,
            check=False,
        )  # fmt: skip

    killed = embedded("v.npy", "--devices", "2", DIES="1")
    assert killed.returncode == 75, killed.stderr.decode()
    assert b"Rank 1 of 2 (from 0) was ended by SIGKILL" in killed.stdout + killed.stderr
    assert not (tmp_path / "v.npy").exists()
    several = embedded("v.npy", "--devices", "3")
    assert several.returncode == 0, several.stderr.decode()
    assert json.loads(several.stdout)["continued_at"] == 4
    whole = embedded("one.npy", RANK="0")  # in parts of two, too
    assert whole.returncode == 0, whole.stderr.decode()
    assert (tmp_path / "v.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()
