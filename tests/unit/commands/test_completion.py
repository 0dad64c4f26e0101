import pytest

from bbr import cli
from bbr.commands import completion
from bbr.config import settings as config
from tests.support.commands import failure


@pytest.fixture(scope="module")
def grammar():
    return cli.parser(list(cli.COMMANDS))


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_script_has_every_command_and_flag(grammar, shell):
    text = completion.script(shell, grammar)
    for word in completion.words(grammar):
        assert word.name in text
        for flag in word.flags:
            assert (flag.name[2:] if shell == "fish" else flag.name) in text
            assert len(flag.help) < 80
            assert "'" not in flag.help
    assert "@" not in text.replace('"$@"', "").replace("[@]", "")


def test_what_zsh_and_fish_are_told_of_a_flag(grammar):
    zsh, fish = (completion.script(shell, grammar) for shell in ("zsh", "fish"))
    assert "'*--transport=[the gRPC server" in zsh
    assert ":value:(uv grpcio)'" in zsh
    assert "'*--models=[" in zsh
    where = "complete -c bbr -n '__fish_seen_subcommand_from serve'"
    assert f"{where} -l transport -x -a 'uv grpcio' -d" in fish
    assert f"{where} -l models -r -F -d" in fish
    assert f"{where} -l grpc-port -x -d" in fish
    # A rare one, whose help only --help-all shows.
    assert f"{where} -l busy-poll -x -d '{completion._short(config.OPTIONS['busy_poll'].help)[:20]}" in fish


def test_the_command_prints_the_script(capsys, grammar):
    assert cli.main(["completion", "fish"]) == 0
    assert capsys.readouterr().out == completion.script("fish", grammar)
    assert failure(capsys, "completion", "tcsh")[0] == 2
