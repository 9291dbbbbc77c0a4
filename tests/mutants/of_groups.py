"""Mistakes with groups: a mask that is too wide or too narrow, a positive that depends on more than it may, a leak."""

from tests.mutants.mutant import Mutant

DENSE, TILED, ROWS = (f"ssl_cli/losses/{name}.py" for name in ("nt_xent", "nt_xent_tiled", "row_softmax"))
POSITIVES, LOADER, SPLIT = (f"ssl_cli/data/{name}.py" for name in ("positives", "loader", "split"))
QUEUE, INSTDISC, BATCH = "ssl_cli/nn/queue.py", "ssl_cli/methods/instdisc.py", "ssl_cli/objective.py"
ORACLE, DRAWN, GROUPING = "tests/oracle/test_groups.py", "tests/data/test_positives.py", "tests/data/test_grouping.py"
RUNS = "tests/engine/test_groups.py"
QUEUED = (f"{RUNS}::test_the_queue_holds_the_group_of_each_key_and_random_rows_none",)
BETWEEN_RANKS = (
    "tests/ranks/test_equality.py::test_ranks_equal_one_process[moco-v2, by group, groups of 8, cached-2]",
)

MUTANTS = [
    Mutant(
        None,
        "the-mask-drops-the-positive",
        DENSE,
        "masked_fill_(other & (group[rows, None] == group[columns]), -torch.inf)",
        "masked_fill_(group[rows, None] == group[columns], -torch.inf)",
        (ORACLE,),
    ),
    Mutant(
        None,
        "groups-matter-on-the-diagonal-alone",
        TILED,
        "            if group is not None:\n                leave_out_group(logits, group, rows, columns)\n",
        "            if group is not None and rows == columns:\n"
        "                leave_out_group(logits, group, rows, columns)\n",
        (ORACLE,),
    ),
    Mutant(
        None,
        "all-blocks-of-a-memory-have-the-groups-of-the-first",
        TILED,
        "extra_group[first : first + size]",
        "extra_group[: len(negatives)]",
        (ORACLE,),
    ),
    Mutant(
        None,
        "the-gradient-of-local-rows-forgets-groups",
        TILED,
        "rows = local_gradient(z, local, logs, ctx.temperature, ctx.tile, group)",
        "rows = local_gradient(z, local, logs, ctx.temperature, ctx.tile)",
        (ORACLE,),
    ),
    Mutant(
        None,
        "the-target-row-is-left-out-with-its-group",
        ROWS,
        "logits.masked_fill_(_without(same, index - start), -torch.inf)",
        "logits.masked_fill_(same, -torch.inf)",
        (ORACLE,),
    ),
    Mutant(
        None,
        "the-own-key-s-group-is-a-negative-of-moco",
        "ssl_cli/losses/info_nce.py",
        "groups[0][block, None] == groups[1]",
        "groups[0][: len(logits), None] == groups[1]",
        (ORACLE,),
    ),
    Mutant(
        None,
        "random-rows-of-the-queue-are-of-group-0",
        QUEUE,
        "(len(self.rows),), -1,",
        "(len(self.rows),), 0,",
        QUEUED,
    ),
    Mutant(None, "the-oldest-groups-stay", QUEUE, "group[-size:]", "group[:size]", QUEUED),
    Mutant(
        None, "an-image-is-its-own-positive", POSITIVES, "step = 1 + draws.integer", "step = draws.integer", (DRAWN,)
    ),
    Mutant(
        None,
        "a-positive-depends-on-the-rows-of-the-rank",
        POSITIVES,
        "draws.integer(seed, epoch, index, 1, _SLOT, others)",
        "draws.integer(seed, epoch, torch.arange(len(index)), 1, _SLOT, others)",
        (DRAWN,),
    ),
    Mutant(
        None,
        "a-bad-positive-is-replaced-by-any-image",
        LOADER,
        "        if of is None or self._partners is None:",
        "        if True:",
        (DRAWN,),
    ),
    Mutant(
        None,
        "a-replaced-image-keeps-the-positive-of-the-bad-one",
        LOADER,
        "drawn = self._partners.draw(self.seed, epoch, index)",
        "drawn = self._partners.draw(self.seed, epoch, prefetched.index)",
        (DRAWN,),
    ),
    Mutant(
        None,
        "first-views-are-of-the-partner-too",
        BATCH,
        "self.partner if view else self.image",
        "self.partner",
        (DRAWN,),
    ),
    Mutant(
        None,
        "ranks-forget-the-groups",
        "ssl_cli/engine/views.py",
        "local, group_at(self.loader.positives, index))",
        "local)",
        BETWEEN_RANKS,
    ),
    Mutant(
        None,
        "whole-groups-are-split",
        SPLIT,
        "held_out = chosen[of]",
        "held_out = chosen[of] & (labels >= 0)",
        (GROUPING,),
    ),
    Mutant(
        None,
        "a-class-is-held-out-whole",
        SPLIT,
        "taken = [min(range(len(counts)), key=counts.__getitem__)]",
        "taken = [*range(len(counts))]",
        (GROUPING,),
    ),
    Mutant(
        None,
        "the-penalty-is-chosen-on-groups-it-was-fitted-to",
        "ssl_cli/transfer/linear.py",
        "    if group is None:\n",
        "    if True:\n",
        ("tests/transfer/test_linear.py",),
    ),
    Mutant(
        None,
        "a-list-s-paths-begin-where-they-differ",
        "ssl_cli/data/grouping.py",
        '[part.prefix if several else "", part.above]',
        '[part.prefix if several else ""]',
        (GROUPING,),
    ),
    Mutant(
        None,
        "groups-may-change-between-two-starts",
        "ssl_cli/engine/pretrain.py",
        'record_of(source, by_group=asked.data.positives == "group")',
        "record_of(source)",
        (f"{RUNS}::test_other_groups_end_a_resume",),
    ),
    Mutant(
        None,
        "what-is-of-one-kind-is-a-near-duplicate",
        "ssl_cli/transfer/duplicates.py",
        " & (small @ thumbnails.T >= THUMBNAILS)",
        "",
        ("tests/transfer/test_duplicates.py",),
    ),
    Mutant(
        None,
        "chance-counts-the-negatives-of-its-own-group",
        BATCH,
        "of(negatives * (1 - part))",
        "of(negatives)",
        ("tests/methods/test_chance_by_group.py",),
    ),
    Mutant(
        None,
        "the-plan-counts-no-groups",
        "ssl_cli/engine/build.py",
        "        objective.own_groups = positives.own_groups\n",
        "",
        (f"{RUNS}::test_the_plan_counts_groups_and_images_alone",),
    ),
]
