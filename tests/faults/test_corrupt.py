"""The newest checkpoint is damaged in every way: it is noticed, and the one before is used; if all are, it is said."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_cli import checkpoint
from ssl_cli.errors import CheckpointError
from tests.faults.scripts import KEEP, state

Damage = Callable[[Path], object]
FLIPS, LENGTHS = 64, 16


def flip(share: float, bit: int) -> Damage:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(share * len(data))] ^= 1 << bit
        path.write_bytes(data)

    return damage


def cut(share: float) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def at(marker: bytes, last: bool = False) -> Damage:
    """Overwrite four bytes where the marker is."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        place = data.rfind(marker) if last else data.find(marker)
        assert place >= 0
        data[place : place + 4] = b"\xff\xfe\xfd\xfc"
        path.write_bytes(data)

    return damage


def facts(change: Callable[[dict[str, object]], object]) -> Damage:
    def damage(path: Path) -> None:
        found = json.loads(path.with_suffix(".json").read_text())
        change(found)
        path.with_suffix(".json").write_text(json.dumps(found))

    return damage


def digest(content: bytes) -> Damage:
    return lambda path: path.with_suffix(".json").write_bytes(content)


def both(path: Path) -> None:
    path.write_bytes(b"")
    path.with_suffix(".json").unlink()


def without_digest(damage: Damage) -> Damage:
    def damaged(path: Path) -> None:
        damage(path)
        path.with_suffix(".json").unlink()

    return damaged


CHANCE = random.Random(1)
DAMAGES: dict[str, Damage] = {
    **{f"flip {n}": flip(CHANCE.random(), CHANCE.randrange(8)) for n in range(FLIPS)},
    **{f"cut {n}": cut(n / LENGTHS) for n in range(LENGTHS)},
    "zip header": at(b"PK\3\4"),
    "last zip header": at(b"PK\3\4", last=True),
    "central directory": at(b"PK\1\2"),
    "end of central directory": at(b"PK\5\6", last=True),
    "pickle": at(b"\x80\x02}"),
    "tensor": at(b"\0\0\0\x40\0\0\x40\x40"),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "the content of the one before": lambda path: path.write_bytes(min(path.parent.glob("*.pt")).read_bytes()),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "digest of another": facts(lambda found: found.update(sha256="0" * 64)),
    "digest a number": facts(lambda found: found.update(sha256=7)),
    "no digest": facts(lambda found: found.pop("sha256")),
    "another run": facts(lambda found: found.update(run="other")),
    "json cut": digest(b'{"schema": 1, "sha'),
    "json empty": digest(b""),
    "json of 2 MB": digest(b"[" + b"0," * (1 << 20)),
    "json a list": digest(b"[]"),
    "both gone": both,
    "cut without its digest": without_digest(cut(0.7)),
    "flip without its digest": without_digest(at(b"\0\0\0\x40\0\0\x40\x40")),
}


def saved(folder: Path) -> Path:
    for step in (1, 2):
        path = checkpoint.save(folder, state(step), KEEP, "this")
    return path


@pytest.mark.parametrize("kind", DAMAGES)
def test_it_is_noticed_and_the_one_before_is_used(kind: str, tmp_path: Path) -> None:
    DAMAGES[kind](saved(tmp_path))
    found, warnings = checkpoint.newest(tmp_path, "this")
    assert found is not None
    assert found["step"] == 1
    assert "step_00000002" in warnings[0]


@pytest.mark.parametrize(
    "kind", [kind for kind in DAMAGES if kind not in {"the content of the one before", "another run"}]
)
def test_if_all_are_damaged_it_is_said(kind: str, tmp_path: Path) -> None:
    saved(tmp_path)
    for path in tmp_path.glob("*.pt"):
        DAMAGES[kind](path)
    with pytest.raises(CheckpointError, match="None of the checkpoints"):
        checkpoint.newest(tmp_path, "this")
