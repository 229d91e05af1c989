"""The page's side of a widget: its script and style sheet behind what all of them share."""

from __future__ import annotations

from pathlib import Path


def source(name: str) -> tuple[str, str]:
    """Script and style sheet of a widget, each one text, as ``anywidget`` takes them."""
    here = Path(__file__).parent
    script, style = ((here / f"common.{kind}").read_text("utf-8") + (here / f"{name}.{kind}").read_text("utf-8") for kind in ("js", "css"))
    return script, style
