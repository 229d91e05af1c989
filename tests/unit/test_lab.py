"""`lazyvos lab` takes care of the person's own copy and fails early with one sentence."""

from __future__ import annotations

import importlib.util
import socket
import subprocess

import pytest

from lazyvos import lab
from lazyvos.types import InputError


def test_quickstart_is_copied_once_and_never_overwritten(tmp_path):
    path = lab.own_copy(folder=tmp_path)
    assert path == (tmp_path / lab.QUICKSTART).resolve()
    assert path.read_bytes() == lab.packaged_notebook().read_bytes()
    path.write_text("my own work")
    assert lab.own_copy(folder=tmp_path) == path
    assert path.read_text() == "my own work"
    assert [file.name for file in tmp_path.iterdir()] == [lab.QUICKSTART]


def test_bad_input_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("something was started"))
    with pytest.raises(InputError, match=r"mine\.ipynb does not exist"):
        lab.launch(tmp_path / "mine.ipynb")
    with pytest.raises(InputError, match="no folder"):
        lab.launch(folder=tmp_path / "nowhere")
    with pytest.raises(InputError, match="port is 70000"):
        lab.launch(folder=tmp_path, port=70000)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="is in use"):
            lab.launch(folder=tmp_path, port=taken.getsockname()[1])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install jupyterlab"):
        lab.launch(folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_server_gets_notebook_port_and_a_secret_token(tmp_path, monkeypatch):
    started = {}

    class Server:
        def __init__(self, command, env):
            started.update(command=command, token=env["JUPYTER_TOKEN"])

        def wait(self):
            return 3

        def poll(self):
            return 3

    said = []
    monkeypatch.setattr(subprocess, "Popen", Server)
    port = lab._free_port()
    assert lab.launch(folder=tmp_path, port=port, no_browser=True, say=said.append) == 3
    command = started["command"]
    assert f"--port={port}" in command
    assert "--no-browser" in command
    assert f"--LabApp.default_url=/lab/tree/{lab.QUICKSTART}" in command
    assert f"--ServerApp.root_dir={tmp_path.resolve()}" in command
    assert f"http://localhost:{port}/lab/tree/{lab.QUICKSTART}?token={started['token']}" in said[0]
    assert not any(started["token"] in part for part in command)
