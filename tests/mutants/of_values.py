"""Mistakes in how numbers become images: ranges, holes, signs, turns, bytes, and what a run remembers of them."""

from tests.mutants.mutant import Mutant

NUMBERS, WIDE, DECODE = "ssl_cli/data/numbers.py", "ssl_cli/data/wide.py", "ssl_cli/data/decode.py"
VALUES, MEASURED, RUN = "tests/data/test_values.py", "tests/data/test_measured.py", "tests/engine/test_values.py"

MUTANTS = [
    Mutant(
        None,
        "each-image-has-its-own-range",
        "ssl_cli/data/measured.py",
        "    files.value_range = found\n",
        "",
        (f"{MEASURED}::test_a_set_has_one_range_and_dim_images_stay_dim_in_every_format",),
    ),
    Mutant(
        None,
        "a-hot-pixel-darkens-the-image",
        NUMBERS,
        "TAIL = 0.001\n",
        "TAIL = 0.0\n",
        (f"{VALUES}::test_a_hot_pixel_does_not_darken_the_image",),
    ),
    Mutant(
        None,
        "holes-are-in-the-range",
        NUMBERS,
        "        x = x[self._measured(x)]\n",
        "        x = x.reshape(-1)\n",
        (f"{VALUES}::test_numbers_become_the_shades_that_they_are",),
    ),
    Mutant(
        None,
        "white-is-zero-stays-negative",
        NUMBERS,
        "        if self.inverted:\n            np.subtract",
        "        if False:\n            np.subtract",
        (f"{VALUES}::test_numbers_become_the_shades_that_they_are",),
    ),
    Mutant(
        None,
        "the-low-bytes-of-colours-are-lost",
        WIDE,
        '("RGB;16B", "RGB;16L")',
        '("RGB;16B", "RGB;16B")',
        (f"{VALUES}::test_numbers_become_the_shades_that_they_are",),
    ),
    Mutant(
        None,
        "avif-is-not-turned",
        DECODE,
        '    if picture.format == "TIFF":',
        '    if picture.format in ("TIFF", "AVIF"):',
        (f"{VALUES}::test_every_format_is_turned_as_pillow_turns_it",),
    ),
    Mutant(
        None,
        "a-resume-measures-again",
        "ssl_cli/engine/pretrain.py",
        "    asked, looked = (asked, ()) if resolved else measured(asked, source)\n",
        "    asked, looked = measured(asked, source)\n",
        (f"{RUN}::test_a_resume_measures_nothing",),
    ),
    Mutant(
        None,
        "strips-may-overlap-without-an-end",
        "ssl_cli/data/strips.py",
        "    if sum(counts) > length or any(",
        "    if any(",
        ("tests/hostile/test_images.py::test_a_hostile_tiff_is_refused_at_once",),
    ),
]
