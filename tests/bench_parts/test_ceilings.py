"""Ceilings are measured once, told once, and of the work that they claim."""

import pytest
import torch

from ssl_cli.bench import ceilings
from ssl_cli.bench.ceilings import Ceilings
from ssl_cli.bench.timing import Arm, Rates
from tests.bench_parts.toy import quick

CPU = torch.device("cpu")


def test_a_ceiling_is_measured_once_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    found = Ceilings(CPU)
    assert found.matrix("fp32") == found.matrix("fp32") > 0
    assert found.memory() == found.memory() > 0
    told = list(found.told())
    assert [one.name for one in told] == ["matrix fp32", "memory copy", "memory triad"]
    assert all(one.machine and one.n >= 5 and one.low <= one.rate <= one.high for one in told)
    assert found.memory() == max(told[1].rate, told[2].rate)
    assert not list(found.told())


def test_the_work_is_that_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of N x N matrices is 2 N^3 operations; a copy moves two arrays, a triad three."""
    quick(monkeypatch)
    seen: dict[str, Arm] = {}

    def remembered(arms: dict[str, Arm], device: torch.device) -> dict[str, Rates]:
        seen.update(arms)
        return {name: Rates((arm.work,) * 5) for name, arm in arms.items()}

    monkeypatch.setattr(ceilings, "alternate", remembered)
    found = Ceilings(CPU)
    assert found.matrix("bf16") == 2 * 256**3
    product = seen["matrix bf16"].call()
    assert isinstance(product, torch.Tensor)
    assert (product.shape, product.dtype) == ((256, 256), torch.bfloat16)
    assert found.memory() == 3 * 4096
    assert seen["memory copy"].work == 2 * 4096
    triad = seen["memory triad"].call()
    assert isinstance(triad, torch.Tensor)
    assert (triad.numel() * 4, float(triad[0])) == (4096, 4.0)


@pytest.mark.parametrize(("own", "most", "counts"), [(1, 1, [1]), (1, 3, [1, 3]), (2, 3, [1, 2, 3])])
def test_files_are_decoded_on_one_thread_on_the_run_s_and_on_all(
    own: int, most: int, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(ceilings, "processors", lambda: most)
    decoded: list[bytes] = []
    monkeypatch.setattr(ceilings, "decode", lambda data, cap: decoded.append(data))
    files = [bytes([number]) for number in range(4)]
    found = Ceilings(CPU)
    rates = found.decode(files, 56, own)
    assert list(rates) == counts
    assert [one.rate for one in found.told()] == list(rates.values())
    assert all(decoded.count(data) == len(decoded) / 4 for data in files)  # each as often as the others


def test_convolutions_in_float32_on_a_card_are_tf32() -> None:
    assert Ceilings(CPU).step_precision("fp32") == "fp32"
    card = Ceilings(torch.device("cuda"))
    assert card.step_precision("bf16") == "bf16"
    assert card.step_precision("fp32") == "tf32"
