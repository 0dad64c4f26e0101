"""Whatever an image's arguments are: what starts without a command never fails by a flag that nobody knows."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from bbr import cli
from bbr.config import go_flags as dropin
from bbr.config import removed
from bbr.config import settings as config
from bbr.config.settings import ConfigError

FLAGS = [
    *(config.flag_of(name).removeprefix("--") for name in config.OPTIONS),
    *dropin.IDLE_SWITCHES,
    *dropin.IDLE_VALUES,
    *(name.replace("_", "-") for name in removed.REPLACEMENTS),
    dropin.PLUGIN,
]
THEIRS = (*dropin.IDLE_SWITCHES, *dropin.IDLE_VALUES, dropin.PLUGIN, dropin.STREAMING, dropin.VERBOSITY)
names = st.sampled_from(FLAGS) | st.text(max_size=12)
values = st.sampled_from(["true", "false", "3", "-1", "", "-", "--", "--help", "x:y:{}"]) | st.text(max_size=12)
flags = st.builds("{}{}{}{}".format, st.sampled_from(["-", "--", "---"]), names, st.sampled_from(["", "="]), values)
words = st.lists(flags | values, max_size=8)


def assert_a_known_flag_is_named(sentence: str) -> None:
    name = sentence.removeprefix("--").partition(" ")[0].removesuffix(":")
    assert name in FLAGS


@given(words)
@example(["--streaming", "--version"])
@example(["--a", "--b", "c", "--", "--grpc-port"])
def test_flags_that_nobody_knows_are_left_out(arguments: list[str]) -> None:
    try:
        line = dropin.read(["--streaming", *arguments], {})
    except ConfigError as error:  # a flag that somebody knows, with a value that is none
        assert_a_known_flag_is_named(str(error))
        return
    found, unknown = cli.parser(["serve"]).parse_known_args(
        [word for word in line.arguments if word not in ("-h", "--help")]
    )
    assert (found.command, unknown) == ("serve", [])
    assert all("\n" not in note.text for note in line.notes)


@given(words)
def test_with_the_command_nothing_but_flags_of_theirs_is_taken_away(arguments: list[str]) -> None:
    try:
        line = dropin.read(["serve", *arguments], {})
    except ConfigError as error:
        assert_a_known_flag_is_named(str(error))
        return
    theirs = sum(re.split("=|(?<=^v)-?[0-9]", word.lstrip("-"))[0] in THEIRS for word in arguments)
    assert len(arguments) - 2 * theirs <= len(line.arguments) - 1 <= len(arguments)
