"""Mistakes that lose work or let code in: what is not synced, renamed, hashed or verified, and the loader."""

from tests.mutants.mutant import Mutant

DISK, CHECKPOINT, FOLDER = "ssl_cli/disk.py", "ssl_cli/checkpoint.py", "ssl_cli/engine/run/folder.py"
LOCK, TENSOR_FILE = "ssl_cli/lock.py", "ssl_cli/tensor_file.py"
POWER_LOSS = ("tests/faults/test_power_loss.py::test_a_sample_of_what_a_power_loss_leaves",)
ENDS = ("tests/faults/test_operations.py::test_the_process_ends_at_any_operation",)
FAILS = ("tests/faults/test_operations.py::test_any_operation_fails",)
ALTERED = ("tests/faults/test_operations.py::test_a_disk_that_alters_what_is_written_costs_no_checkpoint",)

MUTANTS = [
    Mutant(
        None,
        "files-are-not-synced",
        DISK,
        "            os.fsync(file.fileno())\n",
        "",
        POWER_LOSS,
    ),
    Mutant(
        None,
        "renames-are-not-synced",
        DISK,
        "        temporary.replace(path)\n        sync_folder(path.parent)\n",
        "        temporary.replace(path)\n",
        POWER_LOSS,
    ),
    Mutant(
        None,
        "new-folders-are-not-synced",
        DISK,
        "        sync_folder(path.parent)\n\n\ndef require_writable",
        "        pass\n\n\ndef require_writable",
        ("tests/test_disk.py::test_a_new_folder_is_synced_in_the_one_above_it",),
    ),
    Mutant(
        None,
        "deleted-checkpoints-are-not-synced",
        FOLDER,
        "        disk.sync_folder(folder)  # no checkpoint may come back, and be taken for one of the new run\n",
        "",
        POWER_LOSS,
    ),
    Mutant(
        None,
        "files-are-copied-over-the-old-ones",
        DISK,
        "        temporary.replace(path)\n",
        "        path.write_bytes(temporary.read_bytes())\n        temporary.unlink()\n",
        ENDS,
    ),
    Mutant(
        None,
        "files-are-written-in-place",
        DISK,
        'temporary = path.with_name(f".{path.name}.tmp.{os.getpid()}")',
        "temporary = path",
        ENDS,
    ),
    Mutant(
        None,
        "temporary-files-stay",
        DISK,
        "        if re.search(",
        "        if False and re.search(",
        ENDS,
    ),
    Mutant(
        None,
        "only-the-newest-checkpoint-is-kept-and-deleted-before-it-is-written",
        CHECKPOINT,
        "    digest, size = disk.write_atomic(path,",
        "    for old in _newest_first(folder, run):\n        old.unlink()\n    digest, size = disk.write_atomic(path,",
        ENDS,
    ),
    Mutant(
        None,
        "closing-a-file-on-a-full-disk-hides-the-error",
        FOLDER,
        "            with contextlib.suppress(OSError):  # a full disk, which `record` has reported",
        "            with contextlib.suppress(KeyError):  # a full disk, which `record` has reported",
        FAILS,
    ),
    Mutant(
        None,
        "older-checkpoints-are-deleted-before-the-new-one-is-verified",
        CHECKPOINT,
        "    try:\n        _verify(path)\n    except CheckpointError as error:\n",
        "    try:\n        pass\n    except CheckpointError as error:\n",
        ALTERED,
    ),
    Mutant(
        None,
        "a-checkpoint-is-not-compared-with-its-hash",
        CHECKPOINT,
        'elif digest != disk.read_json(facts)["sha256"]:',
        'elif not disk.read_json(facts)["sha256"]:',
        ("tests/faults/test_corrupt.py",),
    ),
    Mutant(
        None,
        "a-checkpoint-without-its-digest-is-not-checked",
        CHECKPOINT,
        "            tensor_file.require_intact(path)\n",
        "            pass\n",
        ("tests/faults/test_corrupt.py",),
    ),
    Mutant(
        None,
        "code-in-a-checkpoint-is-run",
        TENSOR_FILE,
        "weights_only=True, mmap=True",
        "weights_only=False, mmap=True",
        ("tests/test_architecture.py::test_nothing_unsafe_is_called",),
    ),
    Mutant(
        None,
        "a-pickle-is-run-before-it-is-looked-at",
        TENSOR_FILE,
        "    _require_plain_structure(path)\n    return",
        "    return",
        ("tests/hostile/test_checkpoints.py::test_it_is_refused",),
    ),
    Mutant(
        None,
        "a-child-process-keeps-the-lock",
        LOCK,
        "fcntl.lockf(file, ",
        "fcntl.flock(file, ",
        ("tests/engine/run/test_folder.py::test_a_child_process_does_not_keep_the_lock",),
    ),
]
