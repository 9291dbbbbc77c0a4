"""The length of a queue or memory for a number of images."""

from ssl_cli.config.tree import Settings


def cap_queue(settings: Settings, images: int) -> tuple[Settings, list[str]]:
    """Cap a queue or memory at half the images, and say so: a longer one would hold many a row's own image."""
    most = max(images // 2, 1)
    asked = {name: getattr(settings.method, name, None) for name in ("queue", "memory")}
    long = {name: rows for name, rows in asked.items() if isinstance(rows, int) and rows > most}
    notes = [
        f"The {name} is capped from {rows:,} to {most:,} rows, half of the {images:,} images."
        for name, rows in long.items()
    ]
    method = settings.method.model_copy(update=dict.fromkeys(long, most))
    return settings.model_copy(update={"method": method}), notes
