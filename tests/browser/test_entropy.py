"""The entropy curve and the request card in JupyterLab in a real Chromium."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lazyvos.datasets.bundled import open_bundled

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELL = """
import numpy as np
import torch
from IPython.display import display
from lazyvos import Session, make_tracker, open_bundled
from lazyvos.uncertainty import Entropy
from lazyvos.uncertainty.base import Doubt
from lazyvos_widgets import Clicker, EntropyCurve

class Disks:  # known masks, so that this test is about the widgets and not about the weights
    def refine(self, frame, clicks, mask=None):
        rows, columns = np.mgrid[:frame.shape[0], :frame.shape[1]]
        found = np.zeros(frame.shape[:2], bool)
        for click in clicks:
            found[np.hypot(rows - click.y, columns - click.x) < 40] = click.positive
        return torch.from_numpy(found).float()

class Known:  # the entropy map as it is, scores that are known: a jump that is pseudo-corrected on frame 4, one that asks on frame 7
    def __init__(self):
        self.t, self.entropy = 0, Entropy()
    def __call__(self, probabilities, labels, objects):
        self.t += 1
        score = {4: 0.35, 7: 0.71}.get(self.t, 0.1)
        return Doubt(self.entropy(probabilities, labels, objects).map, dict.fromkeys(objects, score))

source, truth = open_bundled()
session = Session(source, make_tracker(policy="lazy", uncertainty=Known(), refiner=Disks()))
widget = Clicker(session, entropy=True)
curve = EntropyCurve(widget)
display(curve)
widget
"""


def wait_for(page, name: str, value: object) -> None:
    page.wait_for_function(
        "([name, value]) => document.querySelector('.lazyvos-entropy')?.dataset[name] === String(value)", arg=[name, value])


def test_curve_card_and_entropy(open_notebook):
    notebook = open_notebook([CELL])
    page = notebook.page
    _, truth = open_bundled()
    deep = cv2.distanceTransform(np.pad(truth[0], 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = (int(v) for v in np.unravel_index(int(deep.argmax()), deep.shape))
    seq = notebook.seq()
    notebook.click(x, y)
    notebook.wait_past(seq)
    page.keyboard.press(" ")
    notebook.wait_for("requests", 1)
    wait_for(page, "t", 7)

    # a curve in the object's colour, a mark of each kind, the thresholds of the policy on ΔS
    line = page.locator(".lazyvos-entropy-curve .curve")
    notebook.expect(line).to_have_count(1)
    notebook.expect(line).to_have_attribute("stroke", "rgb(0,114,178)")
    kinds = "() => [...document.querySelectorAll('.lazyvos-entropy-mark')].map((m) => [m.dataset.kind, m.dataset.count])"
    notebook.shows(kinds, [["asked", "1"], ["clicked", "1"], ["pseudo", "1"]])
    notebook.expect(page.locator(".lazyvos-entropy-curve .kept")).to_have_count(1)
    limits = "() => [...document.querySelectorAll('.lazyvos-entropy-curve .limit')].map((l) => [l.dataset.kind, l.dataset.value])"
    notebook.shows(limits, [["memory", "0.8"]])
    page.get_by_role("button", name="change of the uncertainty").click()
    notebook.shows(limits, [["user", "0.5"], ["pseudo", "0.2"]])

    # a click on the mark looks at its frame in both widgets; the tracker stays where it is
    mark = page.locator('.lazyvos-entropy-mark[data-kind="pseudo"]')
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    wait_for(page, "look", 4)
    page.wait_for_function("() => document.querySelector('.lazyvos-entropy-past img').naturalWidth > 0")
    notebook.expect(page.locator(".lazyvos-entropy-facts")).to_contain_text("frame 4")
    notebook.expect(page.locator(".lazyvos-entropy-facts")).to_contain_text("pseudo-correction")
    notebook.expect(page.locator(".lazyvos-back")).to_be_visible()
    notebook.expect(page.locator(".lazyvos-back")).to_contain_text("object 1 is asked about", use_inner_text=True)
    notebook.expect(page.locator(".lazyvos-card")).to_be_hidden()
    notebook.holds("[session.t, widget.state['look'], curve.selected, len(session.clicks)]", [7, 4, 4, 0])
    page.keyboard.press("ArrowLeft")
    wait_for(page, "look", 3)
    page.keyboard.press("ArrowDown")
    wait_for(page, "look", 4)
    notebook.expect(page.locator(".lazyvos-entropy .lazyvos-live")).to_contain_text("frame 4")
    page.keyboard.press("l")
    wait_for(page, "look", "")
    page.keyboard.press("ArrowLeft")
    wait_for(page, "look", 6)
    page.locator(".lazyvos-back").click()
    wait_for(page, "look", "")
    notebook.expect(page.locator(".jp-Cell")).to_have_count(1)

    # the entropy's own opacity
    seq, still = notebook.seq(), notebook.pixels()
    page.locator(".lazyvos-heat").fill("0")
    assert np.abs(notebook.pixels() - still).max() > 8
    page.locator(".lazyvos-heat").fill("0.9")
    notebook.settle()
    assert notebook.seq() == seq, "the slider works in the page"

    # the card: why, and a click in the enlarged region lands on that pixel of the frame
    card = page.locator(".lazyvos-card")
    lens = page.locator(".lazyvos-lens")
    lens.scroll_into_view_if_needed()
    notebook.expect(card).to_contain_text("Object 1: ΔS 0.61 > 0.50 · click or skip", use_inner_text=True)
    at = np.array(notebook.ask("session.requests[0].at"))
    corner, reach = np.array([float(lens.get_attribute(f"data-{name}")) for name in ("left", "top")]), float(lens.get_attribute("data-reach"))
    assert (corner <= at).all()
    assert (at < corner + reach).all()
    screen, shown = lens.bounding_box(), page.locator(".lazyvos-canvas").bounding_box()
    assert screen["width"] / reach == pytest.approx(3 * shown["width"] / 456, rel=0.02), "three times as large as in the frame"
    wanted = np.floor(corner + reach * np.array([0.3, 0.6])) + 0.5
    lens.click(position=dict(zip(("x", "y"), ((wanted - corner) / reach * screen["width"]).tolist(), strict=True)))
    notebook.holds("[[c.x, c.y, c.object, c.positive] for c in session.clicks]", [[*np.floor(wanted).tolist(), 1, True]])
    notebook.wait_for("requests", 0)
    notebook.expect(card).to_be_hidden()

    # by keyboard: undo brings the request back; C, arrows, Shift Enter clicks negatively beside the point
    page.keyboard.press("z")
    notebook.wait_for("requests", 1)
    page.keyboard.press("c")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    notebook.expect(page.get_by_role("button", name="enlarge more")).to_have_text("4×", use_inner_text=True)
    page.keyboard.press("Shift+Enter")
    notebook.holds("[[c.x, c.y, c.positive] for c in session.clicks]", [[*(np.floor(at) + 1).tolist(), False]])
    notebook.wait_for("requests", 0)
    page.wait_for_function("() => document.activeElement.classList.contains('lazyvos-clicker')")  # the focus stays in the widget
    page.keyboard.press("z")
    notebook.wait_for("requests", 1)
    page.keyboard.press("n")
    notebook.wait_for("requests", 0)
    notebook.holds("len(session.clicks)", 0)
    assert notebook.errors() == []
    notebook.holds("list(curve.errors)", [])


LONG = """
import json
from pathlib import Path
from lazyvos_widgets import EntropyCurve

rows = []
for t in range(6000):
    score = 0.9 if t == 4321 else 0.1 + 0.05 * (t % 7) / 7
    if t == 4321:
        rows.append({"event": "request", "t": t, "object": 2, "score": score})
    rows.append({"event": "commit", "t": t, "scores": {"1": 0.1, "2": score}, "kept": t % 5 == 0})
Path("session.jsonl").write_text("\\n".join(map(json.dumps, rows)))
curve = EntropyCurve.from_log("session.jsonl")
curve
"""


def test_a_log_of_thousands_of_frames_alone(open_notebook):
    notebook = open_notebook([LONG], widget=".lazyvos-entropy")
    page = notebook.page
    notebook.wait_for("step", 10)
    notebook.expect(page.locator(".lazyvos-entropy-curve .curve")).to_have_count(2)
    assert page.locator(".lazyvos-entropy-curve *").count() < 80, "the picture grows with the clip"
    page.locator(".lazyvos-entropy").focus()
    page.keyboard.press("End")
    notebook.wait_for("look", 5999)
    page.keyboard.press("ArrowUp")
    notebook.wait_for("look", 4321)
    notebook.expect(page.locator(".lazyvos-entropy-facts")).to_contain_text("object 2: S 0.90")
    notebook.expect(page.locator(".lazyvos-entropy-facts")).to_contain_text("request")

    # zoomed in, single frames; a click on the visible peak of the whole curve finds its frame
    for _ in range(4):
        seq = notebook.seq()
        page.keyboard.press("+")
        notebook.wait_past(seq)
    notebook.wait_for("step", 1)
    first, last = notebook.ask("curve.state['window']")
    assert first <= 4321 <= last
    page.keyboard.press("0")
    notebook.wait_for("step", 10)
    page.keyboard.press("l")
    notebook.wait_for("look", "")
    box = page.locator(".lazyvos-entropy-plot").bounding_box()
    page.mouse.click(box["x"] + 44 + (4321.5 / 6000) * (box["width"] - 54), box["y"] + 120)
    notebook.wait_for("look", 4321)

    # smooth: a quick row of keys is answered by the newest; errors of the page arrive in Python
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    notebook.wait_for("look", 4351)
    notebook.holds("list(curve.errors)", [])
    page.evaluate("() => { Document.prototype.createElementNS = () => { throw new Error('broken on purpose'); }; }")
    page.keyboard.press("s")
    notebook.holds("any('broken on purpose' in error for error in curve.errors)", True)
    notebook.expect(page.locator(".lazyvos-entropy .lazyvos-error")).to_contain_text("broken on purpose", use_inner_text=True)
