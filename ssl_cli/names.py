"""File names as they may be shown: whatever a name holds, a terminal must not obey it."""


def shown(name: str, limit: int = 300) -> str:
    """The name with control, bidirectional and undecodable characters escaped, shortened in the middle past `limit`."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return plain if len(plain) <= limit else f"{plain[: limit // 2]}...{plain[-limit // 2 :]}"
