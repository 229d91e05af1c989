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
    with pytest.raises(InputError, match="do not exist"):
        hub.load("tiny", tmp_path / "none.pth")
    hub.save(hub.load("mivos-fusion", seed=0), tmp_path / "fusion.safetensors")
    with pytest.raises(InputError, match="missing"):
        hub.load("tiny", tmp_path / "fusion.safetensors")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(InputError, match="cannot be read"):
        hub.load("tiny", tmp_path / "text.pth")


def test_published_networks_without_weights_are_random_and_say_so():
    with pytest.warns(UserWarning, match=r"random.*weights='mivos-fusion'"):
        net = hub.load("mivos-fusion")
    assert torch.equal(net.final_conv.weight, hub.load("mivos-fusion", seed=0).final_conv.weight)


def test_shipped_weights_and_a_seed_give_no_warning(recwarn):
    hub.load("tiny-click")
    hub.load("mivos-fusion", seed=1)
    assert not [w for w in recwarn if "random" in str(w.message)]


def test_weights_and_a_seed_together_are_refused():
    with pytest.raises(InputError, match="one of them"):
        hub.load("mivos-fusion", "a.pth", seed=1)


def test_registry_names_are_looked_up_in_the_cache(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("LAZYVOS_HOME", str(tmp_path))
    file = tmp_path / "weights" / "fusion.pth"
    with pytest.raises(InputError, match=str(file)):
        hub.load("mivos-fusion", "mivos-fusion")
    file.parent.mkdir()
    torch.save(hub.load("mivos-fusion", seed=5).state_dict(), file)
    loaded = hub.load("mivos-fusion", "mivos-fusion")
    assert torch.equal(loaded.final_conv.weight, hub.load("mivos-fusion", seed=5).final_conv.weight)
    with pytest.raises(InputError, match="'mivos-fusion' are of network 'mivos-fusion', not 'stcn'; choose stcn or stcn-s03"):
        hub.load("stcn", "mivos-fusion")
    with pytest.raises(InputError, match=r"nothing-like-it do not exist.*xmem-s012"):
        hub.load("stcn", "nothing-like-it")


def test_weights_of_another_network_are_recognised(tmp_path: Path):
    torch.save(hub.load("mivos-fusion", seed=0).state_dict(), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"missing.*looks like 'mivos-fusion': use load"):
        hub.load("tiny", tmp_path / "a.pth")


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
