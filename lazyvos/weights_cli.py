"""``lazyvos weights``: list, pull, verify and convert weight files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lazyvos import convert, hub
from lazyvos.fetch import Fetch, mismatch, pull, sha256_of
from lazyvos.refine.sam_hq_net import sam_hq_package
from lazyvos.registry import UNKNOWN_DIGEST, Release, in_words, release, releases, weights_folder
from lazyvos.types import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the actions of ``lazyvos weights`` and their options."""
    common = argparse.ArgumentParser(add_help=False)
    for flag in ("--json", "--debug"):
        common.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", parents=[common], help="every weight file that is known: size, licence, whether it is here")
    get = actions.add_parser("pull", parents=[common], help="download weight files into the cache")
    get.add_argument("names", nargs="+", metavar="NAME", help="names of the list")
    get.add_argument("--quiet", action="store_true", help="no progress bar")
    check = actions.add_parser("verify", parents=[common], help="check digests and layouts of weight files")
    check.add_argument("target", nargs="?", metavar="NAME|FILE", help="one of the list, or a file (default: all that are here)")
    change = actions.add_parser("convert", parents=[common], help="write a checkpoint as safetensors in lazyvos's layout")
    change.add_argument("file", metavar="FILE", help="checkpoint (.pth, .pt, .safetensors), plain or wrapped")
    change.add_argument("--to", required=True, metavar="NETWORK", help=f"which network it is: {', '.join(hub.NETWORKS)}")
    change.add_argument("--out", required=True, metavar="FILE", help="the .safetensors file to write")
    change.add_argument("--half", action="store_true", help="16-bit instead of 32-bit numbers")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do ``args.action`` and return what came of it; prints it for people unless ``args.json``.

    Raises :class:`InputError` for unknown names, downloads that fail, and files that are not what they should be.
    """
    quiet = bool(getattr(args, "json", False))
    if args.action == "list":
        return _list(quiet)
    if args.action == "pull":
        return _pull(args.names, quiet, Fetch(progress=not args.quiet))
    if args.action == "verify":
        return _verify(args.target, quiet)
    return _convert(Path(args.file), args.to, Path(args.out), args.half, quiet)


def _list(quiet: bool) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for name in hub.shipped():
        path = hub.find_weights(name)
        rows.append({"name": name, "network": hub.network_named(name), "file": path.name, "size": in_words(path.stat().st_size),
                     "licence": "see MODEL_CARD.md", "here": True, "shipped": True, "path": str(path),
                     "sha256": sha256_of(path), "digest": "known", "url": None, "page": None, "note": "ships with lazyvos"})  # fmt: skip
    for r in releases().values():
        rows.append({"name": r.name, "network": r.network, "file": r.file, "size": r.size, "licence": r.licence,
                     "here": r.path.is_file(), "shipped": False, "path": str(r.path), "sha256": r.sha256,
                     "digest": "known" if r.sha256 else UNKNOWN_DIGEST, "url": r.url, "page": r.page, "note": r.note})  # fmt: skip
    if not quiet:
        where = {True: "yes", False: "no"}
        _table(("name", "network", "size", "licence", "here", "digest"),
               [(r["name"], r["network"], r["size"], r["licence"], "shipped" if r["shipped"] else where[r["here"]], r["digest"]) for r in rows])  # fmt: skip
        print(f"\ncache: {weights_folder()} (LAZYVOS_HOME moves it)")
        hand = [r for r in rows if r["url"] is None and not r["shipped"]]
        if hand:
            print("\nto be downloaded by hand:")
        for row in hand:
            print(f"  {row['name']}: {row['page'] or 'from its authors'} -> {row['path']}")
    return {"folder": str(weights_folder()), "weights": rows}


def _pull(names: list[str], quiet: bool, how: Fetch) -> dict[str, Any]:
    wanted = [None if name in hub.shipped() else release(name) for name in names]  # unknown names end it before any download
    rows = []
    for name, item in zip(names, wanted, strict=True):
        if item is None:
            rows.append({"name": name, "path": str(hub.find_weights(name)), "checked": "ships with lazyvos"})
        else:
            path = pull(item, how)
            row = _checked(name, path, item)
            if not row["good"]:
                raise InputError(f"{path} is not what {name!r} should be: {row['layout']}; delete it and pull again")
            rows.append({"name": name, "path": str(path), "checked": f"digest {row['digest']}; layout {row['layout']}"})
        if not quiet:
            print(f"{name}: {rows[-1]['path']} ({rows[-1]['checked']})")
    return {"weights": rows}


def _verify(target: str | None, quiet: bool) -> dict[str, Any]:
    rows = []
    if target is None:
        rows += [_checked(name, hub.find_weights(name), None) for name in hub.shipped()]
        rows += [_checked(r.name, r.path, r) for r in releases().values() if r.path.is_file()]
    elif target in hub.shipped():
        rows.append(_checked(target, hub.find_weights(target), None))
    elif target in releases():
        item = release(target)
        if not item.path.is_file():
            raise InputError(f"weights {target!r} are not at {item.path}; run: lazyvos weights pull {target}")
        rows.append(_checked(target, item.path, item))
    elif Path(target).is_file():
        rows.append(_checked_file(Path(target)))
    else:
        raise InputError(f"{target} is neither a file nor one of {', '.join([*hub.shipped(), *releases()])}")
    if not quiet:
        _table(("name", "verdict", "digest", "layout"),
               [(r["name"], "good" if r["good"] else "BAD", r["digest"], r["layout"]) for r in rows])  # fmt: skip
    bad = [r for r in rows if not r["good"]]
    if bad:
        raise InputError(f"{bad[0]['path']} is bad (digest {bad[0]['digest']}; layout {bad[0]['layout']}); delete it and pull it again")
    return {"weights": rows}


def _checked(name: str, path: Path, item: Release | None) -> dict[str, Any]:
    """Digest and layout of a file that should be ``item``, or the shipped network ``name``."""
    network = hub.network_named(name) if item is None else item.network
    digest, wrong = "not registered (shipped)", None
    if item is not None:
        wrong = mismatch(path, item.bytes, item.sha256)
        digest = f"wrong: {wrong}" if wrong else "right" if item.sha256 else UNKNOWN_DIGEST
    layout, fits = "not checked", True
    if wrong is None:
        layout, fits = _layout(path, network)
    return {"name": name, "path": str(path), "good": wrong is None and fits, "digest": digest, "layout": layout}


def _checked_file(path: Path) -> dict[str, Any]:
    """A file of unknown kind: which network it fits, and whether its digest is that of a release."""
    found = sha256_of(path)
    known = next((r.name for r in releases().values() if r.sha256 == found), None)
    state = hub.read_weights(path)
    network = hub.network_of(state)
    layout = f"fits {network}" if network else "fits none of our networks" + (" (not checked for SAM-HQ)" if known else "")
    return {"name": path.name, "path": str(path), "good": bool(network or known), "layout": layout, "sha256": found,
            "digest": f"that of {known}" if known else "not in the registry"}  # fmt: skip


def _layout(path: Path, network: str) -> tuple[str, bool]:
    """What the layout of a file says, and whether that is good. Networks are built without storage, where they can be."""
    try:
        state = hub.read_weights(path)
    except InputError as error:
        return str(error), False
    net = _blank(network, state)
    if net is None:
        return f"{len(state)} tensors; not checked further, as SAM-HQ is not installed", True
    adapted = convert.adapt(state, net)
    if adapted.differences:
        other = hub.network_of(state)
        return f"does not fit {network}: {adapted.differences}" + (f"; it looks like {other}" if other else ""), False
    return f"fits {network}" + "".join(f" ({text})" for text in adapted.done), True


def _blank(network: str, state: dict[str, Tensor]) -> nn.Module | None:
    """The network to compare with; ``None`` for a SAM-HQ without its package."""
    if network in hub.NETWORKS:
        return convert.blank(hub.NETWORKS[network], state)
    model = network.removeprefix("sam-hq:")
    try:
        build = sam_hq_package().sam_model_registry[model]
    except InputError:
        return None
    if model != "vit_tiny":
        return convert.blank(build)
    with torch.random.fork_rng(devices=[]):  # TinyViT reads numbers while it is built, which the meta device has not
        return build()


def _convert(file: Path, network: str, out: Path, half: bool, quiet: bool) -> dict[str, Any]:
    network = releases()[network].network if network in releases() else network
    if network not in hub.NETWORKS:
        raise InputError(f"--to {network!r} is no network that can be written; choose one of {', '.join(hub.NETWORKS)}")
    if out.suffix != ".safetensors":
        raise InputError(f"--out {out} must end in .safetensors")
    if out.exists() and file.exists() and out.samefile(file):
        raise InputError(f"--out {out} is the file that is read; give another name")
    net = hub.load(network, file)
    done = convert.adapt(hub.read_weights(file), net).done
    facts: dict[str, object] = {
        "network": network, "source": file.name, "source_sha256": sha256_of(file), "precision": "fp16" if half else "fp32", "changes": done,
    }  # fmt: skip
    hub.save(net, out, facts, half=half)
    answer = {**facts, "file": str(out), "bytes": out.stat().st_size, "sha256": sha256_of(out)}
    if not quiet:
        print(f"{out}: {network}, {facts['precision']}, {in_words(out.stat().st_size)}" + "".join(f"\n  {text}" for text in done))
    return answer


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
