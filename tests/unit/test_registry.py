"""The list of released weight files: what it says, and what it does not claim to know."""

from __future__ import annotations

import string
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lazyvos import hub, registry
from lazyvos.types import InputError

NAMES = sorted(registry.releases())


@pytest.mark.parametrize("name", NAMES)
def test_every_release_is_sound(name: str):
    item = registry.release(name)
    kind, _, model = item.network.partition(":")
    assert item.network in hub.NETWORKS or (kind == "sam-hq" and model in ("vit_tiny", "vit_b", "vit_l", "vit_h"))
    assert Path(item.file).name == item.file
    assert item.url or item.page, "neither an address nor a page to look at"
    for address in filter(None, (item.url, item.page)):
        assert urlsplit(address).scheme == "https"
    if item.url:
        assert item.url.rsplit("/", 1)[1] == item.file, "the cache keeps the authors' name"
    if item.sha256:
        assert len(item.sha256) == 64
        assert set(item.sha256) <= set(string.hexdigits.lower())
    else:
        assert item.digest == "unknown: verified by layout only"
    assert item.licence
    assert item.paper
    assert item.layout


def test_every_published_network_has_a_release_and_no_two_share_a_file():
    listed = {r.network for r in registry.releases().values()}
    assert set(hub.NETWORKS) - set(hub.shipped()) <= listed | {"tiny-stm", "tiny-evidential", "tiny-fusion"}
    files = [r.file for r in registry.releases().values()]
    assert len(files) == len(set(files))


def test_names_are_not_those_of_shipped_networks():
    assert not set(NAMES) & set(hub.shipped())


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"nonsense.*xmem-s012"):
        registry.release("nonsense")


def test_a_wrong_field_in_the_registry_is_noticed():
    with pytest.raises(TypeError, match="sha265"):
        registry.parse('[a]\nnetwork="xmem"\nfile="a"\nlicence="x"\npaper="x"\nlayout="x"\nsha265="0"\n')


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"LAZYVOS_HOME": "/data/lazy", "XDG_CACHE_HOME": "/x"}, "/data/lazy/weights"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/lazyvos/weights"),
        ({"HOME": "/home/ann"}, "/home/ann/.cache/lazyvos/weights"),
    ],
)
def test_the_cache_folder_follows_the_environment(variables: dict[str, str], folder: str, monkeypatch):
    for name in ("LAZYVOS_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert registry.weights_folder() == Path(folder)
    assert registry.release("stcn").path == Path(folder) / "stcn.pth"


def test_sizes_in_words():
    assert [registry.in_words(n) for n in (7, 42_526_881, 2_570_940_653)] == ["7 bytes", "42.5 MB", "2.57 GB"]
    assert registry.release("xmem").size == "about 249 MB"
    assert registry.release("xmem-s0").size == "unknown"
