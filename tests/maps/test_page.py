"""The page in a real browser, where one is installed: points, thumbnails, zoom, pan, legend, and hostile names."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_cli.maps.colors import Colors, Entry
from ssl_cli.maps.page import page, thumbnail

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NAMES = [
    "plain.png",
    "</script><script>document.title='taken'</script>",
    '"><img src=x onerror=alert(1)>',
    "no picture",
]
PROBE = """
<script>
(async () => {
  const found = {}, canvas = document.querySelector("canvas"), tip = document.querySelector("#tip");
  const view = () => JSON.parse(canvas.dataset.view);
  const at = (k) => ({ x: data.x[k] * view().scale + view().left, y: data.y[k] * view().scale + view().top });
  const send = (kind, place, more) => canvas.dispatchEvent(new (kind === "wheel" ? WheelEvent : PointerEvent)(
    kind, { clientX: place.x, clientY: place.y, bubbles: true, cancelable: true, ...more }));
  const color = (place) => {
    const ratio = devicePixelRatio;
    return [...canvas.getContext("2d").getImageData(place.x * ratio, place.y * ratio, 1, 1).data].slice(0, 3);
  };
  found.colors = data.names.map((_, k) => color(at(k)));
  found.texts = [];
  found.widths = [];
  for (let k = 0; k < data.names.length; k++) {
    send("pointermove", at(k));
    const picture = tip.querySelector("img");
    if (!picture.hidden) await picture.decode();
    found.texts.push(tip.hidden ? null : tip.innerText);
    found.widths.push(picture.hidden ? 0 : picture.naturalWidth);
  }
  send("pointermove", { x: 3, y: innerHeight - 3 });
  found.away = tip.hidden;
  const before = view(), fixed = { x: 300, y: 200 };
  const below = () => [(fixed.x - view().left) / view().scale, (fixed.y - view().top) / view().scale];
  const under = below();
  send("wheel", fixed, { deltaY: -600 });
  found.zoom = view().scale / before.scale;
  found.moved = Math.hypot(below()[0] - under[0], below()[1] - under[1]);
  const start = { x: Math.round(at(1).x), y: Math.round(at(1).y) }, from = at(1);
  send("pointerdown", start, { pointerId: 1 });
  send("pointermove", { x: start.x + 40, y: start.y - 25 });
  send("pointerup", start, { pointerId: 1 });
  found.pan = [at(1).x - from.x, at(1).y - from.y];
  send("dblclick", start);
  found.back = view().scale === before.scale && view().left === before.left;
  document.querySelector("#legend button").click();
  found.hidden = color(at(0));
  send("pointermove", at(0));
  found.pointed = !tip.hidden && tip.innerText.includes("plain.png");
  found.title = document.title;
  const entries = performance.getEntriesByType("resource").map((entry) => entry.name);
  found.loaded = entries.filter((name) => !name.startsWith("data:"));
  document.documentElement.dataset.found = JSON.stringify(found);
})().catch((error) => { document.documentElement.dataset.found = JSON.stringify(String(error)); });
</script>
"""


def opened(path: Path) -> dict[str, Any]:
    """Open the page in a browser without a network, run the probe in it, and return what it found."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    assert BROWSER is not None
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=900,700", "--virtual-time-budget=20000"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={path.parent / 'profile'}", "--dump-dom"]
    done = subprocess.run([BROWSER, *flags, path.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    (found,) = re.findall(r'data-found="([^"]*)"', done.stdout)
    result = json.loads(unescape(found))
    assert isinstance(result, dict), result
    return result


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_the_page_works_in_a_browser(tmp_path: Path) -> None:
    positions = torch.tensor([[0.0, 0.0], [4.0, 1.0], [1.0, 3.0], [3.0, 4.0]], dtype=torch.float64)
    legend = (Entry("red", "#ff0000", 2), Entry("blue", "#0000ff", 2))
    colors = Colors("label", torch.tensor([0, 0, 1, 1]), legend, ("red", "red", "blue", "blue"))
    images = [torch.full((3, 20, 30 + 10 * k), 60 * k, dtype=torch.uint8) for k in range(3)]
    thumbnails = {k: thumbnail(image) for k, image in enumerate(images)}
    (tmp_path / "m.html").write_bytes(page(positions, colors, ["four <points>", "below"], NAMES, thumbnails, 0))
    found = opened(tmp_path / "m.html")
    assert found["colors"] == [[255, 0, 0]] * 2 + [[0, 0, 255]] * 2
    assert found["texts"] == [f"{label}: {name}" for label, name in zip(colors.words, NAMES, strict=True)]
    assert found["widths"] == [30, 40, 50, 0]
    assert found["away"] is True
    assert found["zoom"] == pytest.approx(2.46, abs=0.01)
    assert found["moved"] == pytest.approx(0, abs=1e-6)
    assert found["pan"] == pytest.approx([40, -25], abs=1e-6)
    assert found["back"] is True
    assert found["hidden"] != [255, 0, 0]
    assert found["pointed"] is False
    assert found["title"] == "four <points>"
    assert found["loaded"] == []
