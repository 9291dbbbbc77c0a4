"""Paths as users write them: homes of users that there are are expanded, others are refused like any missing folder."""

from pathlib import Path

import pytest
import torch

from ssl_cli.augment.sheet import png
from ssl_cli.cli import main
from ssl_cli.names import expanded

NOBODY = "~there-is-no-such-user"


def test_a_home_is_expanded() -> None:
    assert expanded("~/photos") == Path.home() / "photos"
    assert expanded("photos/~") == Path("photos/~")


@pytest.mark.parametrize("name", [NOBODY, f"{NOBODY}/photos", "~0"])
def test_the_home_of_nobody_is_a_name_like_any_other(name: str) -> None:
    assert expanded(name) == Path(name)


@pytest.mark.parametrize(
    "words",
    [
        ["pretrain", NOBODY, "--dry-run"],
        ["pretrain", "~0", "--epochs", "1"],
        ["pretrain", "photos", "--test-data", NOBODY, "--dry-run"],
        ["inspect-augs", NOBODY],
        ["pretrain", "--set", f"data.source={NOBODY}"],
    ],
)
def test_it_is_refused_as_a_missing_folder(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0.png").write_bytes(png(torch.zeros(3, 8, 8, dtype=torch.uint8)))
    assert main(words) == 3
    assert capsys.readouterr().err.startswith("error: ")
