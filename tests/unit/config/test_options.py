import pytest

from bbr.config import options


def test_a_setting_knows_its_text_and_has_its_value():
    field = options.setting(options.size, "2KiB", "SIZE", "how much")
    declared = field.metadata["option"]
    assert field.default == 2048
    assert (declared.default, declared.metavar, declared.help) == ("2KiB", "SIZE", "how much")


def test_a_setting_without_a_default_is_none():
    assert options.setting(options.port, "", "PORT", "where").default is None


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
    declared = options.setting(parse, "", "X", "x").metadata["option"]
    assert (declared.switch, declared.repeatable) == (switch, repeatable)


def test_a_choice_names_what_there_is():
    parse = options.choice({"a": 1, "b": 2})
    assert parse("b") == 2
    with pytest.raises(ValueError, match="is not one of a, b"):
        parse("c")
