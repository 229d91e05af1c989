"""Networks by name and weight files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lazyvos import hub
from lazyvos.build import MEMORIES, make_memory, make_tracker
from lazyvos.memory import Memory
from lazyvos.types import InputError


def test_round_trip_through_safetensors(tmp_path: Path):
    net = hub.load("tiny-click", seed=3)
    hub.save(net, tmp_path / "a.safetensors", {"steps": 1})
    again = hub.load("tiny-click", tmp_path / "a.safetensors")
    for key, value in net.state_dict().items():
        assert torch.equal(value.half().float(), again.state_dict()[key].float()), key
    assert list(tmp_path.iterdir()) == [tmp_path / "a.safetensors"]


def test_seed_decides_random_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, two, three = (hub.load("mivos-fusion", seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], three[k]) for k in one)


def test_wrong_weights_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="unknown"):
        hub.load("nonsense")
    with pytest.raises(InputError, match="without weights"):
        hub.load("mivos-fusion")
    with pytest.raises(InputError, match="do not exist"):
        hub.load("tiny", tmp_path / "none.pth")
    hub.save(hub.load("mivos-fusion", seed=0), tmp_path / "fusion.safetensors")
    with pytest.raises(InputError, match="missing"):
        hub.load("tiny", tmp_path / "fusion.safetensors")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(InputError, match="cannot be read"):
        hub.load("tiny", tmp_path / "text.pth")


def test_pickled_code_never_runs(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"key_encoder": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="cannot be read"):
        hub.load("tiny", tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", MEMORIES)
def test_every_memory_has_a_name(name: str):
    assert isinstance(make_memory(name), Memory)


def test_unknown_parts_are_named():
    for options, word in (({"memory": "x"}, "memory"), ({"policy": "x"}, "policy"), ({"refiner": "x"}, "refiner"), ({"device": "abacus"}, "device")):
        with pytest.raises(InputError, match=word):
            make_tracker(**options)
