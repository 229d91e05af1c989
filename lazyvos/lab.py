"""Open JupyterLab on the quickstart."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lazyvos.masks.atomic import atomic_path
from lazyvos.types import InputError

QUICKSTART = "00_quickstart.ipynb"


def packaged_notebook(name: str = QUICKSTART) -> Path:
    """Path of a notebook that comes with lazyvos.

    Raises :class:`InputError` where lazyvos was installed without its notebooks.
    """
    path = Path(__file__).resolve().parents[1] / "notebooks" / name
    if not path.is_file():
        raise InputError(f"{name} is not where lazyvos is installed ({path.parent}); install lazyvos from its checkout "
                         "with pip install -e . or give the path of a notebook")
    return path


def own_copy(notebook: str | os.PathLike[str] | None = None, folder: str | os.PathLike[str] = ".") -> Path:
    """The notebook to work in: ``notebook`` itself, or a copy of the quickstart in ``folder``.

    A copy that is there already is taken as it is; it is never overwritten. Inside the checkout's own ``notebooks``
    folder the quickstart itself is opened.

    Raises :class:`InputError` for a missing notebook or a folder that is none.
    """
    if notebook is not None:
        path = Path(notebook)
        if not path.is_file():
            raise InputError(f"notebook {path} does not exist; give the path of an .ipynb file, or nothing for the "
                             "quickstart")
        return path.resolve()
    where = Path(folder)
    if not where.is_dir():
        raise InputError(f"{where} is no folder; make it first, or leave it out for the current one")
    target = where / QUICKSTART
    if not target.exists():
        source = packaged_notebook()
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    return target.resolve()


def launch(notebook: str | os.PathLike[str] | None = None, *, folder: str | os.PathLike[str] = ".",
           port: int | None = None, no_browser: bool = False, say: Callable[[str], object] = print) -> int:
    """Start JupyterLab on the quickstart (or ``notebook``) and wait until it ends; returns its exit status.

    Args:
        notebook: another notebook instead of the quickstart.
        folder: where the copy of the quickstart goes; JupyterLab shows this folder.
        port: TCP port, 1 to 65535; by default a free one from 8888 on.
        no_browser: do not open a browser; open the printed address yourself.
        say: is called with the address.

    Raises :class:`InputError` before anything is started: no JupyterLab, no such notebook, a port out of range or in use.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise InputError("JupyterLab is not installed; install it with: pip install jupyterlab")
    if port is not None and not 1 <= port <= 65535:
        raise InputError(f"port is {port}; give a number from 1 to 65535")
    chosen = _free_port() if port is None else port
    if port is not None and not _is_free(port):
        raise InputError(f"port {port} is in use; give another one, or none for any that is free")
    path = own_copy(notebook, folder)
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", f"--port={chosen}", "--ServerApp.port_retries=0",
               f"--ServerApp.root_dir={path.parent}", f"--LabApp.default_url=/lab/tree/{path.name}"]
    command += ["--no-browser"] if no_browser else []
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    say(f"JupyterLab: http://localhost:{chosen}/lab/tree/{path.name}?token={token}")
    say("Ctrl-C ends it.")
    # The token goes through the environment: a command line can be read by everybody on the machine.
    server = subprocess.Popen(command, env={**os.environ, "JUPYTER_TOKEN": token})
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.terminate()
        return server.wait()
    finally:
        if server.poll() is None:
            server.kill()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        with contextlib.suppress(OSError, AttributeError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1 if os.name == "posix" else 0)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    for port in range(8888, 8988):
        if _is_free(port):
            return port
    raise InputError("ports 8888 to 8987 are all in use; give a free one")
