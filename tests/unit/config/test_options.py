import enum

import pytest

from bbr.config import options
from bbr.config.options import Group


def test_a_setting_knows_its_text_and_has_its_value():
    field = options.setting(Group.BODIES, options.size, "2KiB", "how much")
    declared = field.metadata["option"]
    assert field.default == 2048
    assert (declared.group, declared.default, declared.help) == (Group.BODIES, "2KiB", "how much")
    assert declared.metavar == "SIZE"


def test_a_setting_without_a_default_is_none():
    assert options.setting(Group.PORTS, options.port, "", "where").default is None


@pytest.mark.parametrize(
    ("parse", "switch", "repeatable"),
    [
        (options.boolean, True, False),
        (options.port, False, False),
        (options.header_names, False, True),
        (options.templates, False, True),
        (options.client_names, False, True),
    ],
)
def test_how_a_flag_may_be_given(parse, switch, repeatable):
    declared = options.setting(Group.RARE, parse, "", "x").metadata["option"]
    assert (declared.switch, declared.repeatable) == (switch, repeatable)


def test_a_choice_names_what_there_is():
    parse = options.choice(enum.Enum("Letter", {"ONE": "a", "TWO": "b"}))
    assert parse("b").name == "TWO"
    assert options.Option(Group.RARE, parse, "a", "x").metavar == "a|b"
    with pytest.raises(ValueError, match="is not one of a, b"):
        parse("c")
