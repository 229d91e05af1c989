"""A JupyterLab of its own and a real Chromium that looks at it."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import nbformat
import numpy as np
import pytest

CHROMIUM = os.environ.get("LAZYVOS_CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"autoStartDefaultKernel": True, "windowingMode": "none"},
}
RUN_ALL = """async () => {
    const app = window.jupyterapp, panel = app.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
    while (!panel.sessionContext.session?.kernel) await new Promise((done) => setTimeout(done, 100));
    const kernel = panel.sessionContext.session.kernel;
    await kernel.info;
    app.commands.execute("notebook:run-all-cells");
    return kernel.id;
}"""
NB_DONE = """() => {
    const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells].filter((cell) => cell.type === "code");
    return cells.every((cell) => cell.executionCount !== null && cell.executionState !== "running");
}"""


def absent(reason: str) -> None:
    """Without a browser these tests are skipped, but never where everything has to be tested."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason}, and CI=true does not allow to skip it")
    pytest.skip(reason)


@dataclass
class Lab:
    """A running server."""

    address: str
    token: str
    folder: Path
    runtime: Path


@dataclass
class Notebook:
    """A notebook that is open and run in the browser, and its kernel."""

    page: Any
    kernel: Any
    widget: str = ".lazyvos-clicker"

    def ask(self, expression: str) -> Any:
        """The value of a Python expression in the kernel, through JSON."""
        found: list[str] = []
        reply = self.kernel.execute_interactive(
            f"import json as _json; print(_json.dumps({expression}))", timeout=60, store_history=False,
            output_hook=lambda message: found.append(message["content"].get("text", "")),
        )
        assert reply["content"]["status"] == "ok", reply["content"]
        return json.loads("".join(found))

    def holds(self, expression: str, value: Any, seconds: float = 30) -> None:
        """A Python expression in the kernel comes to a value: what the page sends arrives when it arrives."""
        until = time.monotonic() + seconds
        while (got := self.ask(expression)) != value and time.monotonic() < until:
            time.sleep(0.1)
        assert got == value

    def shows(self, script: str, rows: list[Any], seconds: float = 30) -> None:
        """A script in the page comes to a list of values, in any order: the page paints in the browser's next frame."""
        until = time.monotonic() + seconds
        while (got := sorted(self.page.evaluate(script))) != sorted(rows) and time.monotonic() < until:
            time.sleep(0.05)
        assert got == sorted(rows)

    def expect(self, locator: Any) -> Any:
        """Playwright's assertions, which wait until the page has painted what they ask for."""
        from playwright.sync_api import expect

        expect.set_options(timeout=30_000)
        return expect(locator)

    def root(self) -> Any:
        return self.page.locator(self.widget)

    def wait_for(self, name: str, value: Any, seconds: float = 60) -> None:
        """Wait until the widget has painted a state whose data attribute has a value."""
        self.page.wait_for_function(
            "([widget, name, value]) => document.querySelector(widget)?.dataset[name] === String(value)",
            arg=[self.widget, name, value], timeout=seconds * 1000)

    def seq(self) -> int:
        return int(self.root().get_attribute("data-seq"))

    def wait_past(self, seq: int, seconds: float = 60) -> None:
        """Wait until the widget has painted a state newer than ``seq`` (and the browser a frame after it)."""
        self.page.wait_for_function(
            "([widget, seq]) => Number(document.querySelector(widget).dataset.seq) > seq", arg=[self.widget, seq],
            timeout=seconds * 1000)
        self.settle()

    def settle(self) -> None:
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def click(self, x: float, y: float, **more: Any) -> None:
        """Click on pixel (x, y) of the frame, wherever the canvas lies on the screen."""
        canvas = self.page.locator(".lazyvos-canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        height, width = self.ask("list(widget.session.prediction.size)")
        canvas.click(position={"x": (x + 0.5) * box["width"] / width, "y": (y + 0.5) * box["height"] / height}, **more)

    def pixels(self) -> np.ndarray:
        """The canvas as it is on the screen, averaged over a grid: ``float [36, 64, 3]`` RGB."""
        self.settle()
        flat, height, width = self.page.evaluate("""() => {
            const canvas = document.querySelector(".lazyvos-canvas"), context = canvas.getContext("2d");
            const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
            let text = "";
            for (let i = 0; i < data.length; i += 32768) text += String.fromCharCode(...data.subarray(i, i + 32768));
            return [btoa(text), canvas.height, canvas.width];
        }""")
        image = np.frombuffer(base64.b64decode(flat), np.uint8).reshape(height, width, 4)[..., :3]
        return cv2.resize(image.astype(np.float32), (64, 36), interpolation=cv2.INTER_AREA)

    def errors(self) -> list[str]:
        return self.ask("list(widget.errors)")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    pytest.importorskip("jupyterlab") if os.environ.get("CI", "").lower() != "true" else __import__("jupyterlab")
    if not Path(CHROMIUM).exists():
        absent(f"there is no Chromium at {CHROMIUM}")
    home = tmp_path_factory.mktemp("lab")
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
              "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython"}
    environment = {**os.environ, **{name: str(home / place) for name, place in places.items()}}
    for place in (*places.values(), "work"):
        (home / place).mkdir()
    for name, content in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(8)
    with (home / "lab.log").open("w") as journal:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
             f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={home / 'work'}",
             "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"],
            env=environment, stdout=journal, stderr=subprocess.STDOUT, cwd=home)
        try:
            _wait_for_server(f"http://127.0.0.1:{port}/api?token={token}", server, home / "lab.log")
            yield Lab(f"http://127.0.0.1:{port}", token, home / "work", home / "runtime")
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for_server(address: str, server: subprocess.Popen, journal: Path) -> None:
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"JupyterLab did not start:\n{journal.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def browser(lab: Lab) -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed")
        return
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_notebook(lab: Lab, browser: Any) -> Iterator[Any]:
    """Give ``open_notebook(cells or path)``: open it in JupyterLab, run all cells, wait for the widget (a CSS selector)."""
    from jupyter_client import BlockingKernelClient

    opened = []

    def opener(what: list[str] | Path, *, ratio: float = 1.0, widget: str = ".lazyvos-clicker") -> Notebook:
        name = f"test_{secrets.token_hex(4)}.ipynb"
        if isinstance(what, Path):
            shutil.copy(what, lab.folder / name)
        else:
            book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in what])
            book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(book, lab.folder / name)
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, device_scale_factor=ratio)
        page.set_default_timeout(120_000)
        page.goto(f"{lab.address}/lab/tree/{name}?token={lab.token}&reset")
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
        identity = page.evaluate(RUN_ALL)
        kernel = BlockingKernelClient(connection_file=str(lab.runtime / f"kernel-{identity}.json"))
        kernel.load_connection_file()
        kernel.start_channels()
        opened.append((page, kernel))
        page.wait_for_selector(f"{widget}[data-seq]")
        page.wait_for_function(NB_DONE)
        return Notebook(page, kernel, widget)

    yield opener
    for page, kernel in opened:
        kernel.shutdown()
        kernel.stop_channels()
        page.close()
