"""The rounds view in JupyterLab in a real Chromium: clicks, rounds, the divider, scrubbing through hundreds of frames."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELL = """
import threading
import numpy as np
import torch
from lazyvos import Rounds, SyntheticClip
from lazyvos_widgets import RoundsView

class Discs:  # known masks, so that this test is about the widget and not about the weights
    def __init__(self):
        self.open = threading.Event()
        self.open.set()
    def refine(self, frame, clicks, mask=None):
        self.open.wait(60)
        rows, columns = np.mgrid[:frame.shape[0], :frame.shape[1]]
        found = np.zeros(frame.shape[:2], bool) if mask is None else mask.numpy() > 0.5
        for click in clicks:
            found[np.hypot(rows - click.y, columns - click.x) < 12] = click.positive
        return torch.from_numpy(found).float()

clip = SyntheticClip(seed=3, length=24, size=(96, 128), objects=2)
rounds = Rounds(clip, "tiny", Discs(), "linear", size=96, progress=False)
widget = RoundsView(rounds, clip, objects=(1, 2))
widget
"""
AT = """([x, y]) => {
    const canvas = document.querySelector('.lazyvos-rounds-canvas'), ratio = canvas.width / canvas.clientWidth;
    return [...canvas.getContext('2d').getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1).data].slice(0, 3);
}"""


def click(page, x: float, y: float, **more) -> None:
    """On pixel (x, y) of the frame of 128x96."""
    canvas = page.locator(".lazyvos-rounds-canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    canvas.click(position={"x": (x + 0.5) * box["width"] / 128, "y": (y + 0.5) * box["height"] / 96}, **more)


def colour(page, x: float, y: float) -> np.ndarray:
    """What the canvas shows on pixel (x, y) of the frame, RGB."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    box = page.locator(".lazyvos-rounds-canvas").bounding_box()
    return np.array(page.evaluate(AT, [(x + 0.5) * box["width"] / 128, (y + 0.5) * box["height"] / 96]), float)


def test_two_rounds_from_the_first_click_to_the_divider(open_notebook):
    notebook = open_notebook([CELL], widget=".lazyvos-rounds")
    page = notebook.page
    notebook.wait_for("t", 0)
    marks = "() => [...document.querySelectorAll('.lazyvos-rounds-curve .round')].map((g) => [g.dataset.frame, g.dataset.round])"

    # keys go to a frame; clicks of both objects are collected there, one is taken back
    page.locator(".lazyvos-rounds").focus()
    page.keyboard.press("Shift+ArrowRight")
    notebook.wait_for("t", 10)
    page.locator(".lazyvos-rounds-canvas").scroll_into_view_if_needed()
    plain = colour(page, 40, 40)
    place = page.locator(".lazyvos-rounds-canvas").bounding_box()
    click(page, 40, 40)
    notebook.wait_for("pending", 1)
    assert page.locator(".lazyvos-rounds-canvas").bounding_box() == place, "the picture moves between two clicks"
    page.keyboard.press("2")
    click(page, 90, 50)
    click(page, 64, 20, button="right")
    notebook.wait_for("pending", 3)
    page.keyboard.press("z")
    notebook.wait_for("pending", 2)
    notebook.expect(page.locator(".lazyvos-rounds-waits")).to_contain_text("2 clicks wait on frame 10", use_inner_text=True)
    notebook.holds("[widget.pending[0], [[c.object, c.positive, round(c.x), round(c.y)] for c in widget.pending[1]]]",
                   [10, [[1, True, 40, 40], [2, True, 90, 50]]])

    # cancelled from the page: nothing has happened; then the round runs
    notebook.ask("rounds.refiner.open.clear()")
    page.keyboard.press("Enter")
    notebook.wait_for("busy", "round")
    page.get_by_role("button", name="cancel the round").click()
    notebook.ask("rounds.refiner.open.set()")
    notebook.wait_for("busy", "")
    notebook.holds("[rounds.round, len(widget.pending[1])]", [0, 2])
    page.keyboard.press("Enter")
    notebook.wait_for("round", 1)
    notebook.wait_for("scored", "true")
    notebook.expect(page.locator(".lazyvos-rounds-waits")).to_be_hidden()
    notebook.shows(marks, [["10", "1"]])
    notebook.wait_for("shown", notebook.ask("widget.state['version']"))
    assert np.abs(colour(page, 40, 34) - plain).max() > 40, "the mask of object 1 is painted"
    notebook.expect(page.locator(".lazyvos-rounds-curve .one")).to_have_count(2)
    notebook.expect(page.locator(".lazyvos-rounds-curve")).to_have_attribute("data-measure", "J&F")
    notebook.expect(page.locator(".lazyvos-rounds-status")).to_contain_text(f"J&F {float(np.mean(notebook.ask('[float(v[10]) for v in widget.quality().values()]'))):.3f}", use_inner_text=True)
    page.get_by_label("object of the curve").select_option("2")
    notebook.expect(page.locator(".lazyvos-rounds-curve .one")).to_have_count(0)
    page.locator(".lazyvos-rounds").focus()
    page.keyboard.press("s")
    page.keyboard.press("S")
    page.keyboard.press("s")
    notebook.expect(page.locator(".lazyvos-rounds-curve")).to_have_attribute("data-measure", "uncertainty")

    # the suggested frame by button; there the mask changes; the divider shows both
    suggested = notebook.ask("rounds.suggest()")
    page.get_by_role("button", name="go to the suggested frame").click()
    notebook.wait_for("t", suggested)
    page.keyboard.press("1")
    click(page, 20, 76)
    click(page, 108, 76)
    page.keyboard.press("Enter")
    notebook.wait_for("round", 2)
    notebook.wait_for("shown", notebook.ask("widget.state['version']"))
    notebook.shows(marks, sorted([["10", "1"], [str(suggested), "2"]], key=lambda pair: int(pair[0])))
    page.keyboard.press("m")
    bare = [colour(page, x, 70) for x in (20, 108)]
    page.keyboard.press("m")
    after = [colour(page, x, 70) for x in (20, 108)]
    page.keyboard.press("b")
    divider = page.locator(".lazyvos-rounds-divider")
    divider.wait_for()
    assert [side.inner_text() for side in page.locator(".lazyvos-rounds-side").all()] == ["before round 2", "after round 2"]
    both = [colour(page, x, 70) for x in (20, 108)]
    truth = notebook.ask("[int(rounds.results[-1].labels_before(widget.shown)[70, x]) for x in (20, 108)]")
    assert np.abs(both[1] - after[1]).max() < 2
    assert np.abs(both[0] - after[0]).max() > 30 or truth[0] == 1
    box = divider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] - 4000, box["y"] + 60, steps=4)
    page.mouse.up()
    notebook.expect(divider).to_have_attribute("aria-valuenow", "0")
    assert all(np.abs(colour(page, x, 70) - now).max() < 2 for x, now in zip((20, 108), after, strict=True))
    divider.focus()
    for _ in range(50):
        page.keyboard.press("ArrowRight")
    notebook.expect(divider).to_have_attribute("aria-valuenow", "100")
    for i, x in enumerate((20, 108)):
        if truth[i] == 0:
            assert np.abs(colour(page, x, 70) - bare[i]).max() < 2, "before round 2 nothing is there"
    assert notebook.ask("widget.pending") is None, "dragging the divider clicks nothing"

    # a mark on the timeline leads to exactly its frame
    mark = page.locator('.lazyvos-rounds-curve .round[data-frame="10"] rect')
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
    notebook.wait_for("t", 10)

    # a whole round back and again; Python's rounds and errors of both sides arrive
    page.locator(".lazyvos-rounds").focus()
    page.keyboard.press("u")
    notebook.wait_for("round", 1)
    page.keyboard.press("U")
    notebook.wait_for("round", 2)
    notebook.ask("rounds.undo().number")
    notebook.wait_for("round", 1)
    page.keyboard.press("7")
    click(page, 64, 20, modifiers=["Shift"])
    notebook.wait_for("pending", 1)
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.lazyvos-rounds .lazyvos-error').innerText.includes('object 7 is new and has only negative clicks')")
    notebook.holds("len(widget.errors)", 1)
    notebook.expect(page.locator(".jp-Cell")).to_have_count(1)  # Enter has not made or run cells
    page.keyboard.press("Escape")
    page.wait_for_function("() => !document.querySelector('.lazyvos-rounds').contains(document.activeElement)")
    page.set_viewport_size({"width": 700, "height": 1000})
    page.wait_for_function("() => { const r = document.querySelector('.lazyvos-rounds'); return r.scrollWidth <= r.clientWidth + 1; }")
    page.evaluate("() => { Document.prototype.createElementNS = () => { throw new Error('broken on purpose'); }; }")
    page.locator(".lazyvos-rounds").focus()
    page.keyboard.press("s")
    notebook.holds("any('broken on purpose' in error for error in widget.errors)", True)
    notebook.expect(page.locator(".lazyvos-rounds .lazyvos-error")).to_contain_text("broken on purpose", use_inner_text=True)


LONG = """
import numpy as np
from lazyvos import Rounds
from lazyvos_widgets import RoundsView

frames = np.zeros((400, 48, 64, 3), np.uint8)
frames[:, :, :, 0] = (np.arange(400) % 200)[:, None, None]
rounds = Rounds(frames, "tiny", None, "linear", size=None, progress=False)
widget = RoundsView(rounds)
read = []
frame_of = type(rounds.frames).__getitem__
type(rounds.frames).__getitem__ = lambda self, t: (read.append(t), frame_of(self, t))[1]
widget
"""


def test_scrubbing_hundreds_of_frames_keeps_few(open_notebook):
    notebook = open_notebook([LONG], widget=".lazyvos-rounds")
    page = notebook.page
    notebook.wait_for("t", 0)
    page.locator(".lazyvos-rounds").focus()
    for _ in range(90):
        page.keyboard.press("ArrowRight")
    notebook.wait_for("t", 90)
    for t in range(91, 170):  # one after the other, so that each has to come
        page.keyboard.press("ArrowRight")
        notebook.wait_for("t", t)
    notebook.expect(page.locator(".lazyvos-rounds")).to_have_attribute("data-kept", "64")
    shown = page.evaluate(AT, [5, 5])
    assert abs(shown[0] - 169) < 6
    assert shown[1] < 6
    count = notebook.ask("len(read)")
    page.keyboard.press("Shift+ArrowLeft")
    notebook.wait_for("t", 159)
    notebook.holds("widget.shown", 159)
    notebook.holds("len(read)", count)  # a frame that is kept is not read again
    page.keyboard.press("Home")
    notebook.wait_for("t", 0)
    notebook.holds("len(read)", count + 1)  # frame 0 was no longer kept

    # the pointer on the timeline, and playing
    plot = page.locator(".lazyvos-rounds-plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    x = box["x"] + 40 + (300.5 / 400) * (box["width"] - 48)
    page.mouse.move(x - 200, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(x, box["y"] + 60, steps=12)
    page.mouse.up()
    page.wait_for_function("() => Math.abs(Number(document.querySelector('.lazyvos-rounds').dataset.t) - 300) <= 1")
    page.keyboard.press(" ")
    page.wait_for_function("() => Number(document.querySelector('.lazyvos-rounds').dataset.t) > 308")
    page.keyboard.press(" ")
    time.sleep(0.5)
    stopped = page.locator(".lazyvos-rounds").get_attribute("data-t")
    time.sleep(0.5)
    assert page.locator(".lazyvos-rounds").get_attribute("data-t") == stopped
    assert notebook.errors() == []
