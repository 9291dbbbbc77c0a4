"""Group the images of places by their paths, without torch."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ssl_cli.config.group_by import group_by
from ssl_cli.data.part import Part, Words
from ssl_cli.errors import DataError
from ssl_cli.names import shown


def grouped(parts: Sequence[Part], words: str | None, *, required: bool = True) -> list[Part]:
    """Return the parts with the groups of their images as `group_by(words)` names them; None: as they are.

    Paths are relative to their place; with several parts they begin with the name of theirs.

    Raises:
        DataError: no image has a group, and one is required.
    """
    if words is None:
        return [*parts]
    found, any_group = list[Part](), False
    for part in parts:
        groups, alone, name = Words(), 0, group_by(words)
        for path in paths(part, several=len(parts) > 1):
            group = name(path)
            groups.append(group)
            alone += group is None
        any_group |= bool(groups)
        notes = (f"in no group: {alone:,}",) if alone else ()
        found.append(replace(part, groups=groups.numbered(), notes=(*part.notes, *notes)))
    if required and not any_group:
        example = next((path for part in parts for path in paths(part, several=len(parts) > 1)), "")
        what = f"--group-by '{shown(words, 100)}' finds no group in any path, such as '{shown(example, 200)}'."
        raise DataError(what, "Try '{parent}', '{folder}', or a regular expression such as '^([^/]+)/'.")
    return found


def paths(part: Part, *, several: bool) -> Iterator[str]:
    """Yield the path of each image, relative to its place, with `/`."""
    above = "/".join(filter(None, [part.prefix if several else "", part.above]))
    above = above and f"{above}/"
    return (above + name for name in part.names)
