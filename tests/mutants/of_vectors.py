"""Mistakes with vectors on disk, with weights for other libraries, and with the list of runs."""

from tests.mutants.mutant import Mutant

EMBED, PARTIAL, WRITE = (f"ssl_cli/vectors/{name}.py" for name in ("embed", "partial", "write"))
EXPORT, RUNS = "ssl_cli/exports/weights.py", "ssl_cli/runs.py"
RANKS, RANKS_TESTS = "ssl_cli/vectors/ranks.py", ("tests/vectors/test_ranks.py",)
SEARCH, STORED, NEIGHBORS = (f"ssl_cli/vectors/{name}.py" for name in ("search", "stored", "neighbors"))
SEARCH_TESTS, NEIGHBORS_TESTS = ((f"tests/vectors/test_{name}.py",) for name in ("search", "neighbors"))
EMBED_TESTS, EXPORT_TESTS, RUNS_TESTS = (
    (f"tests/{name}.py",) for name in ("vectors/test_embed", "exports/test_weights", "test_runs")
)

MUTANTS = [
    Mutant(
        None,
        "a-stopped-command-repeats-its-rows",
        EMBED,
        "torch.arange(start, len(source))",
        "torch.arange(0, len(source))",
        EMBED_TESTS,
    ),
    Mutant(
        None,
        "rows-of-unreadable-images-are-another-s",
        EMBED,
        "Part(images, part.index, finish(",
        "Part(images, images[: len(part.index)], finish(",
        EMBED_TESTS,
    ),
    Mutant(
        None,
        "a-part-that-was-cut-off-keeps-its-rows",
        EMBED,
        "vectors.cut(start)",
        "start = vectors.next_index",
        RANKS_TESTS,
    ),
    Mutant(
        None, "a-rank-encodes-another-s-part", EMBED, "own = first + distributed.rank()", "own = first", RANKS_TESTS
    ),
    Mutant(
        None,
        "ranks-are-gathered-in-another-order",
        RANKS,
        "for data in found if data",
        "for data in found[::-1] if data",
        RANKS_TESTS,
    ),
    Mutant(None, "ranks-need-not-agree", RANKS, "if first[0] != here:", "if False:", RANKS_TESTS),
    Mutant(None, "a-part-without-images-ends-it", EMBED, "except NothingReadError:", "except KeyError:", RANKS_TESTS),
    Mutant(None, "rows-keep-their-length", EMBED, "F.normalize(rows) if l2 else rows", "rows", EMBED_TESTS),
    Mutant(
        None,
        "infinite-rows-are-written",
        EMBED,
        "    if not bool(rows.isfinite().all()):",
        "    if False:",
        EMBED_TESTS,
    ),
    Mutant(
        None,
        "rows-of-other-settings-stay",
        PARTIAL,
        "self._in_order() if found == identity else 0",
        "self._in_order()",
        EMBED_TESTS,
    ),
    Mutant(None, "rows-that-were-cut-off-stay", PARTIAL, " | (end != index + 1)", "", EMBED_TESTS),
    Mutant(
        None,
        "foreign-files-are-overwritten",
        PARTIAL,
        'found.get("schema") != SCHEMA',
        "False",
        EMBED_TESTS,
    ),
    Mutant(None, "two-processes-write-one-file", PARTIAL, "            self._lock()\n", "", EMBED_TESTS),
    Mutant(
        None,
        "csv-has-fewer-digits-than-the-number",
        WRITE,
        '"%.9g"',
        '"%.6g"',
        EMBED_TESTS,
    ),
    Mutant(
        None,
        "weights-are-written-unchecked",
        "ssl_cli/formats/agreement.py",
        "    if not (largest <= tolerance and cosine >= least):",
        "    if False:",
        EXPORT_TESTS,
    ),
    Mutant(
        None,
        "programs-name-paths",
        EXPORT,
        '                node.meta.pop("stack_trace", None)',
        "                pass",
        EXPORT_TESTS,
    ),
    Mutant(
        None,
        "sized-settings-are-not-shown",
        RUNS,
        "        if found and name:",
        "        if False:",
        RUNS_TESTS,
    ),
    Mutant(
        None,
        "links-to-folders-are-followed",
        RUNS,
        "if entry.is_dir(follow_symlinks=False) and",
        "if entry.is_dir() and",
        RUNS_TESTS,
    ),
    Mutant(None, "equal-rows-are-no-pair-at-one", SEARCH, "above - ROUNDING", "above + ROUNDING", SEARCH_TESTS),
    Mutant(None, "a-row-is-its-own-duplicate", SEARCH, "near.triu(1)", "near.triu()", SEARCH_TESTS),
    Mutant(None, "blocks-below-are-not-compared", SEARCH, "range(start, len(rows), BLOCK)", "[start]", SEARCH_TESTS),
    Mutant(None, "the-image-is-its-own-neighbour", NEIGHBORS, "k, without=own,", "k, without=None,", NEIGHBORS_TESTS),
    Mutant(
        None,
        "rows-of-another-run-are-searched",
        STORED,
        'if record["checkpoint"] != checkpoint:',
        "if False:",
        NEIGHBORS_TESTS,
    ),
    Mutant(None, "changed-rows-are-searched", STORED, "        if changed:\n", "        if False:\n", NEIGHBORS_TESTS),
    Mutant(
        None,
        "an-image-without-a-group-is-in-the-last",
        "ssl_cli/vectors/embed.py",
        'names = (*groups.names, "")',
        "names = groups.names",
        ("tests/vectors/test_embed.py::test_groups_are_a_column_of_every_format",),
    ),
    Mutant(
        None,
        "a-group-is-a-number-of-the-row",
        STORED,
        "[line[-shape[1] :] for",
        "[line[2:] for",
        ("tests/vectors/test_embed.py::test_groups_are_a_column_of_every_format",),
    ),
]
