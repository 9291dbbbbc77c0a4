"""The summary of an accuracy: several k, the matrix of a few classes, the most frequent confusions of many."""

from typing import Any

from ssl_cli.ui import accuracy
from tests.ui.events import knn


def text(**more: Any) -> str:
    return "\n".join(f"{label:<11}{words}" for label, words in accuracy.lines("knn", {**knn().result, **more}))


def of(names: list[str], counts: list[list[float]]) -> dict[str, Any]:
    per_class = {
        name: {"images": sum(row), "top1": row[k] / sum(row)}
        for k, (name, row) in enumerate(zip(names, counts, strict=True))
        if sum(row)
    }
    return {"confusion": {"classes": names, "counts": counts}, "per_class": per_class}


def test_several_k_are_a_table() -> None:
    scores = [{"k": k, "temperature": 0.07, "top1": 0.5, "top5": 0.9} for k in (5, 200)]
    found = text(scores=scores, protocol="dino", protocol_source="DINO, eval_knn.py")
    assert "all           k      T    top-1    top-5\n" in found
    assert "           200   0.07   50.0 %   90.0 %\n" in found
    assert "protocol   dino: DINO, eval_knn.py" in found
    assert "all  " not in text(scores=scores[:1])


def test_the_whole_matrix_of_a_few_classes() -> None:
    found = text(**of(["cat", "a\x1bvery long name", "elk"], [[3, 1, 0], [2, 10, 0], [0, 0, 0]])).splitlines()
    first = next(number for number, line in enumerate(found) if line.startswith("confusion"))
    assert found[first : first + 5] == [
        "confusion  row: the class; column: the answer",
        "                              1    2    3",
        "            1 cat             3    1    0  75.0 %",
        "            2 a\\x1bvery lo    2   10    0  83.3 %",
        "            3 elk             0    0    0",
    ]


def test_the_most_frequent_confusions_of_many() -> None:
    names = [f"n{k}" for k in range(20)]
    counts: list[list[float]] = [[5.0 if i == j else 0.0 for j in range(20)] for i in range(20)]
    counts[3][7], counts[8][2], counts[9][1] = 40, 20, 0.5
    found = text(**of(names, counts))
    assert "confused   n3 taken for n7: 40 of 45\n           n8 taken for n2: 20 of 25" in found
    assert "lowest     n3 11.1 %, n8 20.0 %" in found
    assert "confusion" not in found


def test_no_matrix_and_a_picture() -> None:
    found = text(confusion={"classes": ["a"] * 2000, "counts": []}, per_class={}, picture="c\x1b.png")
    assert "confus" not in found
    assert "picture    c\\x1b.png" in found
