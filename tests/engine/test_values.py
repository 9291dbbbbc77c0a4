"""A run on images of 12 bits: range and normalisation are measured once; plan, resume and export have them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ssl_cli
from ssl_cli.augment import evaluation
from ssl_cli.cli import main
from ssl_cli.config.start import for_finetuning
from ssl_cli.config.toml_file import parse_toml
from ssl_cli.data import measured as module
from ssl_cli.data.decode import decode
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.evaluation.features import encode, open_run
from ssl_cli.exports.record import preprocessing_of
from ssl_cli.formats.description import as_text, describe_preprocessing
from ssl_cli.nn.evaluating import evaluating
from tests.data.files import png, tiff

SMALL = [
    "--epochs", "1", "--batch", "8", "--image-size", "8", "--width", "0.0625", "--device", "cpu", "--precision", "fp32",
    "--set", "hardware.memory_format=channels_last", "--set", "run.evaluate=false", "--set", "run.monitor=false",
    "--set", "data.normalize=measured", "--set", "data.range=auto", "--set", "data.depth=auto",
    "--recipe", "shapes",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draw = tmp_path_factory.mktemp("cells"), np.random.default_rng(0)
    for k in range(16):
        x = draw.integers(0, 500 + 3500 * (k % 2), (12, 12)).astype(np.uint16)
        x[0, :2] = 0, 500 + 3500 * (k % 2)
        place = folder / "cells" / ("bright" if k % 2 else "dim")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{k}.{'tif' if k % 3 else 'png'}").write_bytes(tiff(x) if k % 3 else png(x, 0))
    assert main(["pretrain", str(folder / "cells"), "--out", str(folder / "run"), *SMALL]) == 0
    return folder / "run"


def test_the_plan_says_what_was_measured_and_the_run_holds_it(run: Path) -> None:
    plan = json.loads((run / "plan.json").read_text())
    rows = {row["name"]: (row["value"], row["reason"]) for row in plan["choices"]}
    assert rows["range"] == (
        "0 to 4000", "16-bit numbers in 16 of 16 sampled files; black and white of the whole set",
    )  # fmt: skip
    assert rows["depth"] == (
        "16 bits", "16-bit numbers in 16 of 16 sampled files; --set data.depth=8 takes half the memory",
    )  # fmt: skip
    assert rows["normalised by"][1] == "measured on 16 of 16 images"
    table = parse_toml((run / "settings.toml").read_text())
    assert (table["data"]["range"], table["data"]["depth"]) == ([0, 4000], 16)
    assert table["augment"]["normalize"]["mean"][0] == pytest.approx(0.28, abs=0.03)
    assert "normalize" not in table["augment"]["order"]
    settings = open_run(str(run), "cpu").settings
    assert settings.data.value_range == pytest.approx((0, 4000))
    assert settings.views.order[-1] == "normalize"
    source = open_pretraining(settings.data, 0)
    dim = [k for k in range(len(source)) if "dim" in source.path(k)]
    assert max(int(source.read(k).max()) for k in dim) == round(500 / 4000 * 32767)


def test_a_resume_measures_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(module, "read_numbers", measured)
    monkeypatch.setattr(module, "_normalised", measured)
    before = (run / "settings.toml").read_text()
    assert main(["pretrain", "--resume", "--out", str(run), *SMALL]) == 0  # the same command line, as of a queue
    assert (run / "settings.toml").read_text() == before
    assert main(["pretrain", "--resume", "--out", str(run), "--set", "data.range=[0, 9]"]) == 2
    assert main(["pretrain", "--resume", "--out", str(run), "--set", "data.range=per-image"]) == 2
    assert main(["pretrain", "--resume", "--out", str(run), "--set", "data.depth=8"]) == 2


@pytest.mark.slow
def test_a_run_that_is_resumed_has_the_same_weights(run: Path, tmp_path: Path) -> None:
    more = ["--epochs", "3", "--set", "run.checkpoint_every=1", "--set", "data.threads=1", "--set", "data.cache=disk"]
    weights = []
    for out, interrupted in (("whole", False), ("resumed", True)):
        words = ["pretrain", str(run.parent / "cells"), "--out", str(tmp_path / out), *SMALL, *more]
        words += ["--set", f"data.cache_folder={tmp_path / 'cache'}"]
        assert main(words) == 0
        last = tmp_path / out / "checkpoints" / "step_00000006.pt"
        if interrupted:
            for path in (last, last.with_suffix(".json")):
                path.unlink()
            assert main(["pretrain", "--resume", "--out", str(tmp_path / out)]) == 0
        weights.append(torch.load(last, weights_only=True)["objective"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_evaluations_and_python_read_as_the_run_does(run: Path) -> None:
    trained = open_run(str(run), "cpu")
    source = open_pretraining(trained.settings.data, 0)
    pixels = [decode(Path(source.path(k)), value_range=(0, 4000), depth=16) for k in range(16)]
    with evaluating(trained.objective), torch.no_grad():
        x = evaluation.fit(pixels, 8, trained.settings.views)
        wanted = trained.objective.represent(x)
        rows = encode({"h": trained.objective.represent}, source, trained.settings, device=torch.device("cpu")).h["h"]
        coarse = [decode(Path(source.path(k)), value_range=(0, 4000)) for k in range(16)]
        other = trained.objective.represent(evaluation.fit(coarse, 8, trained.settings.views))
    given = ssl_cli.load(run, device="cpu").encode([source.path(k) for k in range(16)])
    apart = float((other - wanted).abs().max())
    for found in (rows, given):
        assert float((found - wanted).abs().max()) < apart / 20


def test_an_export_names_the_range_and_the_normalisation(run: Path) -> None:
    preprocessing = preprocessing_of(open_run(str(run), "cpu").settings)
    found = json.loads(as_text(describe_preprocessing(preprocessing, in_graph=False)))
    assert (found["range"], found["depth"]) == ([0, 4000], 16)
    assert describe_preprocessing(preprocessing, in_graph=True)["depth"] == 8
    table = parse_toml((run / "settings.toml").read_text())
    assert found["mean"] == pytest.approx(table["augment"]["normalize"]["mean"])


def test_what_starts_from_the_run_reads_as_it_does(run: Path) -> None:
    settings = open_run(str(run), "cpu").settings
    given = for_finetuning(settings, "100%")
    assert (given["data.range"], given["data.depth"]) == (settings.data.value_range, 16)
    assert given["augment.normalize.mean"] == settings.augment.normalize.mean
    assert given["augment.order"][-1] == "normalize"


@pytest.mark.slow
def test_a_dry_run_says_so_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["pretrain", str(run.parent / "cells"), "--dry-run", "--json", *SMALL]) == 0
    assert "0 to 4000" in capsys.readouterr().out
