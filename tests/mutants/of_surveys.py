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
        "        apart = squares[rows, None] + squares[None, :stop] - 2 *",
        "        apart = squares[rows, None] + squares[None, :stop] - 1.98 *",
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
]
