"""Mistakes in maps of images."""

from tests.mutants.mutant import Mutant

PLANE, COLORS, PAGE, MAKE = (f"ssl_cli/maps/{name}.py" for name in ("plane", "colors", "page", "make"))
PLANE_TESTS, MAP_TESTS = (("tests/maps/test_plane.py",), ("tests/maps/test_map.py",))

MUTANTS = [
    Mutant(
        None,
        "the-mean-is-not-removed",
        PLANE,
        "        centred = part.double() - mean\n",
        "        centred = part.double()\n",
        PLANE_TESTS,
    ),
    Mutant(
        None,
        "an-axis-points-anywhere",
        PLANE,
        "    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()\n",
        "",
        PLANE_TESTS,
    ),
    Mutant(None, "a-name-ends-the-script", PAGE, '.replace("<", "\\\\u003c")', "", MAP_TESTS),
    Mutant(None, "the-title-is-markup", PAGE, "html.escape(title[0])", "title[0]", MAP_TESTS),
    Mutant(
        None, "images-without-a-label-have-the-first-colour", COLORS, "        line[0] = len(legend)\n", "", MAP_TESTS
    ),
    Mutant(
        None, "thumbnails-have-no-limit-of-bytes", MAKE, "if size + len(text) > MOST_BYTES:", "if False:", MAP_TESTS
    ),
    Mutant(
        None,
        "names-are-those-of-other-images",
        MAKE,
        "shown(source.path(index)) for index in points.index.tolist()",
        "shown(source.path(index)) for index in range(len(points.index))",
        MAP_TESTS,
    ),
]
