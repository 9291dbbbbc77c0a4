"""The advice, from tables of numbers: what is said first, why, and which commands."""

import json
import os
from pathlib import Path

import pytest

from ssl_cli.config.sources import settle
from ssl_cli.records import logged_steps
from ssl_cli.verdict import Advice, Point, Score, Training, advise, points_of, training_of, views_note

CHANCE = 5.5


def trained(
    top1: tuple[float, ...] = (0.2, 0.5, 0.6), fall: float = 0.0, step: int = 900, **fields: object
) -> Training:
    """Ninety logged steps of 900; `top1` are those of each third, `fall` the loss of the last tenth below the rest."""
    third = [top1[min(3 * k // 90, 2)] for k in range(90)]
    losses = [5.0 if k < 9 else 4.0 if k < 81 else 4.0 - fall for k in range(90)]
    points = [
        Point(10 * k + 10, loss, CHANCE, share) for k, (loss, share) in enumerate(zip(losses, third, strict=True))
    ]
    given: dict[str, object] = {"run": "runs/a", "crop": 0.5, "epochs": 30, "batch": 64, **fields}
    return Training(step=step, steps=900, points=tuple(p for p in points if p.step <= step), **given)  # type: ignore[arg-type]


def knn(value: float, untrained: float = 0.3, pixels: float = 0.3, asked: int = 1000) -> Score:
    return Score("kNN top-1", value, asked, {"untrained": untrained, "pixels": pixels})


def test_a_good_run_needs_no_advice() -> None:
    assert advise(trained(), knn(0.8)) == Advice()
    assert advise(trained()) == Advice()


@pytest.mark.parametrize(
    ("training", "score", "words", "command"),
    [
        (trained(crop=0.08, flip=0.5), knn(0.305, 0.558, 0.655),
         ("Worse than raw pixels (65.5 %) and than the same network untrained (55.8 %): kNN top-1 of this encoder is "
          "30.5 %. Likely: crops down to 8 % of a picture and flips may be too strong for these pictures."),
         "sslcli pretrain --gentle"),
        (trained(step=260, crop=0.08), knn(0.3, 0.4),
         "Likely: the schedule was cut short at step 260 of 900; crops down to 8 % of a picture may be too strong",
         "sslcli pretrain --resume --out runs/a"),
        (trained(flip=0.5), knn(0.3, 0.2, 0.4), "Worse than raw pixels (40.0 %): kNN", "sslcli pretrain --gentle"),
        (trained((0.99, 1, 1), crop=0.4), knn(0.3, 0.4), "Likely: the task was too easy",
         "sslcli pretrain --set 'augment.crop.scale=[0.08, 1]'"),
        (trained((0.01, 0.01, 0.01)), knn(0.3, 0.4), "Likely: the task was too hard", "--epochs 60"),
        (trained(), knn(0.3, 0.4), "Look at the views", "--epochs 60"),
        (trained(), knn(0.3, 0.4, asked=100), "is 30.0 %. Look", "--epochs 60"),
    ],
)  # fmt: skip
def test_below_a_baseline_is_said_first_with_the_likely_cause(
    training: Training, score: Score, words: str, command: str
) -> None:
    found = advise(training, score)
    assert found.worse
    assert found.message.startswith("Worse than ")
    assert words in found.message
    assert command in found.commands[0]


@pytest.mark.parametrize("other", [0.35, 0.39, 0.43])
def test_within_the_error_it_is_not_distinguishable_in_both_directions(other: float) -> None:
    found = advise(trained(), knn(0.39, 0.2, other, asked=100))
    assert not found.worse
    said = f"kNN top-1 of this encoder, 39.0 % ± 4.9, is not distinguishable from raw pixels ({100 * other:.1f} %)"
    assert found.message.startswith(f"{said} on 100 images.")
    assert "--epochs 60" in found.commands[0]


def test_only_baselines_beyond_the_error_are_named_as_better() -> None:
    found = advise(trained(), knn(0.39, 0.4, 0.5, asked=100))
    assert found.worse
    assert "untrained" not in found.message


def test_few_steps_are_a_cause_and_lead_to_more_of_them() -> None:
    found = advise(Training(step=106, steps=106, epochs=10, crop=0.08, run="r"), knn(0.3, 0.4))
    assert "only 106 steps, which is too few; crops" in found.message
    assert found.commands == ("sslcli pretrain --resume --out r --epochs 29", "sslcli pretrain --gentle")


@pytest.mark.parametrize(
    ("training", "score", "words", "command"),
    [
        (Training(step=28, steps=28, epochs=7, run="r"), knn(0.8), "Only 28 steps: too few", "--out r --epochs 75"),
        (trained(), knn(0.32, 0.3), "moved by only +2.0 points against the untrained network", "--epochs 60"),
        (trained(started=True), knn(0.32, 0.3), "+2.0 points against the network as it started", "--epochs 60"),
        (trained((0.99, 1, 1)), knn(0.8), "too easy: contrastive top-1 was 99 % in the first third", "crop.scale"),
        (trained((0.99, 1, 1), crop=0.08), knn(0.8), "Stronger colour jitter or a larger --batch", "--batch 128"),
        (trained((0.5, 1, 1)), knn(0.8), "", ""),
        (trained((0.0, 0.0, 0.03), flip=0.5), None, "contrastive top-1 stayed near chance (3.0 %)", "--gentle"),
        (trained((0.0, 0.0, 0.05)), knn(0.8), "", ""),
        (trained(fall=1.0), knn(0.8), "still falling when the schedule ended: a longer --time", "--epochs 60"),
        (trained(fall=0.1), knn(0.8), "", ""),
        (trained(fall=1.0, step=890), knn(0.8), "", ""),  # a schedule that was cut short says nothing of its end
    ],
)  # fmt: skip
def test_one_sentence_from_what_was_seen(training: Training, score: Score | None, words: str, command: str) -> None:
    found = advise(training, score)
    assert not found.worse
    assert words in found.message
    assert bool(words) is bool(found.message)
    assert command in " ".join(found.commands)


def test_a_run_that_started_from_weights_is_worse_than_as_it_started() -> None:
    found = advise(trained(started=True), knn(0.2, 0.3, 0.1))
    assert found.message.startswith("Worse than the network as it started (30.0 %): kNN top-1")


def test_slack_and_little_room() -> None:
    """Neighbour consistency near 100 % can hardly rise."""
    near = Score("neighbour consistency", 0.985, 500, {"untrained": 1.0}, slack=0.02)
    assert advise(trained(), near) == Advice()
    assert advise(trained(), Score("neighbour consistency", 0.9, 500, {"untrained": 1.0}, slack=0.02)).worse


def test_the_scale_of_a_loss_does_not_make_a_task_hard() -> None:
    half = trained((0.01, 0.01, 0.03))
    doubled = tuple(Point(p.step, 2 * p.loss, 2 * CHANCE, p.top1) for p in half.points)
    scaled = Training(step=900, steps=900, points=doubled, loss_scale=2.0)
    assert advise(half).message == advise(scaled).message != ""


def test_without_a_folder_no_command_names_one() -> None:
    assert advise(Training(step=28, steps=28)).commands == ()
    found = advise(Training(step=260, steps=900, crop=0.08), knn(0.3, 0.4))
    assert found.commands == ("sslcli pretrain --gentle",)


def test_points_are_read_from_a_log_whatever_is_in_it(tmp_path: Path) -> None:
    def line(step: int, loss: float | None, **numbers: float) -> bytes:
        return json.dumps({"event": "stepped", "step": step, "loss": loss, "chance": 3.0, "numbers": numbers}).encode()

    lines = [
        line(10, 4.0), line(20, 9.0), b'{"event": "saved", "step": 20}', line(20, 3.5, top1=0.5), line(30, None),
        b'{"event": "stepped", "st', b'"stepped"', b'["stepped"]', b'"stepped"' + b"[" * 100_000,
        b'{"event": "stepped", "step": 1e999, "loss": 1}', b'{"event": "stepped", "step": 40, "loss": 1e999}',
        b'{"event": "stepped", "step": 50, "loss": 1, "chance": "3", "numbers": {"top1": 7}}',
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert points_of(logged_steps(tmp_path)) == (Point(10, 4.0, 3.0), Point(20, 3.5, 3.0, 0.5), Point(50, 1))
    assert points_of(logged_steps(tmp_path / "gone")) == ()


def test_a_log_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.jsonl")
    assert logged_steps(tmp_path) == []


def test_a_command_names_data_and_method() -> None:
    settings = settle({"data": {"source": "my photos", "size": 32}, "method": {"name": "moco-v2"}}).settings
    found = training_of(settings, 10, 20, "r")
    assert (found.data, found.crop, found.flip, found.batch) == ("'my photos' --method moco-v2", 0.2, 0.5, 128)
    assert training_of(settle({}).settings, 10, 20).data == ""
    order = settings.augment.model_copy(update={"order": ("crop",)})
    assert training_of(settings.model_copy(update={"augment": order}), 10, 20).flip == 0


@pytest.mark.parametrize(
    ("colour", "pixels", "images", "words"),
    [
        (0.2, 0.25, 64, "nor hard (both 8.0 % or less)"),
        (0.55, 0.75, 64, "Neither too easy (either 90 %"),
        (0.95, 0.3, 64, "where colours match"),
        (0.3, 0.95, 64, "Try stronger crops"), (0.02, 0.05, 64, "near chance (1.6 %)"), (1.0, 1.0, 4, "Of 4 images"),
    ],
)  # fmt: skip
def test_what_is_said_of_the_views(colour: float, pixels: float, images: int, words: str) -> None:
    found = views_note(colour, pixels, images)
    assert words in found
