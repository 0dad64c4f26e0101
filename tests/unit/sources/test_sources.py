import asyncio
import logging

import pytest

from bbr.config import Settings
from bbr.sources import sources as module
from bbr.sources.sources import Sources
from bbr.sources.table import SourceError
from tests.support.loops import in_loop
from tests.support.stack import until


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def models(tmp_path):
    return write(tmp_path / "models.yaml", "models: [{name: qwen, adapters: [x, y]}, {name: phi}]")


def loaded(path, **settings):
    sources = Sources(Settings(models=path, **settings))
    sources.load()
    return sources


@in_loop
async def test_without_a_source_nothing_is_followed():
    sources = loaded(None)
    assert sources.table.registry.identity
    assert str(sources) == "no model table: every model is its own base model"
    sources.start()
    sources.reload()
    await sources.stop()


def test_says_what_the_table_holds(models):
    assert str(loaded(models)) == f"2 base models and 2 adapters from {models}"


def test_says_that_there_are_aliases(models):
    write(models, "models: [{name: qwen}]\naliases: {gpt-4: qwen}")
    assert str(loaded(models)) == f"1 base model, 0 adapters and 1 alias from {models}"


def test_read_leaves_what_is_wrong_in_the_table(models):
    write(models, "models:\n- nam: x\n")
    sources = Sources(Settings(models=models))
    sources.read()
    assert list(sources.table.broken) == [("file", str(models))]


def test_a_wrong_file_does_not_load(models):
    write(models, "models:\n- nam: x\n")
    with pytest.raises(SourceError) as caught:
        loaded(models)
    assert str(caught.value).startswith(f"--models: {models}: line 2: ")


def test_a_wrong_file_of_a_directory_does_not_load(models):
    other = write(models.parent / "other.yaml", "models: x")
    with pytest.raises(SourceError) as caught:
        loaded(models.parent)
    assert str(caught.value) == f"--models: {other}: line 1: models must be a list"


def test_a_directory_that_can_not_be_read_does_not_load(models, monkeypatch):
    monkeypatch.setattr(module.file, "MAX_FILES", 0)
    with pytest.raises(SourceError) as caught:
        loaded(models.parent)
    assert str(caught.value) == f"--models: {models.parent}: the directory has 1 files; at most 0 are read"


def test_names_are_bounded_as_those_of_requests_are(models):
    with pytest.raises(SourceError, match="at most 3 are allowed"):
        loaded(models, max_model_length=3)


@in_loop
async def test_reload_is_followed_until_stop(models):
    sources = loaded(models)
    sources.start()
    write(models, "models: [{name: gemma}]")
    sources.reload()
    await until(lambda: sources.table.registry.base_models == ("gemma",))
    await sources.stop()
    write(models, "models: [{name: llama}]")
    sources.reload()
    await asyncio.sleep(0)
    assert sources.table.registry.base_models == ("gemma",)


@in_loop
async def test_an_error_of_ours_in_a_source_is_told(models, monkeypatch, caplog):
    async def fail(_self):
        raise ZeroDivisionError

    monkeypatch.setattr(module.FileSource, "run", fail)
    sources = loaded(models)
    sources.start()
    await until(lambda: caplog.records)
    await sources.stop()
    (record,) = caplog.records
    assert (record.levelno, record.exc_info[0]) == (logging.CRITICAL, ZeroDivisionError)
    assert record.getMessage() == "the model table is followed no longer; restart the router"
