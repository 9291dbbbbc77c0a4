"""How good a representation is, without labels: RankMe, alignment, uniformity, and whether a view finds its image."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli.losses.geometry import uniformity
from ssl_cli.transfer.knn import SIMILARITIES

EPSILON = 1e-7
"""Of equation 1 of RankMe."""


@torch.no_grad()
def rankme(h: Tensor) -> float:
    """Compute RankMe of representations h `(N,F)`: about how many of its dimensions are in use, 1 to min(N, F).

    It is exp(-sum_k p_k log p_k) with p_k = s_k / sum_j s_j + 1e-7, where s are the singular values of h, which is
    neither centred nor normalised (Garrido et al. 2023, arXiv 2210.02885, equation 1). 0 where all of h is 0.
    """
    values = torch.linalg.svdvals(h.cpu().double())
    if not bool(values.sum() > 0):
        return 0.0
    p = values / values.sum() + EPSILON
    return float(torch.special.entr(p).sum().exp())


@torch.no_grad()
def consistency(images: Tensor, views: Tensor) -> float:
    """Compute the share of views whose nearest image, by cosine, is the one that the view was made of.

    Row i of `views` represents a randomly augmented view of the image that row i of `images` represents; the
    candidates are all N images. It is the contrastive top-1 of one view against images instead of other views, so
    instance retrieval as in InvaSpread (Ye et al. 2019, arXiv 1904.03436). Images equally near count as in a random
    order: of a constant representation the share is 1/N.

    Args:
        images: `(N,F)`.
        views: `(N,F)`.

    Raises:
        ValueError: not as many views as images, or none.
    """
    if images.shape != views.shape or len(images) == 0:
        raise ValueError(f"needs a view of each image, got {tuple(images.shape)} and {tuple(views.shape)}")
    images, views = (F.normalize(rows.float(), dim=1) for rows in (images, views))
    found, step = 0.0, max(1, SIMILARITIES // len(images))
    for start in range(0, len(views), step):
        similarity = views[start : start + step] @ images.T
        own = similarity.diagonal(start)[:, None]
        nearest = (similarity <= own).all(1)
        found += float((nearest / (similarity == own).sum(1).clamp(min=1)).sum())
    return found / len(images)


@torch.no_grad()
def alignment(first: Tensor, second: Tensor) -> float:
    """Compute the mean squared distance of two views of an image, `(N,F)` each, of length one; lower is closer.

    Wang and Isola 2020, arXiv 2005.10242, equation 5 with alpha = 2.
    """
    first, second = (F.normalize(rows.double(), dim=1) for rows in (first, second))
    return float((first - second).square().sum(1).mean())


def measures(images: Tensor, view: Tensor, second: Tensor | None = None) -> dict[str, float]:
    """Compute `consistency` and `rankme` of images and a view of each, `(N,F)`; with a second view also the geometry.

    That is `alignment` of the two views, and `uniformity` of all pairs of first views, divided by their length.
    """
    found = {"consistency": consistency(images, view), "rankme": rankme(images)}
    if second is None:
        return found
    even = float(uniformity(F.normalize(view.double(), dim=1), len(view))) if len(view) > 1 else 0.0
    return {**found, "alignment": alignment(view, second), "uniformity": even}
