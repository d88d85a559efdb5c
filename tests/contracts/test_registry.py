"""Specs: every object can be spelled, every spelling built, and every mistake is answered with the
choices."""

import dataclasses
import inspect
import math
import typing
from dataclasses import InitVar, dataclass

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from steadygan.core import Game, SteadyganError, build, describe, names, register, spec, unregister
from steadygan.core.constraints import Constraint
from steadygan.core.divergences import Divergence
from steadygan.core.registry import KINDS, expand, lookup
from steadygan.core.schedules import Cosine, Exponential, Schedule

CORE = ("objective", "divergence", "regularizer", "smoothing", "constraint", "dynamics")
ENTRIES = [(kind, name) for kind in CORE for name in names(kind)]

# Half of them below 1, where shares such as LeCam's decay live.
numbers = st.one_of(st.floats(1e-9, 1, exclude_max=True), st.floats(1, 1e6))
schedules = st.builds(
    lambda cls, start, factor: cls(start, factor),
    st.sampled_from([Exponential, Cosine]),
    numbers,
    numbers,
)


def strategy(hint):
    """Random values for a setting, by its type."""
    if isinstance(hint, InitVar):
        return None
    options = (
        typing.get_args(hint)
        if typing.get_origin(hint) in (typing.Union, type(int | str))
        else (hint,)
    )
    if Schedule in options:
        return st.one_of(numbers, schedules)
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(options[0].__args__)
    simple = {
        bool: st.booleans(),
        int: st.integers(1, 9),
        float: numbers,
        type(None): st.none(),
        Divergence: st.sampled_from(names("divergence")).map(
            lambda name: build("divergence", name)
        ),
    }
    return st.one_of(*(simple[option] for option in options))


def objects(kind, name):
    cls = lookup(kind, name)
    hints = typing.get_type_hints(cls)
    fields = {key: strategy(hints[key]) for key in inspect.signature(cls).parameters}

    def make(values):
        try:
            return cls(**values)
        except (
            SteadyganError
        ):  # settings that do not go together, such as critic_steps of a simultaneous consensus
            assume(False)

    return st.fixed_dictionaries(
        {key: values for key, values in fields.items() if values is not None}
    ).map(make)


@pytest.mark.parametrize("kind, name", ENTRIES)
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_build_inverts_spec(kind, name, data):
    item = data.draw(objects(kind, name))
    spelled = spec(item)
    assert (
        spelled.startswith(name)
        and build(kind, spelled) == item
        and spec(build(kind, spelled)) == spelled
    )
    assert not set(spelled) & set(" {}")


@pytest.mark.parametrize("kind, name", ENTRIES)
def test_every_setting_has_a_default_and_its_spelling_is_short(kind, name):
    item = build(kind, name)
    assert build(kind, item) is item and build(kind, spec(item)) == item
    assert spec(item).count("=") == min(
        len(dataclasses.fields(item)), 1
    )  # the first setting is always told, the others not


@pytest.mark.parametrize("kind", CORE)
def test_describe_tells_every_setting(kind):
    for entry in describe(kind):
        assert set(entry.settings) <= set(inspect.signature(lookup(kind, entry.name)).parameters)
        assert entry.summary and entry.summary == inspect.getdoc(
            lookup(kind, entry.name)
        ).splitlines()[0].replace("``", "")
    assert [entry.name for entry in describe(kind)] == names(kind) == sorted(names(kind))


SPELLINGS = {
    "js:gamma=2,anneal=0.01": "js:gamma=2,anneal=0.01",
    "js:anneal=0.5,schedule=cosine": "js:gamma=2,anneal=0.5,schedule=cosine",
    " r1: gamma = 0.1 , ": "r1:gamma=0.1",
    "r1:gamma=1e-05": "r1:gamma=1e-05",
    "r1:gamma=20.0": "r1:gamma=20",
    "f-gan:divergence=alpha:alpha=-1.5": "f-gan:gamma=2,divergence=alpha:alpha=-1.5",
    "lecam:decay=0.5": "lecam:gamma=0.6,decay=0.5",
}


@pytest.mark.parametrize("given_, canonical", SPELLINGS.items())
def test_one_spelling(given_, canonical):
    assert spec(build("regularizer", given_)) == canonical


def test_dashes_and_underscores_are_one_in_settings():
    assert build("dynamics", "alternating:critic-steps=5") == build(
        "dynamics", "alternating:critic_steps=5"
    )


def test_a_tensor_is_spelled_as_its_number():
    r1 = dataclasses.replace(build("regularizer", "r1"), gamma=torch.tensor(0.25))
    assert spec(r1) == "r1:gamma=0.25"


@pytest.mark.parametrize(
    "kind, mistake, answer",
    [
        ("regularizer", "r3", r"Unknown regularizer 'r3'.*nearest first: r1, r2,.*wgan-gp"),
        ("regularizer", "wgangp", r"nearest first: wgan-gp"),
        ("objective", "hing", r"nearest first: hinge"),
        ("regularizer", "r1:lambda=10", r"no setting 'lambda'; it takes: gamma, anneal, schedule"),
        ("regularizer", "r1:gamma", r"expected setting=value"),
        ("regularizer", "r1:gamma=ten", r"'gamma': 'ten' is not a number"),
        ("regularizer", "r1:gamma=1,gamma=2", r"sets 'gamma' twice"),
        ("regularizer", "r1:anneal=2,schedule=linear", r"Unknown schedule 'linear'.*exponential"),
        ("regularizer", "r1:anneal=0", r"anneal"),
        ("objective", "f-gan:divergence=kll", r"Unknown divergence 'kll'.*nearest first: kl"),
        ("objective", "hinge:margin=2", r"it takes: none"),
        ("dynamics", "alternating:critic_steps=many", r"'many' is not a whole number"),
        ("dynamics", "consensus:alternating=maybe", r"'maybe' is not true or false"),
        ("constraint", "clip:c=0", r"c must be a finite number > 0"),
        ("constraint", "clip:c=nan", r"c must be a finite number > 0"),
        ("regularizer", "lecam:decay=1", r"decay .* in \[0, 1\)"),
    ],
)
def test_mistakes_are_answered_with_the_mend(kind, mistake, answer):
    with pytest.raises(SteadyganError, match=answer):
        build(kind, mistake)


def test_all_choices_are_listed():
    with pytest.raises(SteadyganError) as error:
        build("regularizer", "nothing-like-it")
    assert set(str(error.value).partition("first: ")[2].rstrip(".").split(", ")) == set(
        names("regularizer")
    )


GRIDS = {
    "js:gamma=2": ["js:gamma=2"],
    "js:gamma={0.01,0.1,1}": ["js:gamma=0.01", "js:gamma=0.1", "js:gamma=1"],
    "js:gamma={1,2},anneal={0.5,0.1}": [
        "js:gamma=1,anneal=0.5",
        "js:gamma=1,anneal=0.1",
        "js:gamma=2,anneal=0.5",
        "js:gamma=2,anneal=0.1",
    ],
    "{r1,{r2,gp0}:gamma={1,3}}": ["r1", "r2:gamma=1", "r2:gamma=3", "gp0:gamma=1", "gp0:gamma=3"],
}


@pytest.mark.parametrize("text, grid", GRIDS.items())
def test_braces_make_a_grid(text, grid):
    """Expanded before settings are split, so every member is a spec of its own."""
    assert expand(text) == grid
    assert [spec(build("regularizer", member)).partition(":")[0] for member in grid] == [
        m.partition(":")[0] for m in grid
    ]


@pytest.mark.parametrize("text", ["js:gamma={1,2", "js:gamma=1}", "{{r1,r2}"])
def test_unbalanced_braces_are_refused(text):
    with pytest.raises(SteadyganError, match="brace that it does not"):
        expand(text)


def test_objects_of_another_kind_are_refused():
    r1 = build("regularizer", "r1")
    for wrong in (r1, 3, None, object()):
        with pytest.raises(SteadyganError, match="is no objective"):
            build("objective", wrong)
    with pytest.raises(SteadyganError):
        Game(r1)
    with pytest.raises(SteadyganError, match="is not registered"):
        spec(object())
    for function in (names, describe, lambda kind: register(kind, "x")):
        with pytest.raises(SteadyganError, match="Unknown kind"):
            function("flavour")


# ------------------------------------------------------------ registering


@dataclass(frozen=True)
class One(Constraint):
    """One. Reference: a test of 2024."""


@dataclass(frozen=True)
class Other(Constraint):
    """Other. Reference: a test of 2024."""


@dataclass
class Melting(Constraint):
    """Not frozen. Reference: a test of 2024."""


@dataclass(frozen=True)
class Silent(Constraint):
    """Where is it from."""


def test_a_name_is_taken_once():
    register("constraint", "one")(One)
    try:
        register("constraint", "one")(One)  # a module that is imported again
        with pytest.raises(SteadyganError, match=r"'one' is already registered by .*One"):
            register("constraint", "one")(Other)
        assert isinstance(build("constraint", "one"), One)
    finally:
        unregister(One)
    assert "one" not in names("constraint")


@pytest.mark.parametrize("name", ["a{b}", "a:b", "a,b", "a=b", "a b"])
def test_names_must_not_collide_with_the_spelling(name):
    """Braces make grids, and the others separate settings."""
    with pytest.raises(SteadyganError, match="belong to the spelling"):
        register("constraint", name)(One)
    assert name not in names("constraint")


def test_entries_are_frozen_and_say_where_they_come_from():
    with pytest.raises(SteadyganError, match="frozen dataclass"):
        register("constraint", "melting")(Melting)
    with pytest.raises(SteadyganError, match="Reference"):
        register("constraint", "silent")(Silent)
    assert not {"melting", "silent"} & set(names("constraint"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_is_of_its_kind_s_base(kind):
    @dataclass(frozen=True)
    class Stranger:
        """Nothing that anybody could play with. Reference: none 2031."""

    with pytest.raises(SteadyganError, match=rf"The {kind} 'stranger' must be a .*derive Stranger"):
        register(kind, "stranger")(Stranger)
    assert "stranger" not in names(kind)


@pytest.mark.parametrize("kind, name", ENTRIES)
def test_entries_are_values(kind, name):
    """Equal, hashable and frozen: they key caches and configurations."""
    one, other = build(kind, name), build(kind, name)
    assert one == other and hash(one) == hash(other) and one is not other
    for field in dataclasses.fields(one):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, field.name, math.pi)


def test_the_kinds_of_the_core_are_served():
    assert set(CORE) <= set(KINDS) and all(names(kind) for kind in CORE)
