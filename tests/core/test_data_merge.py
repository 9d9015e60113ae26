"""Merging adds up, copies nothing twice, and refuses to guess which of two episodes is meant."""

from __future__ import annotations

import json
import shutil

import pytest

from ambient_policy.data import cli
from ambient_policy.data.merge import merge
from ambient_policy.data.validate import look_over
from ambient_policy.episodes import list_episodes
from ambient_policy.errors import EpisodeError
from tests.core.helpers_data import make_dataset, tree

RECIPE = {"schema_name": "ambient_policy.collect", "commit": "a", "style": "teleop"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two shards of one recipe, one of another; the second has a failed seed."""
    root = tmp_path_factory.mktemp("shards")
    made = [make_dataset(root / name, 3, first_seed=first) for name, first in (("a", 0), ("b", 3), ("c", 3))]
    for shard, recipe in zip(
        made, (RECIPE, {**RECIPE, "commit": "b"}, {**RECIPE, "style": "gcs"}), strict=True
    ):
        (shard / "collect.json").write_text(json.dumps(recipe))
    (made[1] / "000006.failed.json").write_text("{}")
    shutil.rmtree(made[2] / "000005")
    return made


def test_shards_become_one_dataset_without_a_second_copy(shards, tmp_path, capsys):
    """Every file has the same bytes and the same place on the disk; `collect` can go on there."""
    out = tmp_path / "all"
    assert cli.main(["merge", str(shards[0]), str(shards[1]), "--out", str(out)]) == 0
    assert "6 episodes from 2 folders; 0 were there twice" in capsys.readouterr().out
    assert [p.name for p in list_episodes(out)] == [f"{i:06d}" for i in range(6)]
    for shard in shards[:2]:
        for path in list_episodes(shard):
            for file in path.iterdir():
                assert (out / path.name / file.name).samefile(file)
    assert json.loads((out / "collect.json").read_text()) == RECIPE
    assert sorted(p.name for p in (out / "recipes").iterdir()) == ["a.collect.json", "b.collect.json"]
    assert (out / "000006.failed.json").is_file()
    assert look_over(out, images=True).everything == []


def test_order_does_not_matter_and_merging_twice_adds_nothing(shards, tmp_path):
    """The laws of a union of sets."""
    merge(shards[:2], tmp_path / "ab")
    merge(shards[1::-1], tmp_path / "ba")
    assert [p.name for p in list_episodes(tmp_path / "ab")] == [
        p.name for p in list_episodes(tmp_path / "ba")
    ]
    taken, same = merge([tmp_path / "ab", shards[0]], tmp_path / "aba")
    assert (taken, same) == (6, 3)
    episodes = {k: v for k, v in tree(tmp_path / "aba").items() if k.startswith("0")}
    assert episodes == {k: v for k, v in tree(tmp_path / "ab").items() if k.startswith("0")}


def test_one_name_for_two_episodes_is_refused_or_told_apart(shards, tmp_path):
    """Two sources that both count from one seed; recipes of both are kept, none stands for the whole."""
    other = tmp_path / "c"
    shutil.copytree(shards[2], other)
    meta = other / "000004" / "meta.json"
    meta.write_text(meta.read_text().replace('"source": "target"', '"source": "source"'))
    with pytest.raises(EpisodeError, match="(?s)1 names stand for different episodes:\n  000004: .*--prefix"):
        merge([shards[1], other], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert merge([shards[1], other], tmp_path / "out", prefix=True) == (5, 0)
    names = ["b_000003", "b_000004", "b_000005", "c_000003", "c_000004"]
    assert [p.name for p in list_episodes(tmp_path / "out")] == names
    assert not (tmp_path / "out" / "collect.json").exists()
    assert len(list((tmp_path / "out" / "recipes").iterdir())) == 2
    assert {f.code for f in look_over(tmp_path / "out", images=False).everything} == {"duplicate"}


def test_what_cannot_be_merged_is_refused(shards, tmp_path):
    with pytest.raises(EpisodeError, match="merge was given 1 folder; needs two or more"):
        merge(shards[:1], tmp_path / "out")
    with pytest.raises(EpisodeError, match="merge was given one folder twice"):
        merge([shards[0], shards[0]], tmp_path / "out")
    with pytest.raises(EpisodeError, match="is already there"):
        merge(shards[:2], shards[2])
    (tmp_path / "empty").mkdir()
    with pytest.raises(EpisodeError, match="no whole episode under"):
        merge([shards[0], tmp_path / "empty"], tmp_path / "out")
