import pytest

from bbr.config import removed
from bbr.config import settings as config


@pytest.mark.parametrize("name", removed.REPLACEMENTS)
def test_what_takes_the_place_of_a_removed_setting_is_there(name):
    assert name not in config.OPTIONS
    words = removed.sentence(name).partition(": ")[2].replace("=", " ").replace(",", " ").split()
    flags = [word for word in words if word.startswith("--") and word not in ("--v",)]
    assert flags or words[:2] == ["leave", "it"]
    assert set(flags) <= {config.flag_of(each) for each in config.OPTIONS}


def test_a_removed_setting():
    sentence = "--access-log-sample was removed: give the share to --access-log, as in --access-log=0.01"
    assert removed.sentence("access_log_sample") == sentence
    assert removed.of_flag("--access-log-sample") == removed.of_flag("--access-log-sample=0.1") == sentence


def test_a_flag_of_the_go_routers():
    assert removed.sentence("v").startswith("--v is a flag of the Go routers, which only `bbr serve` takes: use ")


@pytest.mark.parametrize("word", ["--grpc-port", "--access-log", "access-log-sample", "-v", "--x"])
def test_other_words(word):
    assert removed.of_flag(word) is None
