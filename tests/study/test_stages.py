"""Arms that start from another arm's run: which labels they learn from, how long they train, what they cost."""

from pathlib import Path

import pytest
import torch

from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import open_evaluation, open_pretraining
from ssl_cli.errors import NoLabelsError
from ssl_cli.study.arm import Arm, Given
from ssl_cli.study.book import Planned
from ssl_cli.study.simclr_v2 import simclr_v2
from ssl_cli.study.stages import Stages
from tests.data.pictures import folder, save
from tests.engine.toy_run import toy_settings

ARMS = {arm.name: arm for arm in simclr_v2(Given(1000, ("simclr-v2",), {"simclr-v2": 64}, width=0.25))}
RATES = {"pretrain": 100.0, "pretrain-head2": 110.0, "pretrain-half": 200.0}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """80 images of two classes to train on, 20 of which each seed holds out; and test images."""
    place = tmp_path_factory.mktemp("photos")
    folder(place / "train", {"cat": 50, "dog": 30})
    folder(place / "test", {"cat": 4, "dog": 4})
    return toy_settings(source=str(place), size=8)


@pytest.fixture
def stages(settings: Settings) -> Stages:
    return Stages(list(ARMS.values()), settings, str(settings.data.source))


@pytest.mark.parametrize("labels", ["10%", "100%", "3-per-class"])
@pytest.mark.parametrize("seed", [0, 5])
def test_all_arms_learn_from_the_same_labels_and_none_is_measured_with(
    settings: Settings, labels: str, seed: int
) -> None:
    data = settings.data.model_copy(update={"labels": labels, "hold_out": True})
    probe = open_evaluation(settings.data, seed, "validation", labels)
    tuned = open_pretraining(data, seed)
    learned = [tuned.path(index) for index in range(len(tuned))]
    assert learned == [probe.bank.path(index) for index in range(len(probe.bank))]
    assert torch.equal(tuned.labels, probe.bank.labels)
    held_out = open_evaluation(settings.data, seed, "validation").queries
    assert not {held_out.path(index) for index in range(len(held_out))} & set(learned)
    assert all("/train/" in path for path in learned)
    without = open_pretraining(data.model_copy(update={"hold_out": False}), seed)
    assert (len(without) > len(tuned)) == (labels != "3-per-class")


def test_a_student_counts_its_teacher_s_labels(stages: Stages) -> None:
    assert {name: stages.counts[name] for name in ("scratch-1pct", "linear-10pct", "h-100pct")} == {
        "scratch-1pct": 2, "linear-10pct": 6, "h-100pct": 64,
    }  # fmt: skip
    assert stages.counts["half-distilled-10pct"] == stages.counts["layer1-10pct"] == 6


def test_epochs_are_those_of_the_recipe_or_fewer(stages: Stages) -> None:
    assert stages.epochs(ARMS["h-1pct"], 1000, 80) == 60  # of the recipe, with fewer than a tenth of the labels
    assert stages.epochs(ARMS["h-10pct"], 1000, 80) == 30
    assert stages.epochs(ARMS["h-100pct"], 8, 80) == pytest.approx(0.5 * 8 * 80 / 64)
    assert stages.epochs(ARMS["h-100pct"], 0.1, 80) == 1
    assert stages.epochs(ARMS["half-distilled-1pct"], 500, 80) == 500  # on all images, as long as they allow


def test_a_run_costs_its_epochs(stages: Stages) -> None:
    def cost(name: str) -> float:
        return stages.cost(ARMS[name], RATES, 80, 20.0, 2.0).seconds(8.0)

    def trained(name: str, rate: float) -> float:
        return stages.epochs(ARMS[name], 8.0, 80) * stages.counts[name] / rate

    assert cost("linear-100pct") == pytest.approx(20 + 64 / 200)
    for name, rate in {"h-1pct": 200.0, "head2-h-100pct": 220.0, "half-layer1-10pct": 400.0}.items():
        assert cost(name) == pytest.approx(20 + trained(name, rate)), name  # one view an image in place of two
    assert cost("half-distilled-1pct") == pytest.approx(20 + 8 * 80 * (1 / 400 + 1 / 3 / 200))


def test_runs_are_of_the_command_that_does_it_by_hand(stages: Stages) -> None:
    before = Planned(
        "pretrain", "simclr-v2", {"data": {"threads": 2, "size": 8}, "hardware": {"device": "cpu"}, "run": {}}, {}
    )
    tuned, student, probe = (
        stages.planned(ARMS[name], before, 8.0, 80) for name in ("layer1-10pct", "half-distilled-10pct", "linear-1pct")
    )
    assert (tuned.command, tuned.start, tuned.place) == ("finetune", "pretrain", "layer1-10pct")
    assert tuned.settings["data"] == {"threads": 2, "labels": "10%", "hold_out": True}
    assert tuned.settings["method"] == {"from_layer": 1}
    assert tuned.settings["run"] == {"evaluate": False, "monitor": False, "keep": 2, "fit": ["run.batch"]}
    assert (student.command, student.start, student.settings["model"]) == ("distill", "layer1-10pct", {"width": 0.125})
    assert student.settings["schedule"] == {"epochs": 8.0, "warmup": 0.8}
    assert (probe.command, probe.place, probe.batch) == ("linear-eval", "pretrain", 0)
    assert {arm.group for arm in (tuned, student)} == {"10 % of the labels"}


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path / "plain" / f"{number}.png", number)
    with pytest.raises(NoLabelsError, match="have no labels"):
        Stages(list(ARMS.values()), toy_settings(source=str(tmp_path / "plain"), size=8), None)


def test_a_network_without_a_width_has_no_smaller_arms() -> None:
    arms = simclr_v2(Given(1000, ("simclr-v2",), {"simclr-v2": 64}))
    assert [arm.name for arm in arms if "half" in arm.name] == []
    assert len(arms) == 2 + 3 * 6


def test_each_group_starts_from_scratch_and_no_arm_before_that_from_which_it_starts() -> None:
    arms = list[Arm](ARMS.values())
    for place, arm in enumerate(arms):
        assert not arm.start or arm.start in [other.name for other in arms[:place]]
    groups = dict.fromkeys(arm.group for arm in arms if arm.group)
    firsts = [next(arm.name for arm in arms if arm.group == group) for group in groups]
    assert firsts == ["scratch-1pct", "scratch-10pct", "scratch-100pct"]
