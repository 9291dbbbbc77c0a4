"""The plane: PCA against numpy's singular values, and the libraries' methods: separated classes, the same by seed."""

import numpy as np
import pytest
import torch

from ssl_cli.maps.plane import mapped, principal


def rows(count: int, width: int, classes: int = 4, spread: float = 0.15) -> torch.Tensor:
    """Rows of some classes, one after the other in turn."""
    draw = torch.Generator().manual_seed(1)
    centres = torch.randn(classes, width, generator=draw)
    return centres[torch.arange(count) % classes] + spread * torch.randn(count, width, generator=draw)


@pytest.mark.parametrize(("count", "width"), [(50, 8), (9, 30), (5000, 3)])
def test_pca_is_that_of_the_singular_values(count: int, width: int) -> None:
    data = rows(count, width)
    found, shares = principal(data, 3)
    centred = data.double().numpy() - data.double().numpy().mean(0)
    u, s, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:3]
    np.testing.assert_allclose(found.numpy(), (u * s)[:, :3] * signs, atol=1e-9)
    np.testing.assert_allclose(shares.numpy(), (s**2 / (s**2).sum())[:3], atol=1e-12)


def test_missing_dimensions_are_zero() -> None:
    found, shares = principal(torch.tensor([[1.0], [3.0]]), 2)
    assert found.tolist() == [[-1, 0], [1, 0]]
    assert shares.tolist() == [1, 0]


def test_length_does_not_count() -> None:
    data = rows(40, 6)
    lengths = torch.linspace(0.1, 7, 40)[:, None]
    torch.testing.assert_close(mapped(data, "pca", 0).positions, mapped(data * lengths, "pca", 0).positions)


@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
@pytest.mark.parametrize("count", [2, 3, 30])
def test_equal_rows_and_few_rows_have_places(method: str, count: int) -> None:
    equal = mapped(torch.full((count, 5), 3.0), method, 0)
    assert equal.positions.shape == (count, 2)
    assert float(equal.positions.abs().max()) < 1e-6
    if count < 4:
        assert mapped(rows(count, 5), method, 0).explained


@pytest.mark.slow
@pytest.mark.parametrize(("method", "library"), [("tsne", "sklearn"), ("umap", "umap")])
def test_classes_are_apart_and_the_seed_repeats(method: str, library: str) -> None:
    pytest.importorskip(library)
    data = rows(60, 16)
    found, again = (mapped(data, method, 3).positions for _ in range(2))
    assert torch.equal(found, again)
    labels = torch.arange(60) % 4
    distance = torch.cdist(found, found).fill_diagonal_(torch.inf)
    assert float((labels[distance.argmin(1)] == labels).double().mean()) > 0.95
    assert float(found.mean(0).abs().max()) < 1e-5
