import pytest

from tests import mutants
from tests.mutants import Mutant, all_mutants, mutated, survives

SOURCE = "é = 'é'\nif a and not b or c:\n    d = 1 if e else 2\nelif f:\n    pass\n"


def test_every_condition_and_operand_is_taken_out():
    changed = {mutated(SOURCE, each) for each in mutants.mutants("x.py", SOURCE)}
    assert len(changed) == 10
    assert SOURCE.replace("if a and not b or c:", "if True:") in changed
    assert SOURCE.replace("if a and not b or c:", "if False:") in changed
    assert SOURCE.replace("a and not b or c", "((c))") in changed
    assert (
        SOURCE.replace("a and not b or c", "((a and (not b)))") in changed
        or SOURCE.replace("a and not b or c", "((a and not b))") in changed
    )
    assert SOURCE.replace("a and not b", "((a))") in changed
    assert SOURCE.replace("if e", "if False") in changed
    assert SOURCE.replace("elif f", "elif True") in changed


def test_both_rooms_are_mutated():
    everything = all_mutants()
    assert {each.file.rpartition("/")[0] for each in everything} == set(mutants.ROOMS)
    assert len(everything) > 400


@pytest.mark.parametrize("noticed", [True, False])
def test_l6_a_condition_that_is_taken_out_is_noticed(noticed):
    # A sample is `make mutants`. Here: that the machinery tells one that matters from one that does not.
    (mutant,) = (
        each
        for each in all_mutants()
        if each.file == "bbr/http2/budgets.py"
        and each.was.startswith("not self.control.spend(")
        and each.now == "False"
    )
    if not noticed:
        mutant = Mutant(mutant.file, mutant.line, mutant.was, mutant.was, mutant.span)
    assert survives(mutant, ("tests/unit/http2/test_budgets.py",)) is not noticed


def test_explanations_are_of_conditions_that_exist():
    assert set(mutants.EQUIVALENT) <= {(each.file, each.was) for each in all_mutants()}
