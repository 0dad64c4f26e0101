from bbr import cli
from bbr.commands import check as commands
from bbr.config.settings import Settings
from tests.support.commands import of, write


def test_check_asks_no_cluster(models, tmp_path):
    text, status = commands.check(Settings(models=models, kubernetes=True, kubeconfig=tmp_path / "none"))
    assert (status, "ConfigMaps" in text) == (0, False)


def test_check_of_a_valid_file(models):
    assert commands.check(of(models)) == (f"1 base model, 1 adapter and 1 alias from {models}.\n", 0)


def test_check_of_a_broken_file(models):
    write(models, "models: x")
    assert commands.check(of(models)) == (f"{models}: line 1: models must be a list.\n", 1)


def test_check_of_a_file_that_is_not_there(tmp_path):
    assert commands.check(of(tmp_path / "x")) == (f"{tmp_path / 'x'}: No such file or directory.\n", 1)


def test_check_of_a_file_with_an_alias_of_nothing(models):
    write(models, "models: []\naliases: {x: y}\n")
    text, status = commands.check(of(models))
    assert status == 1
    assert text.endswith(
        f"Ignored:\n  x can't be an alias of y (file {models}, line 2): y is neither a base model nor an adapter\n"
    )


def test_names_that_look_like_patterns_are_told_and_do_not_fail(models):
    write(models, "models: [{name: 'phi*', adapters: ['re:x', 'team-*']}]")
    text, status = commands.check(of(models))
    assert status == 0
    assert text == (
        f"1 base model and 2 adapters from {models}.\n\nTaken literally:\n"
        f"  the base model phi* (file {models}, line 1) is taken literally, its * too: adapters and aliases alone can "
        "be patterns\n"
        f"  the adapter re:x (file {models}, line 1) is taken literally, 're:' too: * alone stands for other "
        "characters, in adapters and aliases\n"
    )


def test_what_nobody_could_see_in_a_name_is_spelled_out(tmp_path):
    path = write(tmp_path / "od\u200bd\n.yaml", "models: [{name: phi}]")
    assert commands.check(Settings(models=path)) == (
        f"1 base model and 0 adapters from {tmp_path}/od\\u200bd\\n.yaml.\n",
        0,
    )
    write(path, "models: x")
    sentence = f"{tmp_path}/od\\u200bd\\n.yaml: line 1: models must be a list.\n"
    assert commands.check(Settings(models=path)) == (sentence, 1)


def test_check_knows_the_longest_name(capsys, models):
    assert cli.main(["check", str(models), "--max-model-length=3"]) == 1
    assert "at most 3 are allowed" in capsys.readouterr().out


def test_check_of_a_directory_without_a_model_file(tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.yaml").touch()
    (tmp_path / "folder.yaml").mkdir()
    sentence = "the directory has no file that ends in .yaml, .yml, .json"
    assert commands.check(of(tmp_path)) == (f"{tmp_path}: {sentence}.\n", 1)
    write(tmp_path / "models.yml", "models: [{name: phi}]")
    assert commands.check(of(tmp_path)) == (f"1 base model and 0 adapters from {tmp_path}.\n", 0)
