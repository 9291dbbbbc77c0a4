"""Every arm of every study has settings that are valid, and differs from the others in what the study is about."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ssl_cli.config.tree import Settings
from ssl_cli.errors import UsageError
from ssl_cli.registry import METHODS
from ssl_cli.study.arm import Given
from ssl_cli.study.book import Asked
from ssl_cli.study.paper import PAPERS, number
from ssl_cli.study.table import STUDIES, chosen, methods_of, rivalry, study_named

BATCHES = dict.fromkeys(METHODS, 64) | {"moco-v2": 128}
GIVEN = Given(10_000, ("moco-v2", "simclr"), BATCHES, ("normalize",))


def given_for(name: str) -> Given:
    study = STUDIES[name]
    return Given(10_000, study.choice or study.methods, BATCHES, ("normalize",), 0.25)


@pytest.mark.parametrize("name", STUDIES)
def test_arms_have_names_of_their_own_and_valid_settings(name: str, tmp_path: Path) -> None:
    arms = STUDIES[name].arms(given_for(name))
    assert len({arm.name for arm in arms}) == len(arms) > 2
    assert all(re.fullmatch(r"[a-z0-9.-]+", arm.name) for arm in arms)
    (tmp_path / "photos").mkdir()
    found: list[Settings] = []
    for arm in (arm for arm in arms if not arm.start):
        asked = Asked(name, data=str(tmp_path / "photos"))
        more = {"schedule.epochs": arm.share, **arm.settings, **({"schedule.kind": "step"} if arm.decays else {})}
        settled = asked.settled(arm.method, more, tmp_path)
        found.append(settled.settings)
        assert all(settled.origins[key] == "the study" for key in arm.settings)
    assert all(one != other for k, one in enumerate(found) for other in found[:k])
    later = [(arm.start, arm.method, *sorted(arm.settings.items())) for arm in arms if arm.start]
    assert len(set(later)) == len(later)


def test_a_rivalry_has_each_method_at_two_batches_and_in_two_times() -> None:
    arms = rivalry(GIVEN)
    assert [(arm.name, arm.settings["run.batch"], arm.share) for arm in arms[:4]] == [
        ("moco-v2-1x", 128, 1.0), ("moco-v2-1x-quarter", 128, 0.25),
        ("moco-v2-4x", 512, 1.0), ("moco-v2-4x-quarter", 512, 0.25),
    ]  # fmt: skip
    assert len(arms) == 8
    few = rivalry(Given(200, ("moco-v2", "simclr"), dict.fromkeys(METHODS, 32)))
    assert {arm.settings["run.batch"] for arm in few} == {32}  # no larger one leaves four steps an epoch


@pytest.mark.parametrize("name", STUDIES)
def test_names_of_arms_do_not_depend_on_the_batch_which_follows_from_the_time(name: str) -> None:
    given = given_for(name)
    other = replace(given, batches={method: batch // 2 for method, batch in given.batches.items()})
    assert [arm.name for arm in STUDIES[name].arms(given)] == [arm.name for arm in STUDIES[name].arms(other)]


def test_the_ablation_changes_one_thing_at_a_time() -> None:
    arms = {arm.name: arm for arm in STUDIES["moco-v2-ablation"].arms(GIVEN)}

    def differing(one: str, other: str) -> set[str]:
        a, b = arms[one], arms[other]
        keys = {key for key in {*a.settings, *b.settings} if a.settings.get(key) != b.settings.get(key)}
        return keys | ({"decays"} if a.decays != b.decays else set()) | ({"share"} if a.share != b.share else set())

    head = {"method.head_layers", "method.temperature"}
    views = {"augment.order", "augment.jitter.p", "augment.jitter.hue"}
    assert differing("v1", "a-mlp") == head
    assert differing("v1", "b-aug") == views
    assert differing("a-mlp", "c-mlp-aug") == views
    assert differing("c-mlp-aug", "d-mlp-aug-cos") == {"schedule.kind", "decays"}
    assert differing("d-mlp-aug-cos", "e-4x-epochs") == {"share"}


def test_augmentations_are_the_paper_s_matrix() -> None:
    arms = {arm.name: arm for arm in STUDIES["augmentations"].arms(given_for("augmentations"))}
    assert len(arms) == 7 + 21
    alone, pair, crop = arms["jitter"].settings, arms["crop-blur"].settings, arms["crop"].settings
    assert alone["augment.order"] == ("crop", "jitter", "gray", "normalize")
    assert alone["augment.crop.scale"] == (1.0, 1.0)  # no random crop
    assert pair["augment.order"] == ("crop", "blur", "normalize")
    assert pair["augment.second"] == ("crop", "normalize")
    assert "augment.crop.scale" not in pair
    assert crop["augment.order"] == crop["augment.second"] == ("crop", "normalize")


def test_a_queue_is_no_longer_than_half_of_the_images() -> None:
    few = Given(300, STUDIES["moco-dictionary"].methods, dict.fromkeys(METHODS, 32))
    queues = [arm.settings.get("method.queue", 0) for arm in STUDIES["moco-dictionary"].arms(few)]
    assert max(queues) == 150
    assert 0.0 in {arm.settings.get("method.ema") for arm in STUDIES["moco-dictionary"].arms(few)}


def test_papers_speak_of_arms_that_there_are() -> None:
    for name, papers in PAPERS.items():
        arms = {arm.name for arm in STUDIES[name].arms(given_for(name))}
        for paper in papers:
            assert paper.source.startswith("arXiv ")
            assert paper.arms.keys() <= arms
    assert number("moco-v2-ablation", "e-4x-epochs") == "71.1"
    assert number("rivalry", "moco-v2-b128") == ""


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("rivalry", "moco-v2", "two methods at least"),
        ("rivalry", "moco-v2,nosuch", "cannot take 'nosuch'"),
        ("rivalry", "", "cannot take ''"),
        ("simclr-head", "simclr", "has its own methods"),
        ("temperature", "instdisc", "cannot take"),
    ],
)
def test_methods_that_a_study_cannot_take_are_refused(name: str, asked: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        methods_of(STUDIES[name], asked)


def test_methods_and_arms_are_asked_for_by_name() -> None:
    assert methods_of(STUDIES["rivalry"], None) == ("moco-v2", "simclr")
    assert methods_of(STUDIES["rivalry"], "simclr, instdisc,simclr") == ("simclr", "instdisc")
    arms = rivalry(GIVEN)
    assert [arm.name for arm in chosen(arms, "simclr-1x, moco-v2-1x")] == ["moco-v2-1x", "simclr-1x"]
    assert chosen(arms, None) == arms
    road = STUDIES["simclr-v2"].arms(given_for("simclr-v2"))
    assert [arm.name for arm in chosen(road, "half-distilled-1pct")] == [
        "pretrain", "layer1-1pct", "half-distilled-1pct",
    ]  # fmt: skip
    assert chosen(arms, "simclr") == [arm for arm in arms if arm.method == "simclr"]
    with pytest.raises(UsageError, match="no arm 'simclr-b1'") as caught:
        chosen(arms, "moco-v2, simclr-b1")
    assert all(arm.name in caught.value.hint for arm in arms)
    with pytest.raises(UsageError, match="no study 'rivalri'") as caught:
        study_named("rivalri")
    assert "rivalry" in caught.value.hint


def test_costs_are_those_of_the_paper_s_table() -> None:
    arms = {arm.name: arm.settings for arm in STUDIES["cost"].arms(given_for("cost"))}
    assert list(arms) == [
        "moco-b256", "end-to-end-b256", "end-to-end-b4096-direct", "end-to-end-b4096-tail-keep",
        "end-to-end-b4096-cached",
    ]  # fmt: skip
    assert arms["end-to-end-b4096-cached"] == {"run.batch": 4096, "hardware.mode": "cached"}
    few = STUDIES["cost"].arms(Given(300, STUDIES["cost"].methods, BATCHES))
    assert {arm.settings["run.batch"] for arm in few} == {256}
