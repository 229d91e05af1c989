"""The command line: ``lazyvos demo | track | eval | train | bench | lab``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:  # heavy imports happen inside the commands, so that --help is quick
    from lazyvos.outputs import RunResult
    from lazyvos.tracker import Tracker
    from lazyvos.types import Click

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
        _say("interrupted; what was written is whole")
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
    return 0


def _fail(args: argparse.Namespace, error: Exception, text: str, code: int) -> int:
    if args.debug:
        raise error
    _say(f"lazyvos: {' '.join(text.split())}")
    return code


def _build(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="lazyvos", epilog=EPILOG, description="Keep an object segmented through video of any length; "
                     "ask for one click only when about to lose it.")  # fmt: skip
    parser.add_argument("--version", action="version", version=f"lazyvos {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    common.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")

    demo = commands.add_parser("demo", parents=[common, _network_options("readmem")], help="track the bundled clip from one click and show what comes of it")
    demo.add_argument("--out", default="lazyvos-demo", metavar="DIR", help="folder for the results (default %(default)s)")
    demo.add_argument("--frames", type=_count, metavar="N", help="only the first N frames")
    demo.add_argument("--seed", type=int, metavar="N", help="a generated clip of this seed (any length, default 200 frames) instead")
    demo.set_defaults(run=_demo)

    track = commands.add_parser("track", parents=[common, _network_options()], help="track objects in a video file, a folder of images, a camera or a stream")
    track.add_argument("source", metavar="SOURCE", help="video file, folder of images, camera number or stream URL")
    track.add_argument("--click", action="append", default=[], metavar="X,Y[@OBJECT][-]",
                       help="a click on the first frame; @2 for object 2, a trailing - for negative; may be repeated")  # fmt: skip
    track.add_argument("--mask", metavar="FILE", help="mask of the first frame (palette or grey PNG) instead of clicks")
    track.add_argument("--out", required=True, metavar="DIR", help="folder for masks, video, log and report")
    track.add_argument("--user", choices=("none", "simulated", "ask"), default="none",
                       help="who answers requests: nobody, a simulated user who knows --truth, you at this terminal")  # fmt: skip
    track.add_argument("--truth", metavar="DIR", help="true masks as PNG, named like the frames; scores the result")
    track.add_argument("--policy", default="lazy", help="when to correct and to ask: lazy or never (default %(default)s)")
    track.add_argument("--max-frames", type=_count, metavar="N", help="stop after N frames")
    track.add_argument("--no-video", action="store_true", help="write no overlay.mp4")
    track.add_argument("--no-report", action="store_true", help="write no report.html")
    track.add_argument("--resume", action="store_true", help="go on after the last snapshot in --out")
    track.set_defaults(run=_track)

    evaluate = commands.add_parser("eval", parents=[common, _network_options()], help="score a DAVIS-layout folder by the DAVIS-2017 protocol")
    evaluate.add_argument("root", metavar="DIR", help="folder with JPEGImages/, Annotations/, ImageSets/")
    evaluate.add_argument("--split", metavar="FILE", help="list of sequences: a name in ImageSets/ or a text file (default: all)")
    evaluate.add_argument("--start", choices=("mask", "click"), default="mask", help="from the first mask or one click per object")
    evaluate.add_argument("--out", required=True, metavar="DIR", help="folder for masks and results; finished sequences are not repeated")
    evaluate.add_argument("--policy", default="never", help="lazy or never (default %(default)s)")
    evaluate.add_argument("--user", choices=("none", "simulated"), default="none", help="who answers requests of the lazy policy")
    evaluate.add_argument("--force", action="store_true", help="do all sequences again")
    evaluate.set_defaults(run=_eval)

    train = commands.add_parser("train", parents=[common], help="train the small networks")
    if words[:1] == ["train"]:
        from lazyvos.training.cli import add_arguments

        add_arguments(train)
    train.set_defaults(run=_train)

    bench = commands.add_parser("bench", parents=[common], help="measure speed on this machine")
    bench.add_argument("--seconds", type=float, default=8.0, metavar="S", help="time for each measurement (default %(default)g)")
    bench.add_argument("--memory", default="fifo", help="memory strategy (default %(default)s)")
    bench.add_argument("--device", type=_device, metavar="NAME", help="cpu or cuda (default: cuda where there is one)")
    bench.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto",
                     help="auto is bf16 where the machine computes it natively, else fp32")
    bench.set_defaults(run=_bench)

    lab = commands.add_parser("lab", parents=[common], help="open the quickstart notebook in JupyterLab")
    lab.add_argument("notebook", nargs="?", metavar="NOTEBOOK", help="another notebook (default: a copy of the quickstart)")
    lab.add_argument("--folder", default=".", metavar="DIR", help="where the copy of the quickstart goes (default: here)")
    lab.add_argument("--port", type=int, metavar="N", help="port of the server (default: a free one)")
    lab.add_argument("--no-browser", action="store_true", help="print the address only")
    lab.set_defaults(run=_lab)
    return parser


def _network_options(memory: str = "fifo") -> _Parser:
    net = _Parser(add_help=False)
    net.add_argument("--backbone", default="tiny", help="segmentation network (default %(default)s)")
    net.add_argument("--weights", metavar="FILE", help="other weights for it (.safetensors, .pth)")
    net.add_argument("--memory", default=memory, help="which frames to remember: fifo, readmem or unbounded (default %(default)s)")
    net.add_argument("--size", type=_size, default=0, metavar="N", help="short side at which the network runs, or full (default: the network's)")
    net.add_argument("--device", type=_device, metavar="NAME", help="cpu or cuda (default: cuda where there is one)")
    net.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto",
                     help="auto is bf16 where the machine computes it natively, else fp32")
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


def _tracker(args: argparse.Namespace, policy: str, refiner: str | None = "tiny") -> Tracker:
    from lazyvos.build import make_tracker

    return make_tracker(args.backbone, weights=args.weights, memory=args.memory, policy=policy, refiner=refiner, size=args.size,
                        device=args.device, precision=args.precision)  # fmt: skip


def _demo(args: argparse.Namespace) -> dict[str, Any]:
    from lazyvos.datasets.bundled import bundled_clip
    from lazyvos.datasets.synthetic import SyntheticClip
    from lazyvos.evaluate import first_clicks
    from lazyvos.interact import SimulatedUser
    from lazyvos.run import run_clip
    from lazyvos.types import InputError

    clip = bundled_clip() if args.seed is None else SyntheticClip(seed=args.seed, length=args.frames or 200)
    assert clip.length is not None
    if args.frames is not None and args.frames > clip.length:
        raise InputError(f"--frames {args.frames}: the bundled clip has {clip.length}; add --seed for a generated one of any length")
    source = clip if args.frames is None else clip.first(args.frames)
    clicks = first_clicks(clip.mask(0), clip.objects)
    tracker = _tracker(args, "lazy")
    result = run_clip(source, tracker, args.out, clicks=clicks, user=SimulatedUser(clip.mask), truth=clip.mask)
    return _told(args, result, f"{clip.name}, started from one click at {clicks[0].x:g},{clicks[0].y:g}")


def _track(args: argparse.Namespace) -> dict[str, Any]:
    from lazyvos.interact import SimulatedUser
    from lazyvos.interact.base import User
    from lazyvos.masks import read_mask
    from lazyvos.outputs import make_folder
    from lazyvos.run import run_clip
    from lazyvos.scoring import TruthFolder
    from lazyvos.start import check_start
    from lazyvos.terminal import TerminalUser
    from lazyvos.types import InputError
    from lazyvos.video import open_source

    clicks = _clicks(args)
    if args.user == "simulated" and args.truth is None:
        raise InputError("--user simulated needs --truth DIR, the true masks it answers from")
    asked = TerminalUser(Path(args.out) / "request.png") if args.user == "ask" else None
    with open_source(args.source) as whole:
        source = whole if args.max_frames is None else whole.first(args.max_frames)
        mask = None if args.mask is None else read_mask(args.mask, source.size)
        truth = None if args.truth is None else TruthFolder(args.truth, whole)
        check_start(source, clicks, mask, truth)
        tracker = _tracker(args, args.policy)
        make_folder(Path(args.out))
        user: User | None = asked
        if args.user == "simulated" and truth is not None:
            user = SimulatedUser(truth)
        result = run_clip(source, tracker, args.out, clicks=clicks, mask=mask, user=user, truth=truth,
                          video=not args.no_video, report=not args.no_report, resume=args.resume)  # fmt: skip
    return _told(args, result, args.source)


def _clicks(args: argparse.Namespace) -> list[Click] | None:
    from lazyvos.types import Click, InputError

    if args.click and args.mask:
        raise InputError("give --click or --mask, one of the two")
    if not args.click and not args.mask:
        raise InputError("say what to follow: --click x,y on the object, or --mask FILE")
    return [Click.parse(text) for text in args.click] or None


def _told(args: argparse.Namespace, result: RunResult, title: str) -> dict[str, Any]:
    from lazyvos.report import table

    if not args.json:
        for heading, rows in ((title, table(result.as_dict())), ("files", list(result.files.items()))):
            print(f"\n{heading}")
            for name, value in rows:
                print(f"  {name:<18}  {value}")
    return result.as_dict()


def _eval(args: argparse.Namespace) -> dict[str, Any]:
    from lazyvos.evaluate import EvalConfig, evaluate_folder

    config = EvalConfig(start=args.start, backbone=args.backbone, weights=args.weights, memory=args.memory, policy=args.policy,
                        size=args.size, device=args.device, precision=args.precision, user=args.user)  # fmt: skip
    summary = evaluate_folder(args.root, args.split, args.out, config, force=args.force)
    if not args.json:
        width = max(8, *(len(name) for name in summary["sequences"]))
        print(f"{'sequence':<{width}}      J      F    J&F  frames/s")
        for name, row in [*summary["sequences"].items(), ("mean", summary)]:
            numbers = "".join(f"{'-' if row[k] is None else format(row[k], '.3f'):>7}" for k in ("J", "F", "JF"))
            print(f"{name:<{width}}{numbers}{row['fps'] or 0:>10.1f}")
        print(f"\nmasks and results: {args.out}")
    return summary


def _train(args: argparse.Namespace) -> dict[str, Any]:
    from lazyvos.training.cli import run

    return dict(run(args))


def _bench(args: argparse.Namespace) -> dict[str, Any]:
    from lazyvos.bench import bench
    from lazyvos.types import InputError

    if not 0 < args.seconds <= 3600:
        raise InputError(f"--seconds {args.seconds:g}: give a time above 0 and up to 3600")
    found = bench(seconds=args.seconds, memory=args.memory, device=args.device, precision=args.precision,
                  note=lambda text: _say(f"measuring {text} …"))  # fmt: skip
    if not args.json:
        where = found["machine"]
        print(f"{where['gpu'] or where['cpu']}, {where['threads']} threads, torch {where['torch']}, memory {found['memory']}, {found['precision']}\n")
        print("frame     network  frames/s   spread  95% within")
        for s in found["speeds"]:
            print(f"{s['width']}x{s['height']:<5} {s['network'] or 'full':>7} {s['fps']:>9.1f} {s['spread']:>8.1f} {s['p95_ms']:>8.0f} ms")
        if found["ratios"]:
            print("\n     naive       fast   times  difference")
        for r in found["ratios"]:
            print(f"{r['naive_ms']:>7.2f} ms {r['fast_ms']:>7.2f} ms {r['times']:>7.1f}  {r['difference']:.1e}  {r['name']}")
    return found


def _lab(args: argparse.Namespace) -> dict[str, Any]:
    from lazyvos.lab import launch

    code = launch(args.notebook, folder=args.folder, port=args.port, no_browser=args.no_browser, say=_say)
    if code:
        raise ChildProcessError(f"JupyterLab ended with exit code {code}")
    return {"exit_code": code}


def _say(text: object) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
