"""``lazyvos train``: data folders in, weights out; under ``torchrun`` in several processes."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from lazyvos import hub
from lazyvos.backbones.fusion_light import LightFusion
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.masks.atomic import atomic_path
from lazyvos.refine.clicknet import ClickNet
from lazyvos.training.clicks import ClickTask
from lazyvos.training.clips import ClipMaker
from lazyvos.training.config import Phase, TrainConfig
from lazyvos.training.data import Still, Video, load_stills, load_videos, procedural_stills
from lazyvos.training.evidential import EvidentialTask
from lazyvos.training.fuse import FuseTask
from lazyvos.training.loop import Task, fit
from lazyvos.training.parallel import Group, joined
from lazyvos.training.track import TrackTask
from lazyvos.types import InputError

# Phases of the runs that made the shipped weights (there the hardest pixels were picked per batch, here they are per clip);
# `--scale` multiplies their steps.
TRACKER = TrainConfig(
    phases=(
        Phase(1800, 128, 12, 2, 0.25, 10),
        Phase(1500, 160, 7, 3, 0.4, 15),
        Phase(2000, 208, 4, 4, 0.5, 22),
        Phase(700, 256, 3, 4, 0.55, 25),
    )
)
CLICKS = TrainConfig(phases=(Phase(2200, 192, 12, 1, 0.15, 1), Phase(1600, 256, 8, 1, 0.2, 1)), rate=7e-4, warmup=40)
FUSION = TrainConfig(phases=(Phase(500, 160, 4, 8, 0.5, 12), Phase(300, 224, 3, 10, 0.6, 20)), rate=2e-3, warmup=20)
EVIDENTIAL = TrainConfig(phases=(Phase(500, 208, 4, 3, 0.5, 20),), rate=4e-4, warmup=20)
TRACKERS = {"tiny": XMemConfig.tiny, "tiny-stm": XMemConfig.tiny_stm, "tiny-evidential": XMemConfig.tiny_evidential}
OWN = {"tiny-evidential": EVIDENTIAL, "tiny-fusion": FUSION, "tiny-click": CLICKS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options of ``lazyvos train``."""
    parser.add_argument("net", nargs="?", default="tiny", choices=(*TRACKERS, "tiny-click", "tiny-fusion"),
                        help="what to train: the tracker, the tracker as a pure memory network or with evidence (start it from tiny: "
                        "--init tiny --only decoder.), the click network, or the network that merges rounds")  # fmt: skip
    parser.add_argument("--out", required=True, help="folder for checkpoints, log.csv and the finished weights")
    parser.add_argument("--stills", nargs="*", default=[], metavar="DIR", help="folders with images/ and masks/")
    parser.add_argument("--videos", nargs="*", default=[], metavar="DIR[:OPTION=VALUE,...]",
                        help="DAVIS-layout folders; options of a folder: annotations=NAME (folder of the masks instead of "
                        "Annotations), weight=W (how often its clips are drawn, default 1), only=SEQUENCE (may be repeated); "
                        "as in cars:annotations=Annotations_tracks,weight=0.3,only=traffic")  # fmt: skip
    parser.add_argument("--exclude", nargs="*", default=[], metavar="NAME", help="sequences to leave out of training")
    parser.add_argument("--init", metavar="FILE",
                        help="MobileNetV2 weights for the trunk, or weights (file or shipped name) of any small lazyvos network: what fits is copied")  # fmt: skip
    parser.add_argument("--only", metavar="PREFIX",
                        help="train the tensors alone whose names begin so, as decoder. or decoder.pred (default: all)")  # fmt: skip
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the number of steps (default 1)")
    parser.add_argument("--batch-scale", type=int, default=1, metavar="N", help="multiply the clips of every batch (default 1)")
    parser.add_argument("--accumulate", type=int, default=1, metavar="N",
                        help="take a process's part of each batch in N slices one after another: less memory, the same gradient")  # fmt: skip
    parser.add_argument("--dropout", type=float, default=0.0, metavar="SHARE",
                        help="train a tracker with this share of its key channels dropped, for Monte-Carlo dropout (default 0)")  # fmt: skip
    parser.add_argument("--smoke", action="store_true", help="eight small steps, to see that everything runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast (about 1.5 times faster where supported)")
    parser.add_argument("--device", default=None, help="cpu or cuda (default: cuda where there is one; each process takes its own)")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS",
                        help="under torchrun: how long a process waits for the others before it gives up (default %(default)g)")  # fmt: skip
    parser.add_argument("--snapshot-every", type=int, default=1000, metavar="STEPS", help="keep the averaged weights")
    parser.add_argument("--no-resume", action="store_true", help="start again even where a checkpoint exists")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Train as the arguments say and return the facts of the run.

    With no data given, procedural pictures are used. Started by ``torchrun``, all processes train one network; the
    first writes the files and speaks. Raises :class:`InputError` for folders without data and options that cannot work.
    """
    if not 0 < args.scale < math.inf:
        raise InputError(f"--scale {args.scale} must be above 0")
    if args.batch_scale < 1:
        raise InputError(f"--batch-scale {args.batch_scale} must be at least 1")
    if not 0 <= args.dropout < 1:
        raise InputError(f"--dropout {args.dropout} is no share; give 0 or more and less than 1")
    if args.dropout and args.net not in TRACKERS:
        raise InputError(f"--dropout drops channels of a tracker's key, and {args.net} has none; leave it out")
    sets = [VideoSet.parse(text) for text in args.videos]
    with joined(args.device, args.timeout) as group:
        if not group.first:
            args.json = False  # one process speaks
        return _train(args, sets, group)


def _train(args: argparse.Namespace, sets: list[VideoSet], group: Group) -> dict[str, object]:
    config = TrainConfig.smoke() if args.smoke else OWN.get(args.net, TRACKER)
    phases = tuple(
        replace(p, steps=max(1, round(p.steps * args.scale)), batch=p.batch * args.batch_scale) for p in config.phases
    )
    config = replace(config, phases=phases, seed=args.seed, bf16=args.bf16)
    group.slices(min(p.batch for p in phases), args.accumulate)  # refused before any data is read
    stills: list[Still] = load_stills(args.stills, progress=group.first) if args.stills else []
    videos: list[Video] = [video for one in sets for video in one.load(args.exclude, group.first)]
    if not stills and not videos:
        stills = procedural_stills(40 if args.smoke else 400, args.seed)
    group.agree("the training data", (len(stills), [(v.name, len(v.frames), v.weight) for v in videos]))
    torch.manual_seed(args.seed)
    net: nn.Module
    task: Task
    maker = ClipMaker(stills, videos)
    if args.net in TRACKERS:
        net = XMem(replace(TRACKERS[args.net](), dropout=args.dropout))
        task = EvidentialTask(maker, config) if net.config.evidential else TrackTask(maker, config)
    elif args.net == "tiny-fusion":
        net, task = LightFusion(), FuseTask(maker, config, hub.load("tiny", device=group.device))
    else:
        net, task = ClickNet(), ClickTask(maker, config)
    if args.init:
        told = initialise(net, hub.find_weights(args.init))
        if group.first:
            print(told, file=sys.stderr)
    if args.only:
        only(net, args.only)
    net = net.to(device=group.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = fit(
        net, task, config, args.out,
        resume=not args.no_resume, snapshot_every=args.snapshot_every, group=group, parts=args.accumulate,
    )  # fmt: skip
    net.load_state_dict(average)
    facts: dict[str, object] = {
        "network": args.net, "steps": config.steps, "seed": args.seed, "dropout": args.dropout, "only": args.only, "stills": len(stills),
        "videos": [v.name for v in videos], "processes": group.world, "config": asdict(config),
    }  # fmt: skip
    target = Path(args.out) / f"{args.net}.safetensors"
    if group.first:
        hub.save(net, target, facts)
        with atomic_path(Path(args.out) / "facts.json") as partial:
            partial.write_text(json.dumps(facts, indent=1))
    return {**facts, "weights": str(target)}


@dataclass(frozen=True)
class VideoSet:
    """A folder of ``--videos`` with its options; see :func:`lazyvos.training.data.load_videos`."""

    root: str
    annotations: str = "Annotations"
    weight: float = 1.0
    only: tuple[str, ...] | None = None

    @staticmethod
    def parse(text: str) -> VideoSet:
        """``DIR`` or ``DIR:annotations=NAME,weight=W,only=SEQUENCE,only=SEQUENCE``.

        Raises :class:`InputError` for an unknown option or a weight that is not above 0.
        """
        found = re.fullmatch(r"(.+?):(\w+=.*)", text)
        if found is None or Path(text).is_dir():
            return VideoSet(text)
        only: list[str] = []
        options: dict[str, str] = {}
        for option in found[2].split(","):
            key, _, value = option.partition("=")
            if key not in ("annotations", "weight", "only") or not value:
                raise InputError(f"--videos {text}: {option!r} is no option; give annotations=NAME, weight=W or only=SEQUENCE")
            if key == "only":
                only.append(value)
            else:
                options[key] = value
        try:
            weight = float(options.get("weight", 1))
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf:
            raise InputError(f"--videos {text}: weight {options['weight']} must be a number above 0")
        return VideoSet(found[1], options.get("annotations", "Annotations"), weight, tuple(only) or None)

    def load(self, exclude: list[str], progress: bool = True) -> list[Video]:
        """Its videos, those of ``exclude`` left out. Raises :class:`InputError` when none is left."""
        videos = load_videos(
            [self.root], exclude=exclude, only=self.only, annotations=self.annotations, weight=self.weight, progress=progress
        )
        if not videos:
            raise InputError(f"{self.root} gives no video; it needs JPEGImages/NAME/ and {self.annotations}/NAME/ with equal "
                             "file names, and a NAME that is not excluded")  # fmt: skip
        return videos


def initialise(net: nn.Module, file: Path) -> str:
    """Fill the trunk from MobileNetV2 weights, or what fits from the weights of another small network; says what it did.

    Tensors are matched by name (a tracker's decoder also serves the click network). One that differs only in having
    more inputs (second dimension) than ``net`` wants gives its first ones: the fuser's inputs are image, value and
    sensory state in this order, so a network without the state takes what it has. Where ``net`` has two outputs for one given
    (evidence for and against), the second is the negative of the first.

    Raises :class:`InputError` when nothing fits.
    """
    state = hub.read_weights(file)
    own = net.state_dict()
    if "features.0.0.weight" in state:
        net.key_encoder.load_imagenet(state)  # type: ignore[union-attr,operator]
        return f"{file}: fills the trunk; the rest is random"
    state = {**{k.removeprefix("decoder."): v for k, v in state.items()}, **state}
    fitting: dict[str, torch.Tensor] = {}
    sliced: list[str] = []
    for key, mine in own.items():
        given = state.get(key)
        if given is None:
            continue
        if given.dim() >= 2 and given.shape[1] > mine.shape[1] and given[:, : mine.shape[1]].shape == mine.shape:
            sliced.append(f"{key} ({given.shape[1]} to {mine.shape[1]} inputs)")
            given = given[:, : mine.shape[1]]
        if given.dim() and given.shape[0] == 1 and mine.shape == (2, *given.shape[1:]):
            given = torch.cat([given, -given])
        if given.shape == mine.shape:
            fitting[key] = given.to(mine.dtype)
    if not fitting:
        raise InputError(f"{file} shares no tensor with this network; give MobileNetV2 or lazyvos weights")
    net.load_state_dict(fitting, strict=False)
    fresh = [key for key in own if key not in fitting]
    return f"{file}: fills {len(fitting)} of {len(own)} tensors; cut: {_some(sliced)}; left random: {_some(fresh)}"


def only(net: nn.Module, prefix: str) -> None:
    """Freeze what does not begin with ``prefix``. Raises :class:`InputError` where that is everything."""
    names = [name for name, _ in net.named_parameters()]
    if not any(name.startswith(prefix) for name in names):
        raise InputError(f"--only {prefix}: no tensor of this network begins so; they begin with {_some(sorted({n.split('.')[0] for n in names}))}")
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith(prefix))


def _some(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "none"
