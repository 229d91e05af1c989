"""The command line: ``lazyvos demo | track | eval | train | bench | lab``."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from lazyvos import commands
from lazyvos.commands import say

FAMILIES = {
    "train": ("lazyvos.training.cli", "train the small networks"),
    "weights": ("lazyvos.weights_cli", "list, fetch, verify and convert weight files"),
    "data": ("lazyvos.data_cli", "which datasets are known, where they are, and whether a copy is whole"),
    "score": ("lazyvos.score_cli", "score masks that any tracker wrote against the truth"),
    "table": ("lazyvos.table_cli", "the published tables, and ours beside them"),
    "study": ("lazyvos.experiments.study_memory", "compare the memory strategies on long clips"),
    "policies": ("lazyvos.experiments.study_policies", "compare the policies, and chance at as many clicks, where a tracker fails"),
    "rounds": ("lazyvos.rounds_cli", "the interactive benchmark: a clip in rounds, clicked by a robot"),
}
"""Commands whose arguments live beside their code: module and what ``--help`` says."""

EPILOG = "Every command has its own --help. Errors in what you give end with exit code 2, Ctrl-C with 130."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _build(words)
    try:
        args = parser.parse_args(words)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    from lazyvos.types import InputError

    try:
        answer = args.run(args)
    except KeyboardInterrupt:
        say("interrupted; what was written is whole")
        return 130
    except (InputError, FileNotFoundError) as error:
        return _fail(args, error, str(error), 2)
    except OSError as error:
        return _fail(args, error, f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 1)
    except Exception as error:
        text = f"unexpected {type(error).__name__}: {error}; run again with --debug to see where"
        return _fail(args, error, text, 1)
    if args.json:
        print(json.dumps(answer, ensure_ascii=False))
    return 1 if isinstance(answer, dict) and answer.get("ok") is False else 0


def _fail(args: argparse.Namespace, error: Exception, text: str, code: int) -> int:
    if args.debug:
        raise error
    say(f"lazyvos: {' '.join(text.split())}")
    return code


def _build(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="lazyvos", epilog=EPILOG, description="Keep an object segmented through video of any length; "
                     "ask for one click only when about to lose it.")  # fmt: skip
    parser.add_argument("--version", action="version", version=f"lazyvos {_version()}")
    known = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    common.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")

    demo = known.add_parser("demo", parents=[common, _network_options("readmem")], help="track the bundled clip from one click and show what comes of it")
    demo.add_argument("--out", default="lazyvos-demo", metavar="DIR", help="folder for the results (default %(default)s)")
    demo.add_argument("--frames", type=_count, metavar="N", help="only the first N frames")
    demo.add_argument("--seed", type=int, metavar="N", help="a generated clip of this seed (any length, default 200 frames) instead")
    demo.set_defaults(run=commands.demo)

    track = known.add_parser("track", parents=[common, _network_options()], help="track objects in a video file, a folder of images, a camera or a stream")
    track.add_argument("source", metavar="SOURCE", help="video file, folder of images, camera number or stream URL")
    track.add_argument("--click", action="append", default=[], metavar="X,Y[@OBJECT][-]",
                       help="a click on the first frame; @2 for object 2, a trailing - for negative; may be repeated")  # fmt: skip
    track.add_argument("--mask", metavar="FILE", help="mask of the first frame (palette or grey PNG) instead of clicks")
    track.add_argument("--out", required=True, metavar="DIR", help="folder for masks, video, log and report")
    track.add_argument("--user", choices=("none", "simulated", "ask"), default="none",
                       help="who answers requests: nobody, a simulated user who knows --truth, you at this terminal")  # fmt: skip
    track.add_argument("--truth", metavar="DIR", help="true masks as PNG, named like the frames; scores the result")
    track.add_argument("--policy", default="lazy", help="when to correct and to ask: lazy, never, always, random, outside, agreement, budget, persistent, lazy+ or lazy-qdmn (default %(default)s)")
    track.add_argument("--max-frames", type=_count, metavar="N", help="stop after N frames")
    track.add_argument("--no-video", action="store_true", help="write no overlay.mp4")
    track.add_argument("--no-report", action="store_true", help="write no report.html")
    track.add_argument("--resume", action="store_true", help="go on after the last snapshot in --out")
    track.set_defaults(run=commands.track)

    evaluate = known.add_parser("eval", parents=[common, _network_options()], help="score a DAVIS-layout folder by the DAVIS-2017 protocol")
    evaluate.add_argument("root", metavar="DIR", help="folder with JPEGImages/, Annotations/, ImageSets/")
    evaluate.add_argument("--split", metavar="FILE", help="list of sequences: a name in ImageSets/ or a text file (default: all)")
    evaluate.add_argument("--start", choices=("mask", "click"), default="mask", help="from the first mask or one click per object")
    evaluate.add_argument("--out", required=True, metavar="DIR", help="folder for masks and results; finished sequences are not repeated")
    evaluate.add_argument("--policy", default="never", help="as for track (default %(default)s)")
    evaluate.add_argument("--user", choices=("none", "simulated"), default="none", help="who answers requests of the policy")
    evaluate.add_argument("--force", action="store_true", help="do all sequences again")
    evaluate.set_defaults(run=commands.evaluate)

    for name, (module, about) in FAMILIES.items():
        family = known.add_parser(name, parents=[common], help=about)
        if words[:1] == [name]:  # its options are looked up only when it is called
            code = importlib.import_module(module)
            code.add_arguments(family)
            family.set_defaults(run=code.run)

    bench = known.add_parser("bench", parents=[common], help="measure speed on this machine")
    bench.add_argument("what", nargs="?", default="speed", choices=("speed", "backbones", "score", "memory", "flat"),
                       help="speed: the shipped network and hot spots; backbones: every network at two frame sizes; score: J&F against a plain implementation; memory: READMem against the published algorithm; flat: memory and time over a long video (default %(default)s)")
    bench.add_argument("--seconds", type=float, default=8.0, metavar="S", help="time for each measurement (default %(default)g)")
    bench.add_argument("--frames", type=_count, default=20000, metavar="N", help="of flat (default %(default)s)")
    bench.add_argument("--memory", default="fifo", help="memory strategy (default %(default)s)")
    bench.add_argument("--device", type=_device, metavar="NAME", help="cpu or cuda (default: cuda where there is one)")
    bench.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto",
                     help="auto is bf16 where the machine computes it natively, else fp32")
    bench.set_defaults(run=commands.bench)

    lab = known.add_parser("lab", parents=[common], help="open the quickstart notebook in JupyterLab")
    lab.add_argument("notebook", nargs="?", metavar="NOTEBOOK", help="another notebook (default: a copy of the quickstart)")
    lab.add_argument("--folder", default=".", metavar="DIR", help="where the copy of the quickstart goes (default: here)")
    lab.add_argument("--port", type=int, metavar="N", help="port of the server (default: a free one)")
    lab.add_argument("--no-browser", action="store_true", help="print the address only")
    lab.set_defaults(run=commands.lab)
    return parser


def _network_options(memory: str = "fifo") -> _Parser:
    net = _Parser(add_help=False)
    net.add_argument("--backbone", default="tiny", help="segmentation network: tiny, tiny-stm, xmem, stcn, mivos, qdmn, tiny-evidential; several joined by + "
                     "are an ensemble, as in tiny+tiny-b+tiny-c (default %(default)s)")
    net.add_argument("--weights", metavar="FILE", help="weights for it: a file (.safetensors, .pth) or a name of `lazyvos weights list`; "
                     "without any, published networks run with random ones")
    net.add_argument("--memory", default=memory, help="which frames to remember: fifo, readmem, longterm, qdmn, rmem, dam4sam, sam2long or unbounded (default %(default)s)")
    net.add_argument("--uncertainty", default="entropy", help="what doubts a mask: entropy, frame-entropy, dropout; epistemic, total or aleatoric (of an "
                     "ensemble), quality (qdmn), evidential (tiny-evidential) (default %(default)s)")
    net.add_argument("--refiner", default="tiny", help="what turns a click into a mask: tiny, ritm, ritm-h18s, sam-hq, sam-hq-vit-l, … (default %(default)s)")
    net.add_argument("--refiner-weights", metavar="FILE", help="weights for it: a file or a name of `lazyvos weights list`")
    net.add_argument("--size", type=_size, default=0, metavar="N", help="short side at which the network runs, or full (default: the network's)")
    net.add_argument("--device", type=_device, metavar="NAME", help="cpu or cuda (default: cuda where there is one)")
    net.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto",
                     help="auto is bf16 where the machine computes it natively, else fp32")
    net.add_argument("--compile", action="store_true", help="compile the network with torch.compile (slow first frames)")
    return net


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of frames; give 1 or more")
    return int(text)


def _size(text: str) -> int | None:
    if text == "full":
        return None
    if not text.isdecimal() or not 32 <= int(text) <= 4320:
        raise argparse.ArgumentTypeError(f"{text!r} is no short side; give 32 to 4320 pixels, or full")
    return int(text)


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no device; give cpu, cuda, cuda:1, mps or auto")
    return text


def _version() -> str:
    try:
        return metadata.version("lazyvos")
    except metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
