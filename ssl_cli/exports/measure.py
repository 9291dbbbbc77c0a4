"""What rounding the weights costs: the kNN accuracy of an ONNX graph next to that of the run's own network."""

from typing import Any

import onnx
import torch
from torch import Tensor

from ssl_cli.data.sources import open_evaluation
from ssl_cli.engine.evaluation.features import Trained, encode
from ssl_cli.errors import DataError, NoLabelsError
from ssl_cli.formats.onnx import session_of
from ssl_cli.formats.request import FLOAT32
from ssl_cli.nn.evaluating import evaluating
from ssl_cli.transfer.knn import default_k, knn

BANK, QUERIES = 2000, 500
"""Images of the comparison, at most: enough to see a loss of two points."""


def knn_of_both(trained: Trained, model: onnx.ModelProto, dtype: str) -> tuple[dict[str, Any] | None, str]:
    """Measure top-1 of the run's network and of a graph on the same labelled images; also return a note.

    Args:
        trained: the run, on the CPU.
        model: its backbone, fitted images `(N,C,S,S)` to h.
        dtype: the type of the graph's weights, by which its result is named.

    Returns:
        None, without a note where there are no labels, with one where the images are not here.
    """
    settings, session = trained.settings, session_of(model.SerializeToString())
    name = session.get_inputs()[0].name

    def graph(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: x.contiguous().numpy()})[0])

    try:
        images = open_evaluation(settings.data, settings.run.seed).part(BANK, QUERIES, settings.run.seed)
        with evaluating(trained.objective):
            encoders = {FLOAT32: trained.objective.represent, dtype: graph}
            bank, queries = (
                encode(encoders, source, settings, device=torch.device("cpu"))
                for source in (images.bank, images.queries)
            )
    except NoLabelsError:
        return None, ""
    except DataError as error:
        return None, f"What rounding costs in kNN accuracy was not measured: {error.message}"
    k, classes = default_k(bank.label), len(images.queries.classes)
    found: dict[str, Any] = {"k": k, "bank": len(bank.label), "queries": len(queries.label)}
    for encoder in encoders:
        votes = knn(bank.h[encoder], bank.label, queries.h[encoder], classes=classes, k=k)
        found[encoder] = float((votes.answers == queries.label).double().mean())
    return found, ""
