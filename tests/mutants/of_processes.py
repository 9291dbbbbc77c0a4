"""Mistakes of processes that share a step (trap 14)."""

from tests.mutants.mutant import Mutant

COMM, JOB, SHARE = "ssl_cli/distributed.py", "ssl_cli/engine/job.py", "ssl_cli/engine/shards.py"
SYNCHRONIZED, INSTDISC = "ssl_cli/nn/sync_batchnorm.py", "ssl_cli/methods/instdisc.py"
EQUAL = "tests/dist/test_equality.py::test_processes_equal_one"
SIMCLR = (f"{EQUAL}[simclr, groups of 8, direct-2]",)
MOCO = (f"{EQUAL}[moco-v2, groups of 8, direct-3]",)
SPANNING = (f"{EQUAL}[simclr, one group, direct-2]",)
NCE = (f"{EQUAL}[instdisc, groups of 8, direct-3]",)

MUTANTS = [
    Mutant(
        14,
        "each-process-has-the-whole-mean-s-gradient",
        COMM,
        "return outer[0] * ctx.share, None",
        "return outer[0], None",
        MOCO,
    ),
    Mutant(
        14,
        "the-loss-is-that-of-the-own-rows",
        COMM,
        "return summed(part * share)",
        "return part.clone()",
        MOCO,
    ),
    Mutant(
        14,
        "gradients-stay-where-they-were-found",
        JOB,
        "        distributed.all_reduce_gradients(self.objective.parameters())\n",
        "",
        SIMCLR,
    ),
    Mutant(
        14,
        "gradients-are-a-mean-over-processes",
        COMM,
        "flat = summed(torch.cat([grad.reshape(-1) for grad in bucket]))",
        "flat = summed(torch.cat([grad.reshape(-1) for grad in bucket])) / size()",
        SIMCLR,
    ),
    Mutant(
        14,
        "where-a-row-is-another-process-s-negative-it-gets-no-gradient",
        "ssl_cli/losses/nt_xent_tiled.py",
        "weight = (logits + shift[local[block], None]).exp_().add_(logits.add_(shift[None]).exp_())",
        "weight = (logits + shift[local[block], None]).exp_()",
        ("tests/oracle/test_nt_xent.py",),
    ),
    Mutant(
        14,
        "running-statistics-of-the-own-rows",
        JOB,
        "        self.moments.pool()\n",
        "",
        SIMCLR,
    ),
    Mutant(
        14,
        "synchronised-forward-but-not-backward",
        SYNCHRONIZED,
        "distributed.all_reduce_sum(torch.cat([slope.sum(ctx.axes), (slope * out).sum(ctx.axes)])) / total",
        "torch.cat([slope.sum(ctx.axes), (slope * out).sum(ctx.axes)]) / (out.numel() / out.shape[1])",
        SPANNING,
    ),
    Mutant(
        14,
        "positives-of-another-process-s-order",
        SHARE,
        "distributed.all_gather(x, counts)[torch.argsort(order).to(x.device, non_blocking=True)]",
        "distributed.all_gather(x, counts)",
        MOCO,
    ),
    Mutant(
        14,
        "z-is-estimated-by-each-process-for-itself",
        INSTDISC,
        "all_rows = isinstance(batch.local_rows, slice)",
        "all_rows = True",
        NCE,
    ),
]
