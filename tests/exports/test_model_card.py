"""The model card: its program computes the run's own h, names no place of this machine, replaces no other file."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ssl_cli
from ssl_cli import status
from ssl_cli.config.tree import Settings
from ssl_cli.data.decode import decode
from ssl_cli.events import Evaluated, Warned
from ssl_cli.exports import model_card
from ssl_cli.exports.record import _measured, preprocessing_of
from ssl_cli.exports.write import write
from ssl_cli.formats.description import describe_preprocessing
from ssl_cli.formats.request import Options
from tests.engine.toy_run import toy_settings, write_run


def settings_of(**data: Any) -> Settings:
    """Settings of 80 pixels, at which the test transform crops, normalised."""
    named = toy_settings(size=80, **data).model_dump(mode="json")
    named["augment"]["order"] = ["crop", "normalize"]
    return Settings.model_validate(named)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, settings_of())
    (folder / "eval").mkdir()
    result = {"top1": 0.5, "top5": 0.75, "k": 20, "queries": 40, "baselines": {"pixels": 0.25}}
    (folder / "eval" / "knn.json").write_text(json.dumps({"result": result}))
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a network that torchvision and timm have."""
    folder = tmp_path_factory.mktemp("whole")
    named = settings_of().model_dump(mode="json")
    named["model"] |= {"width": 1.0, "stem": "imagenet"}
    write_run(folder, Settings.model_validate(named))
    return folder


def exported(run: Path, output: Path, **options: Any) -> dict[str, Any]:
    events = list(write(str(run), output, Options(**options)))
    assert isinstance(events[-1], Evaluated)
    return dict(events[-1].result)


def program(text: str) -> str:
    (found,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return str(found)


PICTURES = {"turned": ("image.jpg", 6), "transparent": ("image.png", 1)}


def write_picture(path: Path, kind: str) -> Path:
    """Write a smooth picture that turning, or the ground below it, changes much."""
    draw = np.random.default_rng(1)
    name, turn = PICTURES[kind]
    picture = Image.fromarray(draw.integers(0, 256, (5, 8, 3), np.uint8)).resize((96, 64), Image.Resampling.BICUBIC)
    if kind == "transparent":
        opacity = np.zeros((64, 96), np.uint8)
        opacity[16:40, 8:60] = np.arange(52) * 4
        picture.putalpha(Image.fromarray(opacity))
    exif = Image.Exif()
    exif[0x0112] = turn
    picture.save(path / name, exif=exif, quality=95)
    return path / name


FORMS: list[Any] = [
    ("encoder.onnx", {}, "run"),
    ("encoder.safetensors", {}, "run"),
    ("encoder.pth", {"to": "torchvision"}, "whole"),
    *(
        pytest.param(*form, marks=pytest.mark.slow)
        for form in (
            ("encoder.onnx", {"input_kind": "uint8-nhwc"}, "run"),
            ("encoder.pt2", {}, "run"),
            ("encoder.pth", {"to": "timm"}, "whole"),
            ("encoder.safetensors", {}, "whole"),
        )
    ),
]


@pytest.mark.parametrize(("name", "options", "which"), FORMS)
def test_ten_lines_compute_what_the_run_does(
    name: str, options: dict[str, Any], which: str, run: Path, whole: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for library in ("timm",) if options.get("to") == "timm" else ("safetensors",) if "safetensors" in name else ():
        pytest.importorskip(library)
    source = whole if which == "whole" else run
    exported(source, tmp_path / name, **options)
    lines = program((tmp_path / "MODEL_CARD.md").read_text())
    assert len([line for line in lines.splitlines() if line]) <= 12
    draw = np.random.default_rng(0)
    smooth = Image.fromarray(draw.integers(0, 256, (6, 9, 3), np.uint8)).resize((150, 100), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(lines.replace("image.jpg", "image.png"), found)
    encoder = ssl_cli.load(source, device="cpu")
    wanted = encoder.encode(tmp_path / "image.png")
    h = torch.as_tensor(found["h"])
    assert h.shape == wanted.shape
    assert torch.cosine_similarity(h, wanted).item() > 0.9995  # Pillow rounds what it resizes to 8 bits
    torch.testing.assert_close(h, wanted, atol=0.05 * float(wanted.abs().max()), rtol=0)
    for kind in PICTURES:
        picture = write_picture(tmp_path, kind)
        exec(lines.replace("image.jpg", picture.name), found)
        wanted, raw = (encoder.encode(given) for given in (picture, np.asarray(Image.open(picture).convert("RGB"))))
        assert torch.cosine_similarity(torch.as_tensor(found["h"]), wanted).item() > 0.999, kind
        assert torch.cosine_similarity(raw, wanted).item() < 0.999, kind


@pytest.mark.parametrize("kind", PICTURES)
def test_the_readme_opens_pictures_as_encode_does(kind: str, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "InferenceSession" in block)
    found: dict[str, Any] = {}
    exec(block.partition("session =")[0], found)
    picture = write_picture(tmp_path, kind)
    np.testing.assert_allclose(
        found["opened"](picture), decode(picture).permute(1, 2, 0).numpy(), atol=1
    )  # alpha is rounded


@pytest.mark.parametrize("in_graph", [True, False])
def test_the_metadata_says_what_the_caller_does_to_a_picture(in_graph: bool) -> None:
    facts = describe_preprocessing(preprocessing_of(settings_of()), in_graph=in_graph)
    assert (facts["orientation"], facts["transparency"]) == ("exif", "white")
    assert model_card._words(facts).startswith("The caller turns a picture upright by its EXIF orientation and lays")
    assert describe_preprocessing(preprocessing_of(toy_settings(channels=4)), in_graph=in_graph)["transparency"] is None


def test_it_says_what_the_encoder_is_and_names_no_place(run: Path, tmp_path: Path) -> None:
    result = exported(run, tmp_path / "encoder.safetensors")
    text = (tmp_path / "MODEL_CARD.md").read_text()
    assert result["model_card"] == str(tmp_path / "MODEL_CARD.md")
    for word in (result["sha256"], "resnet18, width 0.0625", "simclr", "Images drawn by sslcli", "kNN: top-1 50.0 %",
                 "pixels 25.0 %", "k 20", "None is stated", "short side to 91 pixels"):  # fmt: skip
        assert word in text, word
    for trace in (str(run), str(tmp_path), str(Path.home()) + "/", str(Path(__file__).parents[2])):
        assert trace not in text
    (table,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    settings = tomllib.loads(table)
    assert settings["method"]["name"] == "simclr"
    assert settings["model"]["width"] == 0.0625
    (facts,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert json.loads(facts)["resize_short_side"] == 91


def test_the_end_of_training_and_the_cost_of_rounding_are_said(tmp_path: Path) -> None:
    ways = {"trained": {"top1": 0.25}, "untrained": {"top1": 0.125}, "pixels": {"top1": "x"}}
    (tmp_path / "run").mkdir()
    status.write(tmp_path / "run", "0" * 32, "finished", 0, "", {"measure": "knn", **ways})
    assert list(_measured(tmp_path / "run")) == ["at the end of training: kNN top-1 25.0 % (untrained 12.5 %)"]
    result = {"numbers": "int8", "float32_bytes": 2_000_000, "knn": {"int8": 0.5, "float32": 0.625}}
    assert model_card._rounding(result) == "int8, rounded from 2.0 MB of float32; kNN top-1 50.0 %, 62.5 % in float32"


def test_images_and_fingerprint_are_those_of_the_plan(tmp_path: Path) -> None:
    text = model_card._data(toy_settings(source="photos"), {"number": 1234, "fingerprint": "ab12"})
    assert "1,234 images" in text
    assert "`ab12`" in text
    assert "photos" not in text


@pytest.mark.parametrize("edited", [False, True])
def test_a_model_card_is_replaced_only_as_it_was_written(run: Path, tmp_path: Path, edited: bool) -> None:
    path, output = tmp_path / "MODEL_CARD.md", tmp_path / "encoder.safetensors"
    exported(run, output)
    if edited:
        path.write_text(path.read_text().replace("None is stated", "MIT"))
    before = path.read_text()
    (run / "eval" / "linear.json").write_text(json.dumps({"result": {"top1": 0.625}}))
    result = exported(run, output)
    (run / "eval" / "linear.json").unlink()
    if edited:
        assert path.read_text() == before
        assert result["model_card"] == str(tmp_path / "encoder.safetensors.MODEL_CARD.md")
        assert "62.5 %" in Path(result["model_card"]).read_text()
    else:
        assert "62.5 %" in path.read_text()
        assert len(list(tmp_path.iterdir())) == 2


def test_another_s_file_is_never_touched(run: Path, tmp_path: Path) -> None:
    for name in ("MODEL_CARD.md", "encoder.safetensors.MODEL_CARD.md"):
        (tmp_path / name).write_text("mine")
    events = list(write(str(run), tmp_path / "encoder.safetensors", Options()))
    assert [event.message for event in events if isinstance(event, Warned)] == [
        f"{tmp_path}/MODEL_CARD.md was edited, or not written by sslcli: no model card was written."
    ]
    assert isinstance(events[-1], Evaluated)
    assert events[-1].result["model_card"] is None
    assert {path.read_text() for path in tmp_path.glob("*.md")} == {"mine"}


def test_two_files_in_a_folder_have_one_each(run: Path, tmp_path: Path) -> None:
    exported(run, tmp_path / "a.safetensors")
    first = (tmp_path / "MODEL_CARD.md").read_text()
    exported(run, tmp_path / "b.safetensors")
    assert (tmp_path / "MODEL_CARD.md").read_text() == first
    assert "b.safetensors" in (tmp_path / "b.safetensors.MODEL_CARD.md").read_text()


@pytest.mark.parametrize("data", [{"channels": 1}, {"channels": 5}, {"range": (0.0, 4000.0)}])
def test_a_program_for_other_images_runs(data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("safetensors")
    write_run(tmp_path / "run", toy_settings(**data))
    exported(tmp_path / "run", tmp_path / "encoder.safetensors")
    Image.new("L", (40, 30)).save(tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(program((tmp_path / "MODEL_CARD.md").read_text()), found)
    assert found["h"].shape == (1, 32)
