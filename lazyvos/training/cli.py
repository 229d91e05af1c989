"""``lazyvos train``: data folders in, weights out."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from lazyvos import hub
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.masks.atomic import atomic_path
from lazyvos.refine.clicknet import ClickNet
from lazyvos.training.clicks import ClickTask
from lazyvos.training.clips import ClipMaker
from lazyvos.training.config import Phase, TrainConfig
from lazyvos.training.data import Still, Video, load_stills, load_videos, procedural_stills
from lazyvos.training.loop import Task, fit
from lazyvos.training.track import TrackTask
from lazyvos.types import InputError

# The runs that made the shipped weights; `--scale` multiplies their steps.
TRACKER = TrainConfig(
    phases=(
        Phase(1800, 128, 12, 2, 0.25, 10),
        Phase(1500, 160, 7, 3, 0.4, 15),
        Phase(2000, 208, 4, 4, 0.5, 22),
        Phase(700, 256, 3, 4, 0.55, 25),
    )
)
CLICKS = TrainConfig(phases=(Phase(2200, 192, 12, 1, 0.15, 1), Phase(1600, 256, 8, 1, 0.2, 1)), rate=7e-4, warmup=40)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options of ``lazyvos train``."""
    parser.add_argument("net", nargs="?", default="tiny", choices=("tiny", "tiny-click"), help="what to train")
    parser.add_argument("--out", required=True, help="folder for checkpoints, log.csv and the finished weights")
    parser.add_argument("--stills", nargs="*", default=[], metavar="DIR", help="folders with images/ and masks/")
    parser.add_argument("--videos", nargs="*", default=[], metavar="DIR", help="DAVIS-layout folders")
    parser.add_argument("--exclude", nargs="*", default=[], metavar="NAME", help="sequences to leave out of training")
    parser.add_argument("--init", metavar="FILE", help="MobileNetV2 weights for the trunk, or weights of the same network")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the number of steps (default 1)")
    parser.add_argument("--smoke", action="store_true", help="eight small steps, to see that everything runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast (about 1.5 times faster where supported)")
    parser.add_argument("--device", default=None, help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--snapshot-every", type=int, default=1000, metavar="STEPS", help="keep the averaged weights")
    parser.add_argument("--no-resume", action="store_true", help="start again even where a checkpoint exists")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Train as the arguments say and return the facts of the run.

    With no data given, procedural pictures are used. Raises :class:`InputError` for folders without data.
    """
    from lazyvos.build import pick_device

    if args.scale <= 0:
        raise InputError(f"--scale {args.scale} must be above 0")
    config = TrainConfig.smoke() if args.smoke else TRACKER if args.net == "tiny" else CLICKS
    phases = tuple(replace(p, steps=max(1, round(p.steps * args.scale))) for p in config.phases)
    config = replace(config, phases=phases, seed=args.seed, bf16=args.bf16)
    stills: list[Still] = load_stills(args.stills) if args.stills else []
    videos: list[Video] = load_videos(args.videos, exclude=args.exclude) if args.videos else []
    if not stills and not videos:
        stills = procedural_stills(40 if args.smoke else 400, args.seed)
    torch.manual_seed(args.seed)
    net: nn.Module = XMem(XMemConfig.tiny()) if args.net == "tiny" else ClickNet()
    if args.init:
        initialise(net, Path(args.init))
    net = net.to(device=pick_device(args.device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    maker = ClipMaker(stills, videos)
    task: Task = TrackTask(maker, config) if args.net == "tiny" else ClickTask(maker, config)
    average = fit(net, task, config, args.out, resume=not args.no_resume, snapshot_every=args.snapshot_every)
    net.load_state_dict(average)
    facts: dict[str, object] = {
        "network": args.net, "steps": config.steps, "seed": args.seed, "stills": len(stills),
        "videos": [v.name for v in videos], "config": asdict(config),
    }  # fmt: skip
    target = Path(args.out) / f"{args.net}.safetensors"
    hub.save(net, target, facts)
    with atomic_path(Path(args.out) / "facts.json") as partial:
        partial.write_text(json.dumps(facts, indent=1))
    return {**facts, "weights": str(target)}


def initialise(net: nn.Module, file: Path) -> None:
    """Fill the trunk from MobileNetV2 weights, or as much of ``net`` as a lazyvos weight file fits by name and shape."""
    state = hub.read_weights(file)
    if "features.0.0.weight" in state:
        net.key_encoder.load_imagenet(state)  # type: ignore[union-attr,operator]
        return
    own = net.state_dict()
    state = {**{k.removeprefix("decoder."): v for k, v in state.items()}, **state}
    fitting = {k: v.to(own[k].dtype) for k, v in state.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise InputError(f"{file} shares no tensor with this network; give MobileNetV2 or lazyvos weights")
    net.load_state_dict(fitting, strict=False)
