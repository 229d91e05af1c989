"""What the commands of the command line do; each takes parsed arguments and returns what ``--json`` prints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lazyvos.outputs import RunResult
    from lazyvos.tracker import Tracker
    from lazyvos.types import Click


def say(text: object) -> None:
    """Tell the person at the terminal, on stderr."""
    print(text, file=sys.stderr)


def _tracker(args: argparse.Namespace, policy: str, fps: float | None = None) -> Tracker:
    """The tracker of the arguments; ``fps`` of the clip tells a budget how long a minute is."""
    from lazyvos.build import make_tracker

    return make_tracker(args.backbone, weights=args.weights, memory=args.memory, policy=policy, refiner=args.refiner,
                        refiner_weights=args.refiner_weights, size=args.size, device=args.device, precision=args.precision,
                        compile=args.compile, uncertainty=args.uncertainty,
                        policy_options={"fps": fps} if policy == "budget" and fps else None)  # fmt: skip


def demo(args: argparse.Namespace) -> dict[str, Any]:
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


def track(args: argparse.Namespace) -> dict[str, Any]:
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
        tracker = _tracker(args, args.policy, source.fps)
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


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from lazyvos.evaluate import EvalConfig, evaluate_folder

    config = EvalConfig(start=args.start, backbone=args.backbone, weights=args.weights, memory=args.memory, policy=args.policy,
                        refiner=args.refiner, refiner_weights=args.refiner_weights, size=args.size, device=args.device,
                        precision=args.precision, compile=args.compile, user=args.user, uncertainty=args.uncertainty)  # fmt: skip
    summary = evaluate_folder(args.root, args.split, args.out, config, force=args.force)
    if not args.json:
        width = max(8, *(len(name) for name in summary["sequences"]))
        print(f"{'sequence':<{width}}      J      F    J&F  frames/s")
        for name, row in [*summary["sequences"].items(), ("mean", summary)]:
            numbers = "".join(f"{'-' if row[k] is None else format(row[k], '.3f'):>7}" for k in ("J", "F", "JF"))
            print(f"{name:<{width}}{numbers}{row['fps'] or 0:>10.1f}")
        print(f"\nmasks and results: {args.out}")
    return summary


def bench(args: argparse.Namespace) -> dict[str, Any]:
    if args.what == "backbones":
        return _bench_backbones(args)
    if args.what == "score":
        return _bench_score(args)
    if args.what == "memory":
        return _bench_memory(args)
    if args.what == "flat":
        return _bench_flat(args)
    from lazyvos.bench import bench as measure
    from lazyvos.types import InputError

    if not 0 < args.seconds <= 3600:
        raise InputError(f"--seconds {args.seconds:g}: give a time above 0 and up to 3600")
    found = measure(seconds=args.seconds, memory=args.memory, device=args.device, precision=args.precision,
                  note=lambda text: say(f"measuring {text} …"))  # fmt: skip
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


def lab(args: argparse.Namespace) -> dict[str, Any]:
    from lazyvos.lab import launch

    code = launch(args.notebook, folder=args.folder, port=args.port, no_browser=args.no_browser, say=say)
    if code:
        raise ChildProcessError(f"JupyterLab ended with exit code {code}")
    return {"exit_code": code}


def _bench_backbones(args: argparse.Namespace) -> dict[str, Any]:
    from lazyvos.bench_backbones import bench_backbones

    found = bench_backbones(device=args.device, precision=args.precision, memory=args.memory, note=lambda text: say(f"measuring {text} …"))
    if not args.json:
        where = found["machine"]
        print(f"{where['gpu'] or where['cpu']}, {where['threads']} threads, torch {where['torch']}, memory {found['memory']}, {found['precision']}, random weights\n")
        print("backbone  parameters  frame     objects   s/frame  frames/s  peak memory")
        for row in found["backbones"]:
            print(f"{row['backbone']:<9}{row['parameters'] / 1e6:>10.1f} M  {row['width']}x{row['height']:<5}{row['objects']:>8}"
                  f"{row['seconds']:>10.3f}{1 / row['seconds']:>10.2f}{row['peak_mb'] or 0:>10.0f} MB")  # fmt: skip
    return found


def _bench_score(args: argparse.Namespace) -> dict[str, Any]:
    from lazyvos.bench_score import bench_score

    found = bench_score(note=lambda text: say(f"measuring {text} …"))
    if not args.json:
        print(f"{found['frames']} frames of {found['size'][1]}x{found['size'][0]}, {found['objects']} objects; CPU seconds, reading files included\n")
        for key, about in (("plain", "whole images, scikit-image"), ("plain_opencv", "whole images, OpenCV")):
            row = found[key]
            print(f"{about:<28}{row['cpu'][0]:>8.2f} s   ours {row['cpu'][1]:.2f} s   {row['times_cpu']:.1f} times   difference {row['difference']:.0e}")
        two = found["processes"]
        print(f"{two['frames']} frames: one process {two['one']:.1f} s, two {two['two']:.1f} s ({two['share']:.2f}), difference {two['difference']:.0e}")
    return found


def _bench_memory(args: argparse.Namespace) -> dict[str, Any]:
    from lazyvos.bench_memory import bench_memory

    found = bench_memory(device=args.device, precision=args.precision, note=lambda text: say(f"measuring {text} …"))
    if not args.json:
        for name, value in found.items():
            print(f"{name:<28} {value}")
    return found


def _bench_flat(args: argparse.Namespace) -> dict[str, Any]:
    from lazyvos.bench_flat import bench_flat

    found = bench_flat(frames=args.frames, device=args.device, precision=args.precision, note=lambda text: say(f"measuring {text} …"))
    if not args.json:
        for name, value in found.items():
            print(f"{name:<16} {value}")
    return found
