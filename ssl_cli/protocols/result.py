"""The end of an evaluation: advice, the result's file in the run folder, and its event."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ssl_cli import records
from ssl_cli.config.images import named_images, same_images
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import Evaluation
from ssl_cli.engine.evaluation.evaluate import conclude
from ssl_cli.engine.evaluation.features import Trained
from ssl_cli.events import Evaluated, Event
from ssl_cli.run_path import result_file
from ssl_cli.trackers.track import track_later
from ssl_cli.verdict import Score, advise, training_of

OTHER = "other"
"""What a result's file says of images that are not the run's own, or some of them."""


def scored(
    run: str, trained: Trained, data: Evaluation, name: str, result: dict[str, Any], settings: Settings,
    words: Sequence[str] = (), identity: Sequence[object] = (),
) -> Iterator[Event]:  # fmt: skip
    """Yield the run's notes, then the result with advice; write it to the run folder's `eval/`, a file a setting.

    The newest is also `NAME.json` there, where one of few labels does not replace one of all, nor one of other images,
    or of some, one of the run's own. Any replaces one of other images.

    The trackers that know the run show it, too.

    Args:
        run: run folder or file.
        trained: what was measured.
        data: the images.
        name: of the result, `knn` or `linear`.
        result: with `top1`, `baselines`, and the number of `queries` or `test` images.
        settings: those of the run, with what names the images.
        words: settings of the evaluation that are in the file's name.
        identity: settings that are in the digest in its name.
    """
    asked = result.get("queries") or result.get("test") or 0
    score = Score(f"{name} top-1".replace("knn", "kNN"), result["top1"], asked, result["baselines"])
    folder = Path(run)
    where = run if folder.is_dir() else ""
    training = training_of(trained.settings, trained.step, trained.steps, where, records.logged_steps(folder))
    result["advice"] = advise(training, score).as_dict() if result["baselines"] else None
    named = (*named_images(settings), settings.data.group_by, settings.run.seed)
    images = (data.bank.name, len(data.bank), len(data.queries), *named)
    words = [*words, "baselines"] if result["baselines"] else words
    file = result_file(name, Path(trained.checkpoint).stem, (*images, *identity), words)
    own = same_images(trained.settings, settings)
    facts = {"data": data.bank.name, "test": data.queries.name, "images": "own" if own else OTHER}
    before = records.json_of(folder / "eval" / f"{name}.json")
    held = records.table(before, "result")
    as_many = result.get("labels") is None or held.get("labels") is not None
    replaces = not held or before.get("images") == OTHER or (own and as_many)
    newest = f"{name}.json" if replaces else ""
    for event in conclude(run, trained, name, result, folder / "eval" / file, newest=newest, **facts):
        if isinstance(event, Evaluated):
            yield from track_later(folder, event)
        yield event
