"""Mistakes in what is found of a set before training."""

from tests.mutants.mutant import Mutant

FACTS, ALIKE, SURVEY, CHECK = (
    "ssl_cli/data/facts.py",
    "ssl_cli/data/alike.py",
    "ssl_cli/data/survey.py",
    "ssl_cli/ui/check.py",
)
FOUND, COMMAND = "tests/data/test_survey.py", "tests/test_data_check.py"
COPIES = f"{FOUND}::test_copies_are_found_whatever_their_names_and_near_ones_whatever_their_size_and_quality"

STORE, DISK = "ssl_cli/data/image_store.py", "ssl_cli/data/disk_cache.py"
WAITING = "ssl_cli/data/waiting.py"

MUTANTS = [
    Mutant(
        None,
        "a-turned-image-has-the-size-of-its-file",
        FACTS,
        "            stored = stored[1], stored[0]\n",
        "            pass\n",
        (f"{FOUND}::test_facts_are_those_of_the_files",),
    ),
    Mutant(None, "a-stretched-image-is-alike", ALIKE, ".log().abs() <= ASPECT", ".log().abs() <= 9", (COPIES,)),
    Mutant(
        None,
        "images-without-contrast-are-alike",
        ALIKE,
        "        near &= shaped[rows, None] & shaped[None, :stop]\n",
        "",
        (f"{FOUND}::test_alike_is_what_plain_loops_find",),
    ),
    Mutant(
        None,
        "a-row-is-alike-to-itself-alone",
        ALIKE,
        "        distances = squares[rows, None] + squares[None, :stop] - 2 *",
        "        distances = squares[rows, None] + squares[None, :stop] - 1.98 *",
        (f"{FOUND}::test_alike_is_what_plain_loops_find",),
    ),
    Mutant(
        None,
        "copies-in-one-class-count-as-between-classes",
        SURVEY,
        "for k in group} - {None}) > 1",
        "for k in group} - {None}) > 0",
        (COPIES,),
    ),
    Mutant(
        None,
        "bad-files-are-none-of-the-exit-code",
        CHECK,
        '    if not result["bad"]["too_many"]:\n',
        "    if True:\n",
        (f"{COMMAND}::test_the_exit_code_is_that_of_pretrain",),
    ),
    *(
        Mutant(None, name, file, old, new, (f"tests/data/test_disk_cache.py::{test}",))
        for name, file, old, new, test in [
            (
                "pixels-that-a-crash-cut-off-are-believed",
                STORE,
                "(not self._checked[index] and zlib.crc32(data) != check)",
                "False",
                "test_what_is_cut_off_or_changed_is_decoded_again",
            ),
            (
                "records-that-a-crash-cut-off-are-believed",
                STORE,
                "(count + 1) * size - 4]) != check:\n            break\n",
                "(count + 1) * size - 4]) != check:\n            pass\n",
                "test_a_record_of_another_image_is_not_believed",
            ),
            (
                "a-file-that-was-written-since-is-the-same",
                DISK,
                "entry.size, entry.changed) + name",
                "entry.size, 0) + name",
                "test_a_cache_is_of_these_files_this_range_and_this_way_of_decoding",
            ),
            (
                "the-range-is-none-of-the-cache-s",
                DISK,
                '"range": None if value_range is None else list(value_range),',
                '"range": None,',
                "test_a_cache_is_of_these_files_this_range_and_this_way_of_decoding",
            ),
            (
                "the-disk-is-filled",
                STORE,
                "        if self._written + size > self._room:\n            raise OSError(0, _FREE)\n",
                "",
                "test_a_part_of_the_disk_stays_free",
            ),
            (
                "a-foreign-folder-is-deleted",
                STORE,
                " and folder.name[7:] == _hash(facts)",
                "",
                "test_room_is_made_by_caches_that_are_not_in_use_and_by_nothing_else",
            ),
            (
                "files-of-others-are-deleted",
                STORE,
                "(_PART.fullmatch(path.name) or path.name == FACTS)",
                "path.name != IN_USE",
                "test_room_is_made_by_caches_that_are_not_in_use_and_by_nothing_else",
            ),
        ]
    ),
    Mutant(
        None,
        "what-an-epoch-leaves-out-is-decoded-later",
        "ssl_cli/data/loader.py",
        "self._order[1][self.steps_per_epoch * self.batch :].tolist()",
        "[]",
        ("tests/data/test_disk_cache.py::test_an_image_that_an_epoch_leaves_out_is_decoded_at_its_end",),
    ),
    Mutant(
        None,
        "the-time-of-views-is-not-measured",
        "ssl_cli/engine/views.py",
        "            self.loader.view_seconds += time.perf_counter() - began\n",
        "            pass\n",
        ("tests/engine/test_views.py::test_views_and_batches_are_those_of_the_pipeline",),
    ),
    *(
        Mutant(None, name, file, old, new, (f"tests/data/test_waiting.py::{test}",))
        for name, file, old, new, test in [
            (
                "decoding-counts-as-the-disk",
                "ssl_cli/data/folder.py",
                "self.times.add(read - began, time.perf_counter() - read)",
                "self.times.add(time.perf_counter() - began, 0.0)",
                "test_reading_and_decoding_are_timed_apart",
            ),
            (
                "what-was-read-before-counts-again",
                WAITING,
                "        self._before = now\n",
                "",
                "test_the_wait_is_split_by_what_reading_took_since",
            ),
            (
                "the-first-epoch-is-warned-of",
                WAITING,
                "passing = self.caches and",
                "passing = False and",
                "test_what_passes_or_costs_little_is_not_warned_of",
            ),
            (
                "a-bottleneck-now-and-then-is-warned-of",
                WAITING,
                "and not passing else 0",
                "and not passing else self._met",
                "test_what_passes_or_costs_little_is_not_warned_of",
            ),
        ]
    ),
]
