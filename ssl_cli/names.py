"""File names: which are images', and how any may be shown, since a terminal must not obey what a name holds."""

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .avif .ppm .pgm .pbm .pnm".split()  # noqa: SIM905
)


def shown(name: str, limit: int = 300) -> str:
    """The name with control, bidirectional and undecodable characters escaped, shortened in the middle past `limit`."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return plain if len(plain) <= limit else f"{plain[: limit // 2]}...{plain[-limit // 2 :]}"
