"""A chain says its order, and is refused when it is made if that cannot be."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING

import pytest
from invoke.exceptions import Exit

from backset import steps
from backset.chain import CHAINS, Chain, Step, parallel
from backset.steps import STANDARD
from tests.project import REPOSITORY

if TYPE_CHECKING:
    from types import ModuleType

STEPS = [getattr(steps, name) for name in steps.__all__]


@pytest.fixture
def front_door() -> ModuleType:
    """The repository's tasks.py, as Invoke imports it."""
    spec = spec_from_file_location("front_door", REPOSITORY / "tasks.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(chain: Chain) -> tuple[object, ...]:
    """Return what a chain says of itself."""
    return chain.name, chain.groups, chain.in_place


def test_the_front_door_shows_the_chains_of_every_project(front_door: ModuleType) -> None:
    """What a reader of tasks.py sees is what other projects get."""
    assert [*map(shown, front_door.CHAINS)] == [*map(shown, STANDARD)]
    assert {each.name: shown(each) for each in STANDARD} == {
        name: shown(each) for name, each in CHAINS.items()
    }


def test_the_front_door_says_of_each_step_what_it_does_and_needs(front_door: ModuleType) -> None:
    """Its table is that of the steps."""
    rows = re.findall(
        r"^\| (\w+) +\| (.+?) +\| (\w*) +\| (\w*) +\|$", front_door.__doc__ or "", re.MULTILINE
    )
    said = {row for row in rows if row[0] != "step"}
    assert said == {(each.name, each.does, each.needs, each.gives) for each in STEPS}


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ([steps.upgrade, steps.promote], "promote needs next, and no step before gives that"),
        ([parallel(steps.backup, steps.promote)], "promote needs next"),
        ([steps.carry, steps.upgrade], "carry needs schema"),
        ([steps.undo, steps.seed], "seed comes after undo, which is the last"),
        ([steps.seed, steps.seed], "there are two steps of the name seed"),
        ([parallel(steps.upgrade, steps.seed)], "nothing can go on beside upgrade"),
    ],
)
@pytest.mark.parametrize("where", ["beside", "in place"])
def test_a_chain_that_cannot_be_is_refused_when_it_is_made(
    order: list[Step], words: str, where: str
) -> None:
    """With the chain, the step, and where to look; the exit code is that of wrong settings."""
    with pytest.raises(Exit, match=f"the chain mine: {words}.* → .*tasks.py") as refused:
        Chain("mine", *order) if where == "beside" else Chain("mine", steps.seed, in_place=order)
    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("order", "in_place", "words"),
    [
        ([steps.backup, steps.clear], (), "clear is for a target that is replaced"),
        ([steps.reset, steps.upgrade], (), "reset is for a target that is replaced"),
        ([steps.upgrade, steps.carry], (), "carry is for a target that is replaced"),
        ([steps.load], (), "load is for a target that is replaced"),
        ([steps.backup, steps.clear, steps.undo], (), "clear can only be in place"),
        ([steps.reset, steps.undo], (), "and no promote swaps it in"),
        ([steps.undo], [steps.backup, steps.clear, steps.reset], "reset cannot be in place"),
        ([steps.seed], [steps.backup, steps.clear], "and does not replace its target"),
        ([steps.undo], [steps.backup, steps.upgrade], "the first steps are backup and clear"),
        (
            [steps.undo],
            [steps.backup, Step("own", run=print, plan=""), steps.clear],
            "the first steps are backup and clear",
        ),
    ],
)
def test_a_chain_that_would_do_harm_is_refused_when_it_is_made(
    order: list[Step], in_place: list[Step], words: str
) -> None:
    """Nothing is emptied that no gate has seen, nor changed that no backup would bring back."""
    with pytest.raises(Exit, match=words):
        Chain("mine", *order, in_place=in_place)


def test_a_step_of_ones_own_stands_where_it_is_put() -> None:
    """In place, too; a step that is not there has nothing behind it."""
    own = Step("anonymize", run=print, plan="would blank the addresses")
    (standard,) = (each for each in STANDARD if each.name == "reset-db")
    chain = standard.named("mine", after="carry", step=own)
    for groups in (chain.groups, chain.in_place):
        names = [each.name for group in groups for each in group]
        assert names[names.index("carry") + 1] == "anonymize"
    with pytest.raises(Exit, match="there is no step curry that anonymize could come after"):
        standard.named("mine", after="curry", step=own)
