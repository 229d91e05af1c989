"""The Gram inspector in JupyterLab in a real Chromium: a short READMem run, looked into by mouse and keyboard."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SLOTS = 6
CELL = f"""
from IPython.display import display
from lazyvos import Session, SyntheticClip, make_tracker
from lazyvos_widgets import Clicker, GramInspector

clip = SyntheticClip(seed=3, length=50, size=(96, 128), difficulty="hard")
options = dict(slots={SLOTS}, every=2, lower_bound=0.3)
tracker = make_tracker(memory="readmem", memory_options=options, policy="never", refiner=None, size=64)
session = Session(clip, tracker)
session.correct(mask=clip.mask(0))
inspector = GramInspector(session)
display(inspector)
widget = Clicker(session)
widget
"""
RUN = "len(list(session.play(until=49)))"
FIRST_OFFER = "next(o.t for o in inspector.gram_log.offers if o.what_if is not None)"


def wait_for(page, name: str, value: object) -> None:
    page.wait_for_function(
        "([name, value]) => document.querySelector('.lazyvos-gram')?.dataset[name] === String(value)", arg=[name, value])


def rows(page) -> list[str]:
    """What the bars say, slot by slot."""
    return page.evaluate("""() => [...document.querySelectorAll('.lazyvos-gram-bars .lazyvos-gram-row')].map((row) => {
        let node = row.nextSibling; const texts = [];
        for (; node && !node.classList.contains('lazyvos-gram-row'); node = node.nextSibling) {
            if (node.tagName === 'text' && !node.classList.contains('soft')) texts.push(node.textContent);
        }
        return texts.slice(0, 2).join(' | ');
    })""")


def test_live_then_select_by_keyboard_and_mouse(open_notebook):
    notebook = open_notebook([CELL])
    page = notebook.page
    wait_for(page, "slots", 0)
    assert notebook.ask(RUN) == 49  # tracking in the kernel; the page follows by itself
    wait_for(page, "slots", SLOTS)
    wait_for(page, "t", 48)

    # N slots: N² cells, N thumbnails that are pictures of different frames, one mark per offer, values that are Γ's
    notebook.expect(page.locator(".lazyvos-gram-matrix .lazyvos-gram-cell")).to_have_count(SLOTS**2)
    page.wait_for_function("() => [...document.querySelectorAll('.lazyvos-gram-slot img')].every((i) => i.naturalWidth > 0)")
    entries = notebook.ask("list(tracker.memory.stored)")
    notebook.expect(page.locator(".lazyvos-gram-slot img")).to_have_count(SLOTS)
    words = page.locator(".lazyvos-gram-slot[data-slot]").all_inner_texts()
    assert [word.split("\n")[0] for word in words] == [f"frame {t}" for t in entries]
    assert page.locator(".lazyvos-gram-curve .lazyvos-gram-mark").count() == notebook.ask("len(inspector.gram_log.offers)") == 25
    shapes = page.evaluate("""() => [...new Set([...document.querySelectorAll('.lazyvos-gram-curve .lazyvos-gram-mark')]
        .map((m) => `${m.dataset.reason} ${m.getAttribute('d')} ${m.getAttribute('stroke')} ${m.getAttribute('fill')}`))]""")
    reasons = set(notebook.ask("sorted(inspector.gram_log.counts)"))
    assert {"filled", "replaced", "no gain"} <= reasons
    assert len({shape.split("M")[1] for shape in shapes}) == len(shapes) == len(reasons), "a reason has no shape of its own"
    gram = np.array(notebook.ask("tracker.memory.gram.tolist()"))
    cell = page.locator('.lazyvos-gram-cell[data-row="1"][data-column="3"]')
    cell.scroll_into_view_if_needed()
    cell.hover()
    tip = page.locator(".lazyvos-gram-tip")
    notebook.expect(tip).to_have_text(f"frame {entries[1]} · frame {entries[3]}: {gram[1, 3]:.4f}", use_inner_text=True)
    notebook.expect(page.locator(".lazyvos-gram-slot.on")).to_have_attribute("data-slot", "1")

    # arrows select offered frames; Python has the what-if of the same frame, the page shows its numbers
    page.mouse.move(0, 0)
    page.locator(".lazyvos-gram").focus()
    page.keyboard.press("End")
    wait_for(page, "selected", 48)
    first = notebook.ask("inspector.what_if")
    assert len(first) == SLOTS
    page.keyboard.press("ArrowLeft")
    wait_for(page, "selected", 46)
    notebook.holds("inspector.selected", 46)
    second = notebook.ask("inspector.what_if")
    assert first != second
    free = {int(t): value for t, value in second.items() if t != "0"}  # the annotated frame stays
    best = max(free, key=lambda t: free[t])
    wait_for(page, "best", best)
    shown = rows(page)
    assert [row.split(" | ")[0] for row in shown] == list(second)
    np.testing.assert_allclose([float(row.split(" | ")[1].split(" ")[0].replace("−", "-")) for row in shown], list(second.values()), atol=6e-4)
    assert [t for t, row in zip(second, shown, strict=True) if "★" in row] == [str(best)]
    notebook.expect(page.locator(".lazyvos-gram .lazyvos-live")).to_contain_text("46")
    notebook.expect(page.locator(".lazyvos-gram-matrix .lazyvos-gram-cell")).to_have_count(SLOTS**2 + SLOTS)  # and the frame's own row
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    notebook.expect(page.locator(".lazyvos-gram-slot.on")).to_have_attribute("data-slot", "1")
    notebook.expect(page.locator(".lazyvos-gram-row.on")).to_have_attribute("data-slot", "1")
    page.keyboard.press("Home")
    wait_for(page, "selected", 0)
    notebook.holds("inspector.what_if", {})
    page.keyboard.press("l")
    wait_for(page, "selected", "")
    notebook.expect(page.locator(".jp-Cell")).to_have_count(1)  # keys have not made or run cells
    notebook.expect(page.locator(".jp-InputPrompt").first).to_have_text("[1]:", use_inner_text=True)

    # hovering on the curve looks at a frame and leaves the selection alone; a click selects it
    t = notebook.ask(FIRST_OFFER)
    curve = page.locator(".lazyvos-gram-course")
    curve.scroll_into_view_if_needed()
    box, mark = curve.bounding_box(), page.locator(f'.lazyvos-gram-curve .lazyvos-gram-mark[data-t="{t}"]').bounding_box()
    x = mark["x"] + mark["width"] / 2 - box["x"]
    curve.hover(position={"x": x, "y": 60})
    wait_for(page, "shown", t)
    assert notebook.ask("inspector.selected") is None
    assert len(rows(page)) == SLOTS
    page.mouse.move(5, 5)
    wait_for(page, "shown", "")
    curve.click(position={"x": x, "y": 60})
    notebook.holds("inspector.selected", t)
    other = page.locator('.lazyvos-gram-curve .lazyvos-gram-mark[data-reason="no gain"]').last
    box, mark, last = curve.bounding_box(), other.bounding_box(), other.get_attribute("data-t")
    curve.hover(position={"x": mark["x"] + mark["width"] / 2 - box["x"], "y": 60})
    wait_for(page, "shown", last)
    wait_for(page, "selected", t)
    notebook.expect(tip).to_contain_text(f"frame {last}: no gain", use_inner_text=True)
    page.mouse.move(5, 5)
    wait_for(page, "shown", t)

    # Esc gives the focus back; a narrow page keeps all of it; errors of the page arrive in Python
    page.locator(".lazyvos-gram").focus()
    page.keyboard.press("Escape")
    page.wait_for_function("() => !document.querySelector('.lazyvos-gram').contains(document.activeElement)")
    page.set_viewport_size({"width": 760, "height": 1000})
    page.wait_for_function("() => { const r = document.querySelector('.lazyvos-gram'); return r.scrollWidth <= r.clientWidth + 1; }")
    notebook.holds("list(inspector.errors)", [])
    page.evaluate("() => { Document.prototype.createElementNS = () => { throw new Error('broken on purpose'); }; }")
    page.locator(".lazyvos-gram").focus()
    page.keyboard.press("End")
    notebook.holds("any('broken on purpose' in error for error in inspector.errors)", True)
    notebook.expect(page.locator(".lazyvos-gram .lazyvos-error")).to_contain_text("broken on purpose", use_inner_text=True)
