"""Checkpoints in the authors' layouts, and the command that handles weight files."""

from __future__ import annotations

import argparse
import hashlib
import json
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from lazyvos import convert, hub, registry
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.refine.sam_hq_net import sam_hq_package
from lazyvos.types import InputError
from lazyvos.weights_cli import add_arguments, run


@cache
def fusion() -> dict[str, Tensor]:
    return dict(hub.load("mivos-fusion", seed=3).state_dict())


def zeros(name: str) -> dict[str, Tensor]:
    """A state dict in the layout of a network that takes next to no memory."""
    return {k: torch.zeros((), dtype=v.dtype).expand(v.shape) for k, v in convert.blank(hub.NETWORKS[name]).state_dict().items()}


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "config": {"class": "HRNetModel", "params": {"width": 18}}},
        lambda s: {"it": 5, "network": s, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}},
        lambda s: {"model": {"module." + k: v for k, v in s.items()}, "epoch": 3},
        lambda s: {"module._orig_mod." + k: v for k, v in s.items()},
        lambda s: {"model": {"state_dict": s}},
    ],
    ids=["plain", "RITM", "training", "DataParallel", "compiled", "twice"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_layouts_of_files(wrap, zipped: bool, tmp_path: Path):
    torch.save(wrap(fusion()), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert same(convert.read_checkpoint(tmp_path / "a.pth"), fusion())
    assert same(dict(hub.load("mivos-fusion", tmp_path / "a.pth").state_dict()), fusion())


@pytest.mark.parametrize("held", [{}, [1, 2], {"epoch": 3, "lr": 0.1}, {"state_dict": {"a": 1}}, {"optimizer": {"a": torch.zeros(1)}}])
def test_files_without_a_state_dict_are_refused(held, tmp_path: Path):
    torch.save(held, tmp_path / "a.pth")
    with pytest.raises(InputError, match="hold no state dict"):
        convert.read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_need_classes_are_refused_and_the_class_is_named(zipped: bool, tmp_path: Path):
    torch.save({"model": fusion(), "args": argparse.Namespace(lr=1)}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"argparse\.Namespace.*weights convert.*state_dict") as refused:
        convert.read_checkpoint(tmp_path / "a.pth")
    assert "\n" not in str(refused.value)


def test_damaged_files_are_refused(tmp_path: Path):
    torch.save(fusion(), tmp_path / "a.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:5000])
    (tmp_path / "half.safetensors").write_bytes(b"12345678")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("half.pth", "half.safetensors", "empty.pth"):
        with pytest.raises(InputError, match="cannot be read") as refused:
            convert.read_checkpoint(tmp_path / name)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "key"), [("xmem", "value_encoder"), ("stcn", "value_encoder"), ("mivos", "mask_rgb_encoder"), ("qdmn", "mask_rgb_encoder")])
def test_mask_encoders_for_one_object_get_a_zero_channel(name: str, key: str):
    state, key = zeros(name), f"{key}.conv1.weight"
    state[key] = torch.rand(64, 4, 7, 7)
    adapted = convert.adapt(state, convert.blank(hub.NETWORKS[name]))
    assert adapted.differences == ""
    assert torch.equal(adapted.state[key][:, :4], state[key])
    assert adapted.state[key].shape == (64, 5, 7, 7)
    assert not adapted.state[key][:, 4].any()
    assert "zero channel" in adapted.done[0]
    state[key] = torch.rand(64, 3, 7, 7)
    assert "(64, 3, 7, 7) instead of (64, 5, 7, 7)" in convert.adapt(state, convert.blank(hub.NETWORKS[name])).differences


def test_other_layers_of_four_channels_are_left_alone():
    state = fusion() | {"conv1.0.weight": torch.zeros(32, 4, 3, 3)}
    assert "(32, 4, 3, 3)" in convert.adapt(state, convert.blank(hub.NETWORKS["mivos-fusion"])).differences


def test_missing_counters_of_batch_normalisation_are_added():
    state = {k: v for k, v in zeros("stcn").items() if not k.endswith("num_batches_tracked")}
    adapted = convert.adapt(state, convert.blank(hub.NETWORKS["stcn"]))
    assert adapted.differences == ""
    assert len(adapted.state) > len(state)


def test_spare_keys_are_left_out_for_ritm_only():
    state = zeros("ritm-h18s") | {"something.more": torch.zeros(1)}
    adapted = convert.adapt(state, convert.blank(hub.NETWORKS["ritm-h18s"]))
    assert adapted.differences == ""
    assert "something.more" not in adapted.state
    assert "something.more" in adapted.done[0]
    del state["maps_transform.0.bias"]
    assert "maps_transform.0.bias" in convert.adapt(state, convert.blank(hub.NETWORKS["ritm-h18s"])).differences
    other = fusion() | {"something.more": torch.zeros(1)}
    assert "unexpected ['something.more']" in convert.adapt(other, convert.blank(hub.NETWORKS["mivos-fusion"])).differences


@pytest.mark.parametrize("config", [XMemConfig(), XMemConfig(hidden_dim=0), XMemConfig(key_dim=32, value_dim=256, hidden_dim=16)])
def test_xmem_takes_its_sizes_from_the_file(config: XMemConfig):
    state = convert.blank(lambda: XMem(config)).state_dict()
    assert convert.xmem_config(state) == config
    net = convert.blank(XMem, state)
    assert convert.layout(net.state_dict()) == convert.layout(state)
    held = {k: torch.zeros((), dtype=v.dtype).expand(v.shape) for k, v in state.items()}
    assert hub.network_of(held) == "xmem"


@pytest.mark.parametrize("name", list(hub.NETWORKS))
def test_every_network_is_recognised_by_its_layout(name: str):
    assert hub.network_of(zeros(name)) == name


def test_a_stranger_is_recognised_as_none():
    assert hub.network_of({"a": torch.zeros(1)}) is None
    assert hub.network_of({"key_proj.key_proj.weight": torch.zeros(()), "value_encoder.fuser.block2.conv2.weight": torch.zeros(2),
                           "key_proj.d_proj.weight": torch.zeros(1)}) is None  # fmt: skip


# The command.


def do(*words: str) -> dict:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(list(words)))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("LAZYVOS_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "weights").mkdir(parents=True)
    return tmp_path / "home" / "weights"


def test_list_shows_what_is_here_and_what_is_known(home: Path, capsys):
    torch.save(fusion(), home / "fusion.pth")
    rows = {r["name"]: r for r in do("list")["weights"]}
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert set(rows) == set(hub.shipped()) | set(registry.releases())
    assert "shipped" in lines["tiny"]
    assert len(rows["tiny"]["sha256"]) == 64
    assert rows["mivos-fusion"]["here"]
    assert " yes " in lines["mivos-fusion"]
    assert " no " in lines["stcn"]
    assert "unknown: verified by layout only" in lines["stcn"]
    assert lines["qdmn:"].endswith(str(home / "qdmn.pth")), "files without an address are named with their place"
    assert do("list", "--json")["folder"] == str(home)
    assert capsys.readouterr().out == ""


def test_pull_takes_what_is_here_and_refuses_what_does_not_fit(home: Path, capsys):
    with pytest.raises(InputError, match="not in the registry"):
        do("pull", "mivos-fusion", "nonsense")
    with pytest.raises(InputError, match=rf"drive\.google.*{home / 'fusion.pth'}"):
        do("pull", "mivos-fusion")
    torch.save(fusion(), home / "fusion.pth")
    got = do("pull", "tiny", "mivos-fusion")["weights"]
    assert got[0]["checked"] == "ships with lazyvos"
    assert "verified by layout only" in got[1]["checked"]
    assert "fits mivos-fusion" in capsys.readouterr().out
    torch.save({"a": torch.zeros(1)}, home / "fusion.pth")
    with pytest.raises(InputError, match="does not fit mivos-fusion"):
        do("pull", "mivos-fusion")


def test_verify_says_what_was_possible(home: Path, tmp_path: Path, capsys):
    torch.save(fusion(), home / "fusion.pth")
    rows = {r["name"]: r for r in do("verify")["weights"]}
    assert set(rows) == {*hub.shipped(), "mivos-fusion"}
    assert rows["mivos-fusion"]["digest"] == "unknown: verified by layout only"
    assert rows["mivos-fusion"]["layout"] == "fits mivos-fusion"
    assert "good" in capsys.readouterr().out
    torch.save({"network": fusion()}, tmp_path / "mine.pth")
    row = do("verify", str(tmp_path / "mine.pth"))["weights"][0]
    assert (row["good"], row["layout"], row["digest"]) == (True, "fits mivos-fusion", "not in the registry")
    (home / "sam_hq_vit_tiny.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match="10 bytes instead of 42526881"):
        do("verify", "sam-hq-vit-tiny")
    assert "BAD" in capsys.readouterr().out
    torch.save(fusion(), home / "stcn.pth")
    with pytest.raises(InputError, match=r"does not fit stcn.*looks like mivos-fusion"):
        do("verify", "stcn")
    with pytest.raises(InputError, match=r"weights pull qdmn"):
        do("verify", "qdmn")
    with pytest.raises(InputError, match="neither a file nor one of"):
        do("verify", "nonsense")


def test_verify_knows_a_registered_digest(home: Path, monkeypatch):
    torch.save(fusion(), home / "fusion.pth")
    right = digest_of(home / "fusion.pth")
    item = registry.Release("mivos-fusion", "mivos-fusion", "fusion.pth", "x", "x", "x", sha256=right)
    monkeypatch.setitem(registry.releases(), "mivos-fusion", item)
    assert do("verify", "mivos-fusion")["weights"][0]["digest"] == "right"
    assert do("verify", str(home / "fusion.pth"))["weights"][0]["digest"] == "that of mivos-fusion"
    torch.save(zeros("mivos-fusion"), home / "fusion.pth")
    with pytest.raises(InputError, match="sha256 is"):
        do("verify", "mivos-fusion")


def test_sam_hq_is_checked_where_its_package_is_installed(home: Path, monkeypatch):
    try:
        build = sam_hq_package().sam_model_registry["vit_tiny"]
    except InputError:
        pytest.skip("segment-anything-hq is not installed")
    item = registry.Release("sam-hq-vit-tiny", "sam-hq:vit_tiny", "sam_hq_vit_tiny.pth", "x", "x", "x")
    monkeypatch.setitem(registry.releases(), "sam-hq-vit-tiny", item)
    state = build().state_dict()
    torch.save(state, item.path)
    assert do("verify", "sam-hq-vit-tiny")["weights"][0]["layout"] == "fits sam-hq:vit_tiny"
    state.popitem()
    torch.save(state, item.path)
    with pytest.raises(InputError, match=r"does not fit sam-hq:vit_tiny: missing"):
        do("verify", "sam-hq-vit-tiny")


@pytest.mark.parametrize("half", [False, True])
def test_convert_writes_safetensors_with_the_facts(half: bool, tmp_path: Path, capsys):
    torch.save({"network": {"module." + k: v for k, v in fusion().items()}}, tmp_path / "a.pth")
    out = tmp_path / "out" / "a.safetensors"
    answer = do("convert", str(tmp_path / "a.pth"), "--to", "mivos-fusion", "--out", str(out), *(["--half"] if half else []))
    assert answer["sha256"] == digest_of(out)
    with safe_open(out, "pt") as written:
        facts = json.loads(written.metadata()["facts"])
        assert written.get_tensor("final_conv.weight").dtype == (torch.float16 if half else torch.float32)
    assert facts["network"] == "mivos-fusion"
    assert facts["source_sha256"] == digest_of(tmp_path / "a.pth")
    loaded = dict(hub.load("mivos-fusion", out).state_dict())
    assert same(loaded, {k: v.half().float() for k, v in fusion().items()} if half else fusion())
    assert list(out.parent.iterdir()) == [out]
    assert "mivos-fusion" in capsys.readouterr().out


def test_convert_refuses_what_cannot_work(tmp_path: Path):
    torch.save(fusion(), tmp_path / "a.pth")
    for words, message in (
        (("--to", "nonsense", "--out", "b.safetensors"), "no network"),
        (("--to", "sam-hq-vit-b", "--out", "b.safetensors"), "no network"),
        (("--to", "mivos-fusion", "--out", str(tmp_path / "b.pth")), "must end in .safetensors"),
        (("--to", "tiny", "--out", str(tmp_path / "b.safetensors")), "looks like 'mivos-fusion'"),
    ):
        with pytest.raises(InputError, match=message):
            do("convert", str(tmp_path / "a.pth"), *words)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("b")] == []
