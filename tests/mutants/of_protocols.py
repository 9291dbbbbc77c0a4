"""Mistakes in evaluation protocols: several k in one pass, the confusion matrix, exported files."""

from tests.mutants.mutant import Mutant

KNN, TALLY = "ssl_cli/transfer/knn.py", "ssl_cli/transfer/tally.py"
ENCODER, REQUEST = "ssl_cli/protocols/encoder.py", "ssl_cli/protocols/request.py"
ORACLE, TALLY_TESTS = ("tests/oracle/test_knn.py",), ("tests/transfer/test_tally.py",)
GRID, SGD, LINEAR = "ssl_cli/transfer/grid_probe.py", "ssl_cli/transfer/sgd_probe.py", "ssl_cli/protocols/linear.py"
GRID_TESTS, SGD_TESTS = ("tests/transfer/test_grid_probe.py",), ("tests/transfer/test_sgd_probe.py",)
LINEAR_TESTS, FREE_TESTS = ("tests/protocols/test_linear.py",), ("tests/oracle/test_label_free.py",)
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
    Mutant(None, "no-nesterov", GRID, "slope.add_(moved_weight, alpha=MOMENTUM)", "moved_weight", GRID_TESTS),
    Mutant(None, "the-penalty-falls-on-biases", GRID, "error.sum(0)", "error.sum(0) + decay * bias", GRID_TESTS),
    Mutant(None, "held-out-images-train", GRID, "weights, biases = train(others, settings)",
           "weights, biases = train(torch.arange(len(x)), settings)", GRID_TESTS),
    Mutant(None, "what-diverges-is-best", GRID, "return -1.0, -math.inf", "return 2.0, 0.0", GRID_TESTS),
    Mutant(None, "steps-at-other-epochs", SGD, "milestones=(60, 80)", "milestones=(30, 60)", SGD_TESTS),
    Mutant(None, "the-rate-ignores-the-batch", SGD, 'lr_rule="linear", ', 'lr_rule="none", ', SGD_TESTS),
    Mutant(None, "what-is-left-of-a-part-is-lost", SGD, "[h[whole:]], [labels[whole:]]", "[], []", SGD_TESTS),
    Mutant(None, "every-epoch-has-the-same-views", LINEAR, "augmented(pipeline, epoch)}\n            for",
           "augmented(pipeline)}\n            for", LINEAR_TESTS),
    Mutant(None, "every-epoch-has-the-same-order", LINEAR, "draws.permutation(seed, images, epoch)",
           "draws.permutation(seed, images, 0)", LINEAR_TESTS),
    Mutant(None, "crops-are-pretraining-s", LINEAR, "crop=crop, normalize", "crop=how.crop, normalize", LINEAR_TESTS),
    Mutant(None, "even-of-the-first-rows", "ssl_cli/transfer/label_free.py", ", len(view))) if", ")) if", FREE_TESTS),
    Mutant(None, "a-trend-of-one-step", "ssl_cli/protocols/label_free.py", "len(known) > 1", "known",
           ("tests/protocols/test_label_free.py",)),
]  # fmt: skip
