"""`python -m tests.pictures [RUN DATA]`: draw the pictures of the README, of a run and of images that it has not seen.

They are what the commands write: the live display of the run at two thirds of its steps, the curves, the map of the
images, and the sheet of augmentations of the embedded images. Without RUN, one is trained on the embedded images first.
"""

import io
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ssl_cli import curves, records
from ssl_cli.cli import main
from ssl_cli.events import Event, Started, Stepped, from_record
from ssl_cli.ui import view
from ssl_cli.ui.screen import Screen, fold

PLACE = Path(__file__).parents[1] / "examples" / "pictures"
WIDTH = 100
SHOWN = 2 / 3
"""The share of the steps at which the display is drawn."""


def live(run: Path) -> str:
    """Render the panel that a terminal shows during the run as SVG, from its `metrics.jsonl`; no fonts are loaded."""
    found = [event for event in map(from_record, records.events(run)) if event is not None]
    steps = [event for event in found if isinstance(event, Stepped)]
    last = steps[int(SHOWN * (len(steps) - 1))]
    screen = Screen()
    for event in found[: found.index(last) + 1]:
        screen = fold(screen, _moved(event, run))
    console = Console(file=io.StringIO(), record=True, width=WIDTH, force_terminal=True, color_system="truecolor")
    console.print(view.panel("pretrain", screen, last.time, found[0].time, WIDTH))
    return re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="sslcli pretrain", unique_id="live"), flags=re.S)


def _moved(event: Event, run: Path) -> Event:
    """Return the event as of a run in `runs/`, wherever it was."""
    return replace(event, out=f"runs/{run.name}") if isinstance(event, Started) else event


def draw(run: Path, data: str | None, place: Path) -> None:
    """Write the pictures of a run, and of images; None: those that it was trained on."""
    place.mkdir(exist_ok=True)
    (place / "live.svg").write_text(live(run), encoding="utf-8")
    (place / "curves.png").write_bytes(curves.draw({run.name: curves.curves_of(records.events(run))}))
    for words in (
        ["inspect-augs", "--images", "3", "--views", "5", "-o", str(place / "augmentations.png")],
        ["map", str(run), *filter(None, [data]), "--by", "tsne", "--points", "1500", "-o", str(place / "map.png")],
    ):
        if main(words) != 0:
            sys.exit(f"sslcli {' '.join(words)} failed")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        draw(Path(sys.argv[1]), sys.argv[2], PLACE)
    else:
        with tempfile.TemporaryDirectory() as folder:
            if main(["pretrain", "--out", f"{folder}/shapes"]) != 0:
                sys.exit("the run failed")
            draw(Path(folder) / "shapes", None, PLACE)
