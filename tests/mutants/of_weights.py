"""Mistakes with the weights that a run starts from: which tensors are taken, from where, and into what."""

from tests.mutants.mutant import Mutant

LAYOUTS, FIT, FILE = "ssl_cli/weights/layouts.py", "ssl_cli/weights/fit.py", "ssl_cli/weights/file.py"
INITIAL, PRETRAINED = "ssl_cli/weights/initial.py", "ssl_cli/weights/pretrained.py"
FOUND = ("tests/weights/test_layouts.py",)
STARTED = ("tests/weights/test_initial.py",)

MUTANTS = [
    Mutant(None, "statistics-are-left-out", FIT, "if name in found.tensors\n    }",
           'if name in found.tensors and "running" not in name\n    }', FOUND),
    Mutant(None, "the-momentum-encoder-is-taken", LAYOUTS, "(bool(_AVERAGED.search(found)), len(found), found)",
           "(not _AVERAGED.search(found), len(found), found)", FOUND),
    Mutant(None, "stages-are-sorted-as-text", LAYOUTS, "enumerate(stages, 1)", "enumerate(stages[::-1], 1)", FOUND),
    Mutant(None, "further-blocks-are-ignored", FIT, "if _is_layer(name, more[-1], expected):", "if False:", FOUND),
    Mutant(None, "infinite-weights-are-taken", FIT, "if wrong := tensor_file.non_finite(tensors):",
           "if wrong := tensor_file.non_finite({}):", FOUND),
    Mutant(None, "the-key-keeps-its-random-head", INITIAL, "            objective.synchronise()\n", "", STARTED),
    Mutant(None, "the-head-of-another-method-is-taken", INITIAL,
           '["method"]["name"] == method and ":" not in method', '["method"]["name"] != ""', STARTED),
    Mutant(None, "a-changed-file-is-taken", "ssl_cli/checkpoint.py", "if before not in {None, digest}:", "if False:",
           STARTED),
    Mutant(None, "untrained-is-random", "ssl_cli/engine/build.py",
           "build_objective(settings, device, initial=read_initial(settings))", "build_objective(settings, device)",
           STARTED),
    Mutant(None, "the-weights-are-read-on-rank-0-alone", "ssl_cli/engine/workers/worker.py",
           '"state": state, "initial": weights}', '"state": state, "initial": None}', STARTED),
    Mutant(None, "storages-of-any-size-are-allocated", FILE, "            if number > most:\n",
           "            if False:\n", ("tests/weights/test_file.py",)),
    Mutant(None, "tensors-overlap", FILE, "if start < end or stop > data:", "if stop > data:",
           ("tests/weights/test_file.py",)),
    Mutant(None, "a-damaged-download-is-taken", PRETRAINED, "    _require_hash(path)\n", "",
           ("tests/weights/test_pretrained.py",)),
]  # fmt: skip
