"""Runs with positives by group: every memory mode, a resume, the plan, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_cli import checkpoint
from ssl_cli.augment.sheet import png
from ssl_cli.cli import main
from ssl_cli.config.tree import Settings
from ssl_cli.data.positives import Positives
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_loader, build_objective
from ssl_cli.engine.plan.dry_run import dry_run
from ssl_cli.errors import DataError, UsageError
from ssl_cli.events import Choice, Evaluated, Planned, Stopped
from ssl_cli.protocols.linear import linear_eval
from tests.data.pictures import save
from tests.engine.test_pretrain import only, run, settings
from tests.engine.toy_run import toy_settings, write_run
from tests.ranks.processes import GROUPED, five_steps

METHODS = {
    "simclr": {},
    "simclr-v2": {"memory": 20},
    "moco-v2": {"queue": 20},
    "instdisc": {"noise": 0},
    "invaspread": {},
}


@pytest.fixture(scope="module")
def bursts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six bursts of three images, and of four images that are in no burst."""
    root = tmp_path_factory.mktemp("bursts")
    for k, name in enumerate(("ant", "bee")):
        for burst in range(6):
            for shot in range(3):
                save(root / name / f"{name}{burst}" / f"{shot}.png", 120 * k + 18 * burst + 3 * shot, (12, 12))
        for alone in range(4):
            save(root / name / f"{alone}.png", 110 * k + 30 * alone, (12, 12))
    return root


def by_group(out: Path, bursts: Path, method: str = "moco-v2", **sections: dict[str, Any]) -> Settings:
    data = {"source": str(bursts), "group_by": "[a-z]+[0-9]", "positives": "group", "size": 8, "images": 1}
    return settings(
        out,
        method={"name": method, **METHODS[method]},
        model={"width": 0.0625, "bn_group": 8},
        data={**data, **sections.pop("data", {})},
        run={
            "out": str(out),
            "batch": 8,
            "log_every": 1,
            "evaluate": False,
            "monitor": False,
            **sections.pop("run", {}),
        },
        **sections,
    )


def state(out: Path) -> dict[str, Any]:
    found, _ = checkpoint.newest(out / "checkpoints")
    assert found is not None
    return found


def row(planned: Planned, name: str) -> Choice:
    return next(choice for choice in planned.choices if choice.name == name)


LEVEL = (36 * math.log(20 * 41 / 43 + 1) + 8 * math.log(21)) / 44
QUICK = {("moco-v2, by group", "tail-keep")}


@pytest.mark.parametrize(
    ("method", "way"),
    [
        pytest.param(method, way, marks=() if (method, way) in QUICK else pytest.mark.slow)
        for method in GROUPED
        for way in ("cached", "tail-keep", "checkpointed")
    ],
)
def test_every_memory_mode_computes_the_same_step(method: str, way: str) -> None:
    direct, other = five_steps(method, "groups of 8", "direct"), five_steps(method, "groups of 8", way)
    assert direct.keys() == other.keys()
    for name, value in direct.items():
        torch.testing.assert_close(other[name], value, atol=1e-8, rtol=0, equal_nan=True, msg=name)


@pytest.mark.parametrize(
    "method", [name if name == "moco-v2" else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_a_stopped_run_resumes_to_the_last_bit(method: str, bursts: Path, tmp_path: Path) -> None:
    """With the groups of the queue's keys; with one thread or three, with or without a cache."""
    run(by_group(tmp_path / "whole", bursts, method))
    brief = by_group(tmp_path / "parts", bursts, method, run={"max_time": 1e-9}, data={"threads": 3, "cache": "none"})
    assert only(run(brief), Stopped)
    run(by_group(tmp_path / "parts", bursts, method), resume=True)
    whole, parts = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert whole["step"] == parts["step"] == 10
    for name, value in whole["objective"].items():
        assert torch.equal(value.nan_to_num(), parts["objective"][name].nan_to_num()), name
    assert ("queue.group" in whole["objective"]) == (method in ("moco-v2", "simclr-v2"))
    if "queue.group" in whole["objective"]:
        assert int(whole["objective"]["queue.group"].min()) >= 0


def test_the_queue_holds_the_group_of_each_key_and_random_rows_none(bursts: Path) -> None:
    chosen = by_group(Path("nowhere"), bursts)
    objective = build_objective(chosen, torch.device("cpu"), 44)
    queue: Any = objective.queue
    assert "group" in dict(queue._buffers)
    assert "queue.group" not in objective.state_dict()
    objective.prepare_groups(Positives(torch.arange(44) // 3))
    assert queue.group.tolist() == [-1] * 20
    keys = torch.nn.functional.normalize(torch.randn(30, queue.rows.shape[1]), dim=1)
    queue.push(keys[:12], torch.arange(12))
    queue.push(keys, torch.arange(30) + 100)  # more than fit: the newest remain
    order = [(12 + 30 - 20 + k) % 20 for k in range(20)]
    assert queue.group[order].tolist() == list(range(110, 130))
    assert torch.equal(queue.rows[order], keys[10:])


def test_the_loader_and_the_bank_draw_the_same_positives(bursts: Path) -> None:
    chosen = by_group(Path("nowhere"), bursts, "instdisc")
    source = open_pretraining(chosen.data, 0)
    objective: Any = build_objective(chosen, torch.device("cpu"), len(source), source=source)
    assert objective.positives is build_loader(chosen, objective, source, torch.device("cpu")).positives


def test_the_plan_counts_groups_and_images_alone(bursts: Path, tmp_path: Path) -> None:
    (planned,) = only(run(by_group(tmp_path / "run", bursts, run={"max_time": 1e-9})), Planned)
    found = row(planned, "positives")
    assert found.value == "another image of the group"
    assert found.reason == (
        "36 images in 12 groups of 3, not one another's negatives; 8 alone in a group, each its own positive"
    )
    assert "in no group: 8" in row(planned, "images").reason
    dry = only(list(dry_run(by_group(tmp_path / "none", bursts))), Planned)[0]
    assert row(dry, "positives") == found
    for plan in (planned, dry):
        negatives = row(plan, "negatives")
        assert (negatives.value, negatives.reason) == (
            "19 an anchor",  # of twenty in the queue: 36 of 44 images have two of the 43 others in their group
            f"on average, without an image's own group; chance loss {LEVEL:.2f}, that of random embeddings",
        )
        assert plan.expected["negatives"] == 19
    plain = only(list(dry_run(by_group(tmp_path / "none", bursts, data={"positives": "image"}))), Planned)[0]
    assert row(plain, "negatives").value == "20 an anchor"
    assert "positives" not in {choice.name for choice in plain.choices}
    saved = state(tmp_path / "run")["settings"]["data"]
    assert (saved["group_by"], saved["positives"]) == ("[a-z]+[0-9]", "group")
    assert 'group_by = "[a-z]+[0-9]"' in (tmp_path / "run" / "settings.toml").read_text()


def test_other_groups_end_a_resume(bursts: Path, tmp_path: Path) -> None:
    """They are part of what a step computes, though the images are the same."""
    listed = tmp_path / "list.csv"
    paths = sorted(bursts.rglob("*.png"))

    def write(each: int) -> None:
        listed.write_text("path,group\n" + "".join(f"{path},{k // each}\n" for k, path in enumerate(paths)))

    write(4)
    chosen = by_group(tmp_path / "run", listed, data={"group_by": None}, run={"max_time": 1e-9})
    run(chosen)
    write(5)
    with pytest.raises(
        DataError, match=r"not the images of this run: of 44 there are \d+ of another size, label or group"
    ):
        run(chosen, resume=True)
    write(4)
    run(chosen, resume=True)
    with pytest.raises(UsageError, match=r"data\.positives is group in this run and cannot become image"):
        run(by_group(tmp_path / "run", listed, data={"positives": "image"}), resume=True, data__positives="--set")


def test_a_checkpoint_from_before_there_were_groups_is_resumed(bursts: Path, tmp_path: Path) -> None:
    chosen = by_group(tmp_path / "run", bursts, data={"positives": "image", "group_by": None}, run={"max_time": 1e-9})
    run(chosen)
    out = tmp_path / "run"
    before = state(out)
    for name in ("group_by", "positives"):
        del before["settings"]["data"][name]
    lines = (out / "settings.toml").read_text().splitlines()
    (out / "settings.toml").write_text(
        "\n".join(line for line in lines if not line.startswith(("positives", "group_by")))
    )
    checkpoint.save(out / "checkpoints", before, 3, before.get("run", ""))
    run(by_group(out, bursts, data={"positives": "image", "group_by": None}), resume=True)
    assert state(out)["step"] == 10


def test_groups_that_there_are_not_are_refused_in_a_sentence(
    bursts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, code, said in (
        ([str(bursts), "--set", "data.positives=group"], 3, "has no groups"),
        (["--set", "data.positives=group"], 2, "'shapes' have no groups"),
        ([str(bursts), "--group-by", "("], 2, "regular expression"),
        ([str(bursts), "--group-by", "{up}"], 2, "there is no {up}"),
        ([str(bursts), "--group-by", "zebra"], 3, "finds no group in any path"),
    ):
        assert main(["pretrain", *words, "--out", str(tmp_path / "run"), "--dry-run"]) == code
        assert said in " ".join(capsys.readouterr().err.split())


def test_evaluations_split_as_the_run_was_grouped_unless_told_otherwise(
    bursts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    run(by_group(tmp_path / "run", bursts, "simclr", schedule={"epochs": 0.2}))
    whole = "in whole groups: none is on both sides"
    (found,) = only(list(linear_eval(out, device="cpu")), Evaluated)
    assert whole in found.result["note"]
    assert found.result["settings"]["held_out_top1"] is not None
    for words, grouped in (([], True), (["--group-by", "{parent}"], True), ([str(bursts)], False)):
        assert main(["knn-eval", out, *words, "--device", "cpu", "--json"]) == 0
        assert (whole in capsys.readouterr().out) == grouped
    assert main(["knn-eval", out, str(bursts), "--group-by", "{parent}", "--device", "cpu", "--json"]) == 0
    assert whole in capsys.readouterr().out
    assert main(["knn-eval", out, "--group-by", "("]) == 2


@pytest.mark.parametrize("grouped", [True, False])
def test_near_duplicates_across_a_split_are_said_where_no_groups_keep_them_together(
    grouped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six pictures in five copies each: held out by image, each copy in the test has others in the bank."""
    generator = torch.Generator().manual_seed(0)
    for k in range(6):
        image = torch.randint(0, 256, (3, 16, 16), generator=generator)
        for copy in range(5):
            noise = torch.randint(-3, 4, image.shape, generator=generator)
            place = tmp_path / "set" / "ab"[k % 2] / f"{k}_{copy}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(png((image + noise).clamp(0, 255).byte()))
    write_run(tmp_path / "run", toy_settings(source=str(tmp_path / "set"), group_by="([0-9])_" if grouped else None))
    for command in ("knn-eval", "linear-eval"):
        assert main([command, str(tmp_path / "run"), "--device", "cpu", "--json"]) == 0
        note = json.loads(capsys.readouterr().out)["note"]
        assert ("6 of 6 test images have a near-duplicate among the training images" in note) != grouped
        assert ("in whole groups" in note) == grouped
