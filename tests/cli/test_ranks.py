"""`--devices` against what there is: refused before anything is read or trained, in a dry run too."""

from pathlib import Path

import pytest
import torch

from ssl_cli.cli import main


def test_a_number_of_devices_that_is_not_the_launcher_s_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert main(["pretrain", "--devices", "2"]) == 2
    assert "another launcher has started 4 ranks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"), [(["--device", "cuda:1"], "is one GPU"), (["--device", "cuda"], "There are 1 GPUs here, not 2")]
)
def test_a_dry_run_refuses_what_the_run_would(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # restored after the test
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert main(["pretrain", "--devices", "2", "--dry-run", *words]) == 2
    assert said in capsys.readouterr().err
