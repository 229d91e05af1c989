"""The click widget in JupyterLab in a real Chromium: what is clicked arrives in Python and comes back to the screen."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from lazyvos.datasets.bundled import open_bundled
from lazyvos.lab import packaged_notebook

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELL = """
import numpy as np
import torch
from lazyvos import Action, Session, make_tracker, open_bundled
from lazyvos_widgets import Clicker

class AskAt:
    pseudo_idu, user_idu = False, True
    def __init__(self, *frames):
        self.frames = frames
    def decide(self, prediction):
        return {name: Action.ASK if prediction.t in self.frames else Action.ACCEPT for name in prediction.objects}
    def admits(self, prediction):
        return True

class Disks:  # known masks, so that this test is about the widget and not about the weights
    def refine(self, frame, clicks, mask=None):
        rows, columns = np.mgrid[:frame.shape[0], :frame.shape[1]]
        found = np.zeros(frame.shape[:2], bool)
        for click in clicks:
            found[np.hypot(rows - click.y, columns - click.x) < 40] = click.positive
        return torch.from_numpy(found).float()

source, truth = open_bundled()
session = Session(source, make_tracker(policy=AskAt(4), refiner=Disks()))
widget = Clicker(session)
widget
"""


@pytest.fixture
def notebook(open_notebook):
    return open_notebook([CELL], ratio=2.0)


def inside(truth_of: np.ndarray) -> tuple[float, float]:
    """A pixel deep inside an object."""
    deep = cv2.distanceTransform(np.pad(truth_of, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(deep.argmax()), deep.shape)
    return float(x), float(y)


def test_click_undo_keys_and_request(notebook):
    _, truth = open_bundled()
    x, y = inside(truth[0] > 0)
    page = notebook.page
    notebook.holds("int((session.prediction.labels > 0).sum())", 0)
    before = notebook.pixels()

    # a click: the mask in Python and on the screen, and nothing where there is no mask
    seq = notebook.seq()
    notebook.click(x, y)
    notebook.wait_past(seq)
    clicks = notebook.ask("[[c.x, c.y, c.object, c.positive] for c in session.clicks]")
    assert len(clicks) == 1
    assert abs(clicks[0][0] - x) <= 1
    assert abs(clicks[0][1] - y) <= 1
    assert clicks[0][2:] == [1, True]
    found = notebook.ask("session.prediction.labels.tolist()")
    share = cv2.resize((np.array(found) == 1).astype(np.float32), (64, 36), interpolation=cv2.INTER_AREA)
    assert (share == 1).any()
    assert (share == 0).any()
    change = notebook.pixels() - before
    assert np.median(change[share == 1][:, 2] - change[share == 1][:, 0]) > 15, "the mask is not blue on the screen"
    assert np.quantile(np.abs(change[share == 0]).max(-1), 0.9) <= 6, "the screen changed outside the mask"

    # undo and redo by keys
    seq = notebook.seq()
    page.keyboard.press("z")
    notebook.wait_past(seq)
    notebook.holds("len(session.clicks)", 0)
    notebook.holds("int(session.prediction.labels.max())", 0)
    assert np.abs(before - notebook.pixels()).max() <= 6
    seq = notebook.seq()
    page.keyboard.press("Shift+Z")
    notebook.wait_past(seq)
    notebook.holds("session.prediction.labels.tolist()", found)

    # number keys pick another object; the right button and Shift make negative clicks
    page.keyboard.press("3")
    page.wait_for_selector('.lazyvos-picker [data-object="3"][aria-pressed="true"]')
    seq = notebook.seq()
    notebook.click(300, 150)
    notebook.wait_past(seq)
    seq = notebook.seq()
    notebook.click(300, 60, button="right")
    notebook.wait_past(seq)
    seq = notebook.seq()
    notebook.click(320, 40, modifiers=["Shift"])
    notebook.wait_past(seq)
    notebook.holds("[[c.object, c.positive] for c in session.clicks]", [[1, True], [3, True], [3, False], [3, False]])
    for _ in range(3):
        seq = notebook.seq()
        page.keyboard.press("z")
        notebook.wait_past(seq)
    notebook.holds("list(session.objects)", [1])
    page.keyboard.press("1")

    # Space plays up to the request; its card asks, the lens shows where, a click answers
    page.keyboard.press("Space")
    notebook.wait_for("requests", 1)
    notebook.settle()
    notebook.holds("[session.t, session.waiting]", [4, True])
    card = page.locator(".lazyvos-card")
    notebook.expect(card).to_be_visible()
    notebook.expect(card).to_contain_text("Object 1 uncertain", use_inner_text=True)
    notebook.expect(card).to_contain_text("click or skip", use_inner_text=True)
    notebook.expect(page.locator(".lazyvos-live")).to_contain_text("uncertain")
    lens = page.evaluate("""() => { const lens = document.querySelector(".lazyvos-lens");
        return [...lens.getContext("2d").getImageData(0, 0, lens.width, lens.height).data]; }""")
    assert np.array(lens).reshape(-1, 4)[:, :3].std() > 5
    x, y = inside(truth[4] > 0)
    notebook.click(x, y)
    notebook.wait_for("requests", 0)
    notebook.expect(card).to_be_hidden()
    notebook.holds("len(session.clicks)", 1)

    # arrows: one frame on, one back to look at, on again to the present
    page.keyboard.press("ArrowRight")
    notebook.wait_for("t", 5)
    seq = notebook.seq()
    page.keyboard.press("ArrowLeft")
    notebook.wait_past(seq)
    notebook.expect(page.locator(".lazyvos-status")).to_contain_text("looking back", use_inner_text=True)
    notebook.holds("session.t", 5)
    seq = notebook.seq()
    page.keyboard.press("ArrowRight")
    notebook.wait_past(seq)
    notebook.expect(page.locator(".lazyvos-status")).not_to_contain_text("looking back", use_inner_text=True)

    # entropy by key; keys have not run or made cells; Esc gives the focus back
    still = notebook.pixels()
    seq = notebook.seq()
    page.keyboard.press("e")
    notebook.wait_past(seq)
    assert notebook.ask("len(widget.entropy_map)") > 0
    assert np.abs(notebook.pixels() - still).max() > 12
    notebook.expect(page.locator(".jp-Cell")).to_have_count(1)
    notebook.expect(page.locator(".jp-InputPrompt").first).to_have_text("[1]:", use_inner_text=True)
    page.keyboard.press("Escape")
    page.wait_for_function("() => !document.querySelector('.lazyvos-clicker').contains(document.activeElement)")
    assert notebook.errors() == []


def test_quick_clicks_resize_and_errors(notebook):
    page = notebook.page
    sharp = """() => { const c = document.querySelector('.lazyvos-canvas');
        return Math.abs(c.width - 2 * c.getBoundingClientRect().width) <= 2; }"""
    page.wait_for_function(sharp)
    width = page.locator(".lazyvos-canvas").bounding_box()["width"]
    page.set_viewport_size({"width": 820, "height": 900})
    page.wait_for_function("(old) => document.querySelector('.lazyvos-canvas').getBoundingClientRect().width < old - 50",
                           arg=width)
    page.wait_for_function(sharp)

    # several clicks before the first answer: all arrive, in order, and the last answer stands
    points = [(150, 120), (160, 125), (170, 130), (180, 135)]
    box = page.locator(".lazyvos-canvas").bounding_box()
    for x, y in points:
        page.mouse.click(box["x"] + (x + 0.5) * box["width"] / 456, box["y"] + (y + 0.5) * box["height"] / 256)
    notebook.holds("len(session.clicks)", 4)
    got = notebook.ask("[[c.x, c.y] for c in session.clicks]")
    assert np.abs(np.array(got) - points).max() <= 1
    page.wait_for_function("(id) => document.querySelector('.lazyvos-clicker').dataset.answer === String(id)",
                           arg=notebook.ask("widget.state['answer']"))

    # buttons do not click through to the image
    seq = notebook.seq()
    page.get_by_role("button", name="undo the last click").click()
    notebook.wait_past(seq)
    notebook.holds("len(session.clicks)", 3)

    # an error in Python is shown in the page; an error in the page arrives in Python
    notebook.ask("setattr(session.tracker, 'refiner', None)")
    notebook.click(100, 100)
    page.wait_for_selector(".lazyvos-error:not([hidden])")
    notebook.expect(page.locator(".lazyvos-error")).to_contain_text("refiner", use_inner_text=True)
    page.evaluate("() => { CanvasRenderingContext2D.prototype.arc = () => { throw new Error('broken on purpose'); }; }")
    page.keyboard.press("2")
    notebook.holds("any('broken on purpose' in error for error in widget.errors)", True)


def test_quickstart_runs_and_takes_clicks(open_notebook):
    notebook = open_notebook(packaged_notebook())
    page = notebook.page
    broken = page.evaluate("""() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
        .filter((cell) => cell.type === "code").flatMap((cell) => [...Array(cell.outputs.length).keys()]
        .map((i) => cell.outputs.get(i).toJSON())).filter((output) => output.output_type === "error")""")
    assert broken == [], json.dumps(broken)[:2000]
    assert notebook.errors() == []

    # one more object, clicked by hand
    notebook.wait_for("t", notebook.ask("session.t"))
    before = notebook.pixels()
    page.locator(".lazyvos-clicker").focus()
    page.keyboard.press("2")
    seq = notebook.seq()
    notebook.click(228, 180)
    notebook.wait_past(seq)
    notebook.holds("[int((session.prediction.labels == 2).sum()) > 0, list(session.objects)]", [True, [1, 2]])
    labels = np.array(notebook.ask("session.prediction.labels.tolist()"))
    share = cv2.resize((labels == 2).astype(np.float32), (64, 36), interpolation=cv2.INTER_AREA)
    assert np.median(np.abs(notebook.pixels() - before).max(-1)[share == share.max()]) > 10
