"""Fine-tuning and distillation as runs: they resume exactly, divide exactly, and read the test images once."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli import checkpoint, disk
from ssl_cli.cli import main
from ssl_cli.config.start import Request
from ssl_cli.engine.evaluation.features import open_run
from ssl_cli.transfer.start import settle_start
from tests.data.pictures import folder, save

TINY = ["--device", "cpu", "--precision", "fp32", "--set", "hardware.memory_format=channels_last"]
EVERY = ["--set", "run.checkpoint_every=1", "--batch", "8"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of SimCLR v2 with its head of three layers, on the embedded set at 8 pixels."""
    out = tmp_path_factory.mktemp("pretrained") / "run"
    words = ["--method", "simclr-v2", "--width", "0.0625", "--image-size", "8", "--epochs", "1", "--batch", "32"]
    words += ["--set", "data.images=96", "--set", "run.evaluate=false", "--set", "run.monitor=false", "--seed", "2"]
    assert main(["pretrain", "--out", str(out), *words, *TINY]) == 0
    return out


@pytest.fixture(scope="module")
def tuned(pretrained: Path) -> Path:
    out = pretrained.with_name("tuned")
    assert (
        main(
            ["finetune", str(pretrained), "--labels", "2-per-class", "--epochs", "2", "--out", str(out), *TINY, *EVERY]
        )
        == 0
    )
    return out


@pytest.fixture(scope="module")
def distilled(tuned: Path) -> Path:
    out = tuned.with_name("student")
    words = ["--width", "0.03", "--alpha", "0.5", "--batch", "32", "--epochs", "2", "--set", "run.checkpoint_every=1"]
    assert main(["distill", str(tuned), "--out", str(out), *words, *TINY]) == 0
    return out


def state(out: Path, step: int | None = None) -> dict[str, Any]:
    path = checkpoint.locate(str(out))[0] if step is None else out / "checkpoints" / f"step_{step:08d}.pt"
    return checkpoint.load(path)


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor], atol: float = 0.0) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=atol, rtol=0, msg=name)


def test_fine_tuning_starts_from_the_run_s_network_images_and_first_layer(pretrained: Path, tuned: Path) -> None:
    before, after = state(pretrained)["settings"], state(tuned)["settings"]
    assert after["model"]["width"] == before["model"]["width"]
    assert (after["data"]["size"], after["data"]["images"], after["run"]["seed"]) == (8, 96, 2)
    assert after["method"]["from_layer"] == 1  # of a head of three layers, with few labels
    assert after["augment"]["order"] == ("crop", "flip") or after["augment"]["order"] == ["crop", "flip"]
    assert len(after["data"]["classes"]) == 12
    weights = state(tuned)["objective"]
    assert {name.partition(".")[0] for name in weights} == {"backbone", "projector", "classifier"}
    assert not any(
        torch.equal(weights[k], state(pretrained)["objective"][k]) for k in weights if k.endswith("conv1.weight")
    )


@pytest.mark.parametrize("name", ["tuned", "student"])
def test_the_result_is_of_the_test_images_and_written_once(
    name: str, tuned: Path, distilled: Path, pretrained: Path
) -> None:
    out = pretrained.with_name(name)
    command = "finetune" if name == "tuned" else "distill"
    result = json.loads((out / "eval" / f"{command}.json").read_text())["result"]
    assert 0 <= result["top1"] <= result["top5"] <= 1
    assert result["test"] == sum(of["images"] for of in result["per_class"].values())
    total = sum(of["images"] * of["top1"] for of in result["per_class"].values())
    assert total / result["test"] == pytest.approx(result["top1"], abs=0.01)
    assert (result["labelled"], result["train"]) == ((24, 24) if name == "tuned" else (24, 96))
    events = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [event["name"] for event in events if event["event"] == "evaluated"] == [command]


@pytest.mark.parametrize("name", ["tuned", "student"])
def test_a_resume_equals_a_run_without_interruption(
    name: str, tuned: Path, distilled: Path, pretrained: Path, tmp_path: Path
) -> None:
    whole = pretrained.with_name(name)
    run = shutil.copytree(whole, tmp_path / "run")
    last = state(whole)["step"]
    for suffix in ("pt", "json"):
        (run / "checkpoints" / f"step_{last:08d}.{suffix}").unlink()
    command = "finetune" if name == "tuned" else "distill"
    assert main([command, "--resume", "--out", str(run)]) == 0
    assert state(run)["step"] == last
    same(state(run)["objective"], state(whole)["objective"])
    for ours, theirs in zip(
        state(run)["optimiser"]["state"].values(), state(whole)["optimiser"]["state"].values(), strict=True
    ):
        same(ours, theirs)


def test_a_resume_needs_no_run_to_start_from_but_refuses_another(tuned: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tuned, tmp_path / "run")
    assert main(["finetune", "--resume", "--out", str(run), "--epochs", "3"]) == 0
    assert main(["finetune", str(tuned), "--resume", "--out", str(run), "--epochs", "3"]) == 2
    assert main(["finetune", "--labels", "100%", "--resume", "--out", str(run), "--epochs", "3"]) == 2


def test_a_run_is_resumed_by_its_own_command(tuned: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, run, kind in (("pretrain", tuned, "finetune"), ("distill", tuned, "finetune"),
                               ("finetune", pretrained, "pretrain")):  # fmt: skip
        assert main([command, "--resume", "--out", str(run)]) == 2
        assert f"is a run of {kind}, not of {command}.\n  sslcli {kind} --resume" in capsys.readouterr().err


@pytest.mark.slow  # test_gradient has both in float64
@pytest.mark.parametrize("command", ["finetune", "distill"])
def test_the_batch_is_divided_without_a_difference(command: str, pretrained: Path, tuned: Path, tmp_path: Path) -> None:
    words = ["--labels", "2-per-class"] if command == "finetune" else ["--set", "data.limit=4"]
    words += ["--epochs", "1", "--batch", "8", "--set", "model.bn_group=4", "--set", "optim.name=sgd", "--lr", "0.01"]
    found = []
    for mode, micro in (("direct", "8"), ("cached", "4")):
        out, how = tmp_path / mode, ["--set", f"hardware.mode={mode}", "--micro-batch", micro]
        start = pretrained if command == "finetune" else tuned
        assert main([command, str(start), "--out", str(out), *words, *TINY, *how, "--set", "run.evaluate=false"]) == 0
        found.append(state(out)["objective"])
    same(found[0], found[1], atol=2e-5)


def test_the_student_is_evaluated_without_its_teacher(distilled: Path, tuned: Path, tmp_path: Path) -> None:
    student = shutil.copytree(distilled, tmp_path / "student")
    opened = open_run(str(student), "cpu", projector=True)
    same(opened.objective.state_dict(), state(student)["objective"])
    assert main(["knn-eval", str(student), "--device", "cpu", "--json"]) == 0
    assert main(["linear-eval", str(tuned), "--device", "cpu", "--json"]) == 0


def test_a_changed_teacher_ends_a_resume(distilled: Path, tmp_path: Path) -> None:
    run = shutil.copytree(distilled, tmp_path / "run")
    text = (run / "settings.toml").read_text()
    digest = state(distilled)["settings"]["method"]["sha256"]
    (run / "settings.toml").write_text(text.replace(digest, "0" * 64))
    assert main(["distill", "--resume", "--out", str(run), "--epochs", "3"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tuned", "student"])
def test_a_classifier_is_exported_with_its_classes_and_agrees_with_torch(
    name: str, tuned: Path, distilled: Path, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    run, file = tuned.with_name(name), tmp_path / "classifier.onnx"
    assert main(["export", str(run), "--classifier", "-o", str(file)]) == 0
    session = onnxruntime.InferenceSession(str(file))
    facts = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(facts["sslcli.classes"])) == tuple(state(run)["settings"]["data"]["classes"])
    images = torch.rand(3, 3, 8, 8)
    (logits,) = session.run(["logits"], {"image": images.numpy()})
    objective = open_run(str(run), "cpu", projector=True).objective.eval()
    torch.testing.assert_close(torch.from_numpy(logits), objective(images).detach(), atol=1e-4, rtol=1e-4)


def test_an_encoder_alone_has_no_classifier_to_export(pretrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(pretrained), "--classifier", "-o", "never.onnx"]) == 2
    assert_refused(capsys, "was never fine-tuned: it has no classifier")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["finetune", "distill"])
def test_a_killed_run_resumes_equal_to_the_last_bit(
    command: str, pretrained: Path, tuned: Path, tmp_path: Path
) -> None:
    start = pretrained if command == "finetune" else tuned
    words = [command, str(start), "--epochs", "60", *TINY, "--batch", "8", "--set", "run.checkpoint_every=5"]
    words += ["--labels", "4-per-class"] if command == "finetune" else ["--set", "data.limit=4"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*words, "--out", str(whole)]) == 0
    process = subprocess.Popen([sys.executable, "-m", "ssl_cli", *words, "--out", str(killed)])
    until = time.monotonic() + 120
    while len(list(killed.glob("checkpoints/*.json"))) < 2 and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < state(killed)["step"] < state(whole)["step"]
    assert main([*words, "--out", str(killed), "--resume"]) == 0
    same(state(killed)["objective"], state(whole)["objective"])


def test_fine_tuning_in_a_time_has_as_many_steps_as_fit(pretrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    words = [str(pretrained), "--labels", "2-per-class", "--batch", "8", "--dry-run", "--json", *TINY]
    steps = []
    for seconds in ("1s", "1000h"):
        assert main(["finetune", *words, "--time", seconds]) == 0
        found = json.loads(capsys.readouterr().out)
        assert any("corrected by the time of the first" in choice["reason"] for choice in found["plan"])
        steps.append(found["expected"]["steps"])
    assert 20 <= steps[0] < steps[1]
    assert steps[1] == 3 * 400  # the most epochs


def test_a_changed_file_of_labels_ends_a_resume(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = folder(tmp_path / "photos", {"cat": 8, "dog": 8})
    listing = tmp_path / "list.csv"
    listing.write_text("".join(f"{name}/{number:03}.png\n" for name in ("cat", "dog") for number in range(6)))
    out = str(tmp_path / "run")
    words = [str(pretrained), str(photos), "--labels", str(listing), "--epochs", "1", "--out", out, *TINY]
    assert main(["finetune", *words]) == 0
    listing.write_text(listing.read_text().replace("cat/000.png", "cat/007.png"))
    assert main(["finetune", "--resume", "--out", out, "--epochs", "2"]) == 3
    assert_refused(capsys, "list.csv is not as it was when training started")
    assert main(["linear-eval", out, str(photos), "--labels", str(listing)]) == 0  # asked for anew


@pytest.mark.parametrize("name", ["run", "checkpoint"])
def test_the_run_to_start_from_is_hashed_once_for_its_settings(
    name: str, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    compute = disk.sha256
    monkeypatch.setattr(disk, "sha256", lambda path: hashed.append(path) or compute(path))  # type: ignore[func-returns-value]
    start = pretrained if name == "run" else checkpoint.locate(str(pretrained))[0]
    hashed.clear()
    settled = settle_start(Request("finetune", str(start), {"data": {"labels": "2-per-class"}}))
    assert [path.suffix for path in hashed] == [".pt"]
    assert getattr(settled.settings.method, "sha256", "") == compute(checkpoint.locate(str(pretrained))[0])


def test_neither_the_environment_nor_a_file_changes_the_network(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLCLI_MODEL__WIDTH", "0.125")
    monkeypatch.chdir(tmp_path)
    Path("sslcli.toml").write_text("[data]\nsize = 16\n[method]\nhead_layers = 2\n")
    assert main(["finetune", str(pretrained), "--labels", "1-per-class", "--epochs", "1", "--dry-run", *TINY]) == 0


BAD = {
    "another network": (["--set", "model.width=0.125"], 2, "whose weights fit no other network"),
    "another head": (["--set", "method.head_layers=2"], 2, "whose weights fit no other network"),
    "a layer that the head lacks": (["--from-layer", "3"], 2, "The head of .* has 2 hidden layers"),
    "a class with too few images": (["--labels", "99-per-class"], 3, "has 8 training images, and 99 are asked for"),
    "no share": (["--labels", "0%"], 2, "is no share of the images"),
    "no labels at all": (["--labels", "some"], 2, "is no share, no number of images and no file"),
    "a batch above the labels": (["--labels", "1-per-class", "--batch", "64"], 3, "fewer than the batch of 64"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_fine_tuned_is_one_sentence(
    case: str, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, code, message = BAD[case]
    assert main(["finetune", str(pretrained), "--out", str(tmp_path / "out"), *words]) == code
    assert_refused(capsys, message)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["finetune", "{unlabelled}"], 3, "have no labels"),
        (["finetune"], 2, "finetune starts from a run of pretrain"),
        (["distill", "{run}"], 2, "a teacher needs classes, and it was never fine-tuned"),
        (["distill", "{tuned}", "--labels", "10%"], 2, "--labels has no effect"),
        (["distill", "{tuned}", "{strangers}", "--alpha", "0.5", "--labels", "100%"], 3, "is not one of the run's"),
        (["pretrain", "--method", "finetune"], 2, "is a command of its own"),
    ],
)
def test_what_cannot_start_is_one_sentence(
    words: list[str], code: int, message: str, pretrained: Path, tuned: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    save(tmp_path / "plain" / "a.png")
    folder(tmp_path / "strangers", {"ring": 3, "zebra": 3})
    places = {"run": str(pretrained), "tuned": str(tuned), "strangers": str(tmp_path / "strangers")}
    if "{unlabelled}" in words:
        words = [words[0], str(pretrained), str(tmp_path / "plain")]
    assert main([*(word.format(**places) for word in words), "--out", str(tmp_path / "out")]) == code
    assert_refused(capsys, message)


def assert_refused(capsys: pytest.CaptureFixture[str], message: str) -> None:
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error
    assert "bug in sslcli" not in error
