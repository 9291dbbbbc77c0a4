"""The group of an image by its path: a pattern such as `{parent}`, or a regular expression."""

import re
from collections.abc import Callable

from ssl_cli.errors import UsageError
from ssl_cli.names import shown

FIELDS = ("parent", "folder", "stem")
_FIELD = re.compile(r"\{([A-Za-z_]+)\}")


def valid_group_by(words: str) -> str:
    """Return the words, if they are a pattern or a regular expression.

    Raises:
        ValueError: neither.
    """
    group_by(words)
    return words


def require_group_by(words: str) -> None:
    """Refuse words that are neither a pattern nor a regular expression.

    Raises:
        UsageError: they are neither.
    """
    try:
        group_by(words)
    except ValueError as error:
        raise UsageError(
            f"--group-by '{shown(words, 100)}': {error}.", "Such as '{parent}' or 'patient_(\\d+)'."
        ) from error


def group_by(words: str) -> Callable[[str], str | None]:
    """Return the function from a path, relative and with `/`, to the name of its group; None: it has none.

    Of `{parent}` it is the name of the folder that holds the image, of `{folder}` the whole path of that folder, of
    `{stem}` the file's name without its ending; several and words between them are joined. Of a regular expression,
    which is searched for in the path, it is what its parentheses match, joined by `/`, or without any the whole match.

    Raises:
        ValueError: a field that there is not, or no regular expression.
    """
    fields = _FIELD.findall(words)
    if unknown := sorted({*fields} - {*FIELDS}):
        raise ValueError(f"there is no {{{unknown[0]}}}, but {', '.join(f'{{{field}}}' for field in FIELDS)}")
    if fields:
        return lambda path: _filled(words, fields, path)
    try:
        pattern = re.compile(words)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"neither a pattern such as {{parent}} nor a regular expression: {error}") from error
    return lambda path: _matched(pattern, path)


def _filled(words: str, fields: list[str], path: str) -> str | None:
    folder, _, name = path.rpartition("/")
    values = {"parent": folder.rpartition("/")[2], "folder": folder, "stem": name.rpartition(".")[0] or name}
    return _FIELD.sub(lambda field: values[field[1]], words) if all(values[field] for field in fields) else None


def _matched(pattern: re.Pattern[str], path: str) -> str | None:
    found = pattern.search(path)
    if found is None:
        return None
    parts = [part for part in found.groups() if part is not None] if pattern.groups else [found[0]]
    return "/".join(parts) or None
