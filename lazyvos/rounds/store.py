"""Rounds on disk: an index, and for every round its label maps and soft masks.

::

    OUT/rounds.json          settings, and for every round frame, clicks, objects, seconds
    OUT/round-001/00000.png  label maps of all frames after the round, palette PNG
    OUT/round-001.npz        soft masks, label maps and scores of the frames that the round computed

A round exists once the index names it, and the index is replaced at one blow.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lazyvos.masks.atomic import atomic_path
from lazyvos.masks.writers import MaskWriter
from lazyvos.outputs import make_folder, write_json
from lazyvos.rounds.result import ObjectRound, RoundResult
from lazyvos.rounds.state import Annotation, Cell, State, cell_facts
from lazyvos.types import Click, InputError

INDEX = "rounds.json"
FORMAT = 1


class Folder:
    """The folder of one clip's rounds. Raises :class:`InputError` where it cannot be written to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        make_folder(root)

    @property
    def used(self) -> bool:
        """Are there rounds already?"""
        return (self.root / INDEX).is_file()

    def masks(self, number: int) -> Path:
        """Folder of the label maps after a round."""
        return self.root / f"round-{number:03d}"

    def _soft(self, number: int) -> Path:
        return self.root / f"round-{number:03d}.npz"

    def write(self, result: RoundResult) -> None:
        """Write a round; it does not exist before :meth:`index`."""
        target, partial = self.masks(result.number), self.root / f".round-{result.number:03d}"
        shutil.rmtree(partial, ignore_errors=True)
        earlier, fresh = self.masks(result.number - 1), set(result.touched)
        with MaskWriter(partial) as writer:
            for t in range(len(result)):
                name = f"{t:05d}.png"
                if t in fresh or not (earlier / name).is_file():
                    writer.write(t, result.labels(t))
                else:
                    shutil.copyfile(earlier / name, partial / name)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        cells = {t: cell for t in result.touched if (cell := result.after.cells[t]) is not None}
        facts = {str(t): cell_facts(cell) for t, cell in cells.items()}
        data = b"".join(cell.soft + cell.labels for cell in cells.values())
        with atomic_path(self._soft(result.number)) as temporary:
            np.savez(temporary, facts=_as_bytes(json.dumps(facts).encode()), data=_as_bytes(data))

    def index(self, settings: dict[str, Any], results: list[RoundResult]) -> None:
        """Say which rounds there are. Files of later ones, left by an undo or an interruption, go."""
        entries = [_entry(result) for result in results]
        write_json(self.root / INDEX, {"format": FORMAT, "settings": settings, "rounds": entries})
        for path in self.root.glob("round-*"):
            number = path.name.removeprefix("round-").removesuffix(".npz")
            if number.isdecimal() and int(number) > len(results):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def read_index(self) -> dict[str, Any]:
        """Settings and rounds. Raises :class:`InputError` where there is no index of this format."""
        path = self.root / INDEX
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist; give the out folder of earlier rounds") from error
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}); start the rounds anew in another folder") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"{path} is no index of rounds that this version reads; start the rounds anew in another folder")
        return content

    def replay(self, content: dict[str, Any], state: State) -> list[RoundResult]:
        """The rounds of an index, beginning with the empty ``state``.

        Raises :class:`InputError` where a file of a round is missing or damaged.
        """
        results: list[RoundResult] = []
        for number, entry in enumerate(content["rounds"], 1):
            before, cells = state, self._cells(number)
            frame, objects = int(entry["frame"]), tuple(int(o) for o in entry["known"])
            merged = tuple(cells.get(t, old) for t, old in enumerate(state.cells))
            annotations = state.annotations
            if cells:
                annotations = (*annotations, Annotation(frame, objects, cells[frame]))
            state = State(state.geometry, merged, objects, annotations)
            clicks = tuple(Click(**click) for click in entry["clicks"])
            rows = {int(row["object"]): _object_round(row, clicks) for row in entry["objects"]}
            results.append(RoundResult(number, frame, clicks, rows, tuple(sorted(cells)), entry["seconds"], state, before))
        return results

    def _cells(self, number: int) -> dict[int, Cell]:
        path = self._soft(number)
        try:
            with np.load(path, allow_pickle=False) as file:
                facts, data = json.loads(file["facts"].tobytes()), file["data"].tobytes()
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} is missing or damaged; start the rounds anew in another folder") from error
        cells, at = {}, 0
        for t, one in facts.items():
            middle, end = at + one["soft"], at + one["soft"] + one["labels"]
            size = (int(one["size"][0]), int(one["size"][1]))
            cells[int(t)] = Cell(
                tuple(one["objects"]), size, one["precision"], data[at:middle], data[middle:end], tuple(one["scores"])
            )
            at = end
        return cells


def _as_bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def _entry(result: RoundResult) -> dict[str, Any]:
    rows = [{k: v for k, v in asdict(row).items() if k != "clicks"} for row in result.objects.values()]
    return {
        "frame": result.frame, "clicks": [asdict(click) for click in result.clicks], "known": list(result.after.objects),
        "objects": rows, "frames": len(result.touched), "seconds": dict(result.seconds),
    }  # fmt: skip


def _object_round(row: dict[str, Any], clicks: tuple[Click, ...]) -> ObjectRound:
    own = tuple(click for click in clicks if click.object == row["object"])
    return ObjectRound(row["object"], own, row["source"], row["new"], row["frames"], row["area"])
