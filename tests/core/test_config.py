"""Config files round trip, and every mistake in one is answered with where, what and what instead."""

from __future__ import annotations

import math
from typing import Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_policy.config import StrictModel, dump_yaml, load_yaml, merge, parse
from ambient_policy.errors import ConfigError


class Sampler(StrictModel):
    steps: int = pydantic.Field(default=8, ge=1)
    method: Literal["ddim", "heun"] = "ddim"


class Source(StrictModel):
    folder: str
    band: tuple[float, float] = (0.0, math.inf)


class Run(StrictModel):
    name: str = "run"
    sampler: Sampler = Sampler()
    sources: dict[str, Source] = pydantic.Field(default_factory=dict)
    layers: tuple[Sampler, ...] = ()
    extra: Sampler | None = None

    @pydantic.model_validator(mode="after")
    def _check(self) -> Run:
        if self.name == "forbidden":
            raise ValueError("Name and sampler do not go together")
        return self


runs = st.builds(
    Run,
    name=st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20).filter(
        lambda name: name != "forbidden"
    ),
    sampler=st.builds(Sampler, steps=st.integers(1, 10**6), method=st.sampled_from(["ddim", "heun"])),
    sources=st.dictionaries(
        st.text("abc_", min_size=1, max_size=5),
        st.builds(Source, folder=st.text("/.ab"), band=st.tuples(st.floats(0, 1), st.floats(1, math.inf))),
    ),
)


@given(runs)
def test_yaml_round_trip(tmp_path_factory, run):
    """What is dumped loads equal, awkward strings and open bands included."""
    file = tmp_path_factory.mktemp("config") / "run.yaml"
    file.write_text(dump_yaml(run), encoding="utf-8")
    assert load_yaml(file, Run) == run


def test_overrides_are_laid_over_the_file_key_by_key(tmp_path):
    """A nested override changes its own key and leaves the neighbours."""
    file = tmp_path / "run.yaml"
    file.write_text("sampler: {steps: 4, method: heun}\n")
    run = load_yaml(file, Run, {"sampler": {"steps": 2}, "name": "x"})
    assert run == Run(name="x", sampler=Sampler(steps=2, method="heun"))
    assert merge({"a": {"b": 1}}, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}


def test_an_empty_file_gives_the_defaults(tmp_path):
    """Every key may be left out when all have defaults."""
    (tmp_path / "run.yaml").write_text("# nothing yet\n")
    assert load_yaml(tmp_path / "run.yaml", Run) == Run()


def test_models_are_frozen():
    """A config that changes after it was saved would be a lie."""
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Run().name = "other"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sampler: {step: 3}", ["sampler.step: unknown key; did you mean `steps`? known: method, steps"]),
        ("nme: x", ["nme: unknown key; did you mean `name`?", "sampler, sources"]),
        ("zzz: x", ["zzz: unknown key; known: extra, layers, name, sampler, sources"]),
        ("sampler: {steps: 0}", ["sampler.steps is 0: input should be greater than or equal to 1"]),
        ("sampler: {steps: many}", ["sampler.steps is 'many': input should be a valid integer"]),
        ("sampler: {method: euler}", ["sampler.method is 'euler': input should be 'ddim' or 'heun'"]),
        ("sources: {real: {}}", ["sources.real.folder: missing, and it has no default"]),
        (
            "sources: {real: {folder: a, foldr: b}}",
            ["sources.real.foldr: unknown key; did you mean `folder`?"],
        ),
        ("layers: [{}, {mthod: x}]", ["layers.1.mthod: unknown key; did you mean `method`?"]),
        ("extra: {stepps: 2}", ["extra.stepps: unknown key; did you mean `steps`?"]),
        ("name: forbidden", ["(the whole document): name and sampler do not go together"]),
        ("sampler: {step: 3}\nnme: 1", ["sampler.step: unknown", "nme: unknown"]),
        ("[1, 2]", ["holds a list at its top, needs `key: value` lines"]),
        ("name: a\nname: b", ["is not valid YAML", "key 'name' is written twice", "line 2"]),
        ("a: [1", ["is not valid YAML", "line"]),
        ("{[1]: 2}", ["is not valid YAML"]),
    ],
)
def test_mistakes_are_named_with_their_cure(tmp_path, text, parts):
    """Every message also names the file."""
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_yaml(file, Run)
    for part in (str(file), *parts):
        assert part in str(error.value)


def test_a_missing_file_lists_its_neighbours(tmp_path):
    """A typo in a path is the commonest mistake of all."""
    (tmp_path / "small.yaml").touch()
    with pytest.raises(ConfigError, match=r"no config file at .*smal\.yaml; beside it: small\.yaml"):
        load_yaml(tmp_path / "smal.yaml", Run)
    with pytest.raises(ConfigError, match="no YAML file is beside it; check the path"):
        load_yaml(tmp_path / "no" / "x.yaml", Run)
    with pytest.raises(ConfigError, match="cannot read config file"):
        load_yaml(tmp_path, Run)


def test_parse_names_where_the_data_came_from():
    """Not every config comes from a file."""
    with pytest.raises(
        ConfigError, match=r"^the bundle's training record does not fit Run:\n  nam: unknown key"
    ):
        parse({"nam": 1}, Run, "the bundle's training record")
