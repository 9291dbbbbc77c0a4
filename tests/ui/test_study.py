"""What a study shows: a line for each arm with its error and its verdict, a chart of the same, fronts and papers."""

from pathlib import Path

from ssl_cli.study.book import FINISHED, Result
from ssl_cli.study.summary import Summary
from ssl_cli.study.table import STUDIES
from ssl_cli.ui.study import chart, document, lines, listing, matrix, outcome, plan, title
from tests.study.books import CLEAR, CLOSE, TWO, book, planned, with_results

PLACE = Path("runs/my study")


def test_the_table_says_what_is_not_distinguishable() -> None:
    close, clear = ("\n".join(lines(found, PLACE)) for found in (CLOSE, CLEAR))
    row = next(line for line in close.splitlines() if line.startswith("simclr-b64 "))
    assert row.split()[:9] == ["simclr-b64", "41.5", "%", "±", "1.9", "51.5", "%", "±", "1.9"]
    assert "-0.5 ± 3.3, not distinguishable" in row
    assert "not distinguishable" not in clear
    assert "-9.7 ± 1.4" in clear
    assert "6 of 6 done, 3 seeds" in clear
    assert "on 200 training images held out by the seed; no test image was read" in clear
    assert clear.splitlines()[-1] == "next       sslcli export 'runs/my study/moco-v2-b128-seed0' -o encoder.onnx"


def test_a_rivalry_has_fronts_and_the_papers_numbers() -> None:
    found = list(lines(CLEAR, PLACE))
    assert "front      kNN against batch: simclr-b64, then moco-v2-b128" in found
    assert "front      linear against time: moco-v2-b128" in found
    assert "           MoCo v2, batch 256, 200 epochs: 67.5" in found
    assert sum(line.startswith("front") for line in found) == 6


def test_the_chart_has_a_bar_of_standard_errors_on_one_axis() -> None:
    found = list(chart(Summary(CLEAR), width=41))
    first, second, axis, _ = found
    assert first.rstrip().endswith("─")
    assert second.split() == ["simclr-b64", second.split()[1]]
    assert second.index("●") < first.index("●")
    assert "40.5 %" in axis  # the mean less its standard error
    assert axis.rstrip().endswith("51.6 %")
    assert list(chart(Summary(TWO))) == []


def test_an_arm_that_diverged_is_a_row_with_its_reason() -> None:
    failed = CLEAR.with_result(Result("simclr-b64", 5, "diverged", "Loss\x1b is not finite."))
    text = "\n".join(lines(failed, PLACE))
    assert "3, 1 diverged" in text
    assert "ended      simclr-b64, seed 5: diverged: Loss\\x1b is not finite." in text
    assert outcome(failed.results[-1]) == "result     diverged: Loss\\x1b is not finite."


def test_what_is_not_done_is_next() -> None:
    part = with_results(TWO, {"moco-v2-b128": {0: 0.5}})
    assert list(lines(part, PLACE))[-1] == "next       sslcli study --resume --out 'runs/my study'"


def test_before_the_first_result_no_number_of_images_is_said() -> None:
    measured = next(line for line in lines(TWO, PLACE) if line.startswith("measured"))
    assert measured == "measured   on training images held out by the seed; no test image is read"


def test_papers_stand_in_the_row_of_their_arm() -> None:
    found = with_results(
        book(planned("v1"), planned("a-mlp"), study="moco-v2-ablation"), {"v1": {0: 0.3}, "a-mlp": {0: 0.4}}
    )
    row = next(line for line in lines(found, PLACE) if line.startswith("a-mlp"))
    assert row.endswith("66.2")
    assert "not distinguishable" in row  # one seed


def test_augmentations_are_a_matrix() -> None:
    names = ("crop-jitter", "crop", "jitter", "crop-blur")
    found = with_results(
        book(*map(planned, names), study="augmentations"), {name: {0: 0.1 * k} for k, name in enumerate(names, 1)}
    )
    rows = [line.split() for line in matrix(Summary(found))]
    assert rows[0] == ["crop", "cutout", "jitter", "sobel", "noise", "blur", "rotate"]
    assert rows[1] == ["crop", "20.0", "10.0", "40.0"]
    assert rows[3] == ["jitter", "30.0"]


def test_a_program_gets_the_same_numbers() -> None:
    found = document(CLOSE, PLACE)
    arm = found["arms"][1]
    assert arm["name"] == "simclr-b64"
    assert arm["knn"]["n"] == 3
    assert arm["against moco-v2-b128"]["distinguishable"] is False
    assert found["runs"][0]["out"] == "runs/my study/moco-v2-b128-seed0"
    assert found["runs"][0]["state"] == FINISHED
    assert found["fronts"]["knn against batch"] == ["simclr-b64", "moco-v2-b128"]


def test_plans_titles_and_the_list_are_lines() -> None:
    found = list(plan(CLEAR, PLACE))
    assert found[1] == "runs       6: 2 arms, 3 seeds, in turns"
    assert found[-1].split() == ["simclr-b64", "64", "1", "100", "1.0", "GB"]
    assert title(CLEAR, "simclr-b64", 2, 4) == "run 4/6  simclr-b64, seed 2"
    names = [line.split()[0] for line in listing() if line]
    assert names[:-1] == list(STUDIES)
