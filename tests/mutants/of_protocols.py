"""Mistakes in evaluation protocols: several k in one pass, the confusion matrix, exported files."""

from tests.mutants.mutant import Mutant

KNN, TALLY = "ssl_cli/transfer/knn.py", "ssl_cli/transfer/tally.py"
ENCODER, REQUEST = "ssl_cli/protocols/encoder.py", "ssl_cli/protocols/request.py"
ORACLE, TALLY_TESTS = ("tests/oracle/test_knn.py",), ("tests/transfer/test_tally.py",)
ONNX_TESTS, REQUEST_TESTS = ("tests/protocols/test_onnx.py",), ("tests/protocols/test_request.py",)

MUTANTS = [
    Mutant(None, "each-k-starts-from-all-neighbours", KNN, "scores[position, t], start = score, end",
           "scores[position, t] = score", ORACLE),
    Mutant(None, "k-in-the-order-of-the-command-line", KNN, "sorted((min(k, most), position) for position, k",
           "list((min(k, most), position) for position, k", ORACLE),
    Mutant(None, "later-queries-have-the-first-labels", KNN, "done += len(label)", "done += 0", ORACLE),
    Mutant(None, "the-bank-is-copied", KNN, "    norms = torch.linalg", "    bank = F.normalize(bank.double(), dim=1)\n"
           "    norms = torch.linalg", ("tests/transfer/test_knn.py::test_memory_is_bounded",)),
    Mutant(None, "parts-ignore-the-neighbours", KNN, "PER_NEIGHBOUR * most, ", "",
           ("tests/transfer/test_knn.py::test_memory_is_bounded",)),
    Mutant(None, "rows-and-columns-are-swapped", TALLY, "self.confusion.index_add_(0, labels, ",
           "self.confusion.T.index_add_(0, labels, ", TALLY_TESTS),
    Mutant(None, "equal-bests-count-twice", TALLY, "shares / shares.sum(1, keepdim=True).clamp(min=1)", "shares",
           TALLY_TESTS),
    Mutant(None, "decoded-images-are-fitted-twice", ENCODER, "_as_decoded if in_graph else None", "None", ONNX_TESTS),
    Mutant(None, "a-graph-normalises-again", ENCODER, 'if recorded["in_graph"]:', "if False:", ONNX_TESTS),
    Mutant(None, "another-resize-is-accepted", ENCODER, 'or recorded["resize_short_side"] != short_side(size)', "",
           ONNX_TESTS),
    Mutant(None, "a-protocol-overrides-what-is-given", "ssl_cli/commands/knn_eval.py", "integers(k) if k else ", "",
           REQUEST_TESTS),
]  # fmt: skip
