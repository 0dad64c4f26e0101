import asyncio
import importlib.resources
import json
import logging
import os
from contextlib import asynccontextmanager

import jsonschema
import pytest
import yaml

from bbr.models.entries import Alias, Origin
from bbr.models.merging import merging
from bbr.models.steps import finish
from bbr.sources import file
from bbr.sources.file import FileSource
from bbr.sources.objects import SourceError
from bbr.sources.table import Table
from tests.support.loops import in_loop
from tests.support.model_tables import base_model_of
from tests.support.stack import until

TWO = """\
models:
  - name: Qwen/Qwen2.5-3B-Instruct
    adapters: [sql-lora, summarize-lora]
  - name: llama
"""


SCHEMA_TEXT = importlib.resources.files("bbr.sources").joinpath("models.schema.json").read_text("utf-8")
SCHEMA = jsonschema.Draft202012Validator(json.loads(SCHEMA_TEXT))
AT = Origin("file", "models.yaml")


def parse(text):
    return finish(file.parse(text, AT))


def table(text):
    registry, conflicts = finish(merging(parse(text)))
    assert conflicts == []
    return {name: entry.base_model for name, entry in registry.items()}


def refusal(text):
    with pytest.raises(SourceError) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


ACCEPTED = {
    "base models and adapters": (
        TWO,
        {
            "Qwen/Qwen2.5-3B-Instruct": "Qwen/Qwen2.5-3B-Instruct",
            "llama": "llama",
            "sql-lora": "Qwen/Qwen2.5-3B-Instruct",
            "summarize-lora": "Qwen/Qwen2.5-3B-Instruct",
        },
    ),
    "JSON": (json.dumps({"models": [{"name": "a", "adapters": ["b"]}]}), {"a": "a", "b": "a"}),
    "JSON indented with tabs": (json.dumps({"models": [{"name": "a"}]}, indent="\t"), {"a": "a"}),
    "no models at all": ("models: []", {}),
    "no adapters": ("models: [{name: a}]", {"a": "a"}),
    "null adapters": ("models: [{name: a, adapters: ~}]", {"a": "a"}),
    "empty adapters": ("models: [{name: a, adapters: []}]", {"a": "a"}),
    "adapters that are only a comment": ("models:\n- name: a\n  adapters:\n    # - later\n", {"a": "a"}),
    "adapters before the name": ("models: [{adapters: [b], name: a}]", {"a": "a", "b": "a"}),
    "integers as names": ("models: [{name: 70, adapters: [1, 0x10]}]", {"70": "70", "1": "70", "0x10": "70"}),
    "other scalars as names": (
        "models: [{name: true, adapters: [1.50, no]}]",
        {"true": "true", "1.50": "true", "no": "true"},
    ),
    "the word null in quotes": ("models: [{name: 'null'}]", {"null": "null"}),
    "blanks around a name": ("models: [{name: ' a ', adapters: [\"\\tb\"]}]", {"a": "a", "b": "a"}),
    "names beyond ASCII": ("models: [{name: modèle, adapters: [模型]}]", {"modèle": "modèle", "模型": "modèle"}),
    "the longest name": (f"models: [{{name: {'x' * 4096}}}]", {"x" * 4096: "x" * 4096}),
    "an anchor for one name": ("models: [{name: &m a}, {name: b, adapters: [&x c]}]", {"a": "a", "b": "b", "c": "b"}),
    "an alias for a list": ("models: [{name: a, adapters: &l [b]}, {name: a, adapters: *l}]", {"a": "a", "b": "a"}),
    "an adapter that is its own base model": ("models: [{name: a, adapters: [a]}]", {"a": "a"}),
    "an adapter twice under one base model": ("models: [{name: a, adapters: [b, b]}]", {"a": "a", "b": "a"}),
    "a base model in two entries": (
        "models: [{name: a, adapters: [b]}, {name: a, adapters: [c]}]",
        {"a": "a", "b": "a", "c": "a"},
    ),
    "a document start": ("---\nmodels: []\n...\n", {}),
    "a byte order mark": ("\ufeffmodels: []", {}),
    "Windows line ends": (TWO.replace("\n", "\r\n"), table(TWO)),
    "an alias": ("models: [{name: a, adapters: [b]}]\naliases: {x: a, y: b}", {"a": "a", "b": "a", "x": "a", "y": "a"}),
    "an alias of the adapter with the same claim": (
        "models: [{name: a, adapters: [b]}]\naliases: {b: b, 1: a}",
        {"a": "a", "b": "a", "1": "a"},
    ),
    "an alias of several": (
        "models: [{name: a, adapters: [b]}]\naliases: {x: {b: 9, a: 1}}",
        {"a": "a", "b": "a", "x": "a"},
    ),
    "patterns": (
        "models: [{name: a, adapters: ['t-*', '*']}]\naliases: {'x-*': a, '*-yy': {a: 1}}",
        {"a": "a", "t-*": "a", "*": "a", "x-*": "a", "*-yy": "a"},
    ),
    "scopes": (
        "models: [{name: a}]\nscopes: {t: {hosts: [A.b, '*.c', '*', 10], models: [{name: d}], allow: {d: [x]}}, u: {}}",
        {"a": "a"},
    ),
    "null scopes": ("models: []\nscopes:\n", {}),
    "null aliases": ("models: []\naliases:\n", {}),
    "a comment at the end": ("models: []  # none yet\n", {}),
}


@pytest.mark.parametrize(("text", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(text, expected):
    assert table(text) == expected


@pytest.mark.parametrize("text", [case[0] for case in ACCEPTED.values()], ids=ACCEPTED)
def test_the_schema_accepts_what_the_parser_accepts(text):
    SCHEMA.validate(yaml.load(text, Loader=yaml.CSafeLoader))


def test_entries_know_their_lines():
    registry, _ = finish(merging(parse(TWO + "aliases:\n  gpt-4: llama\n")))
    lines = {name: (str(entry.kind), entry.origin.line) for name, entry in registry.items()}
    assert lines == {
        "Qwen/Qwen2.5-3B-Instruct": ("base model", 2),
        "sql-lora": ("adapter", 2),
        "summarize-lora": ("adapter", 2),
        "llama": ("base model", 4),
        "gpt-4": ("alias", 6),
    }
    assert registry.find("gpt-4").alias_of == "llama"


def test_an_alias_may_stand_for_several_models():
    registry, conflicts = finish(merging(parse(TWO + "aliases:\n  best: {llama: 90, sql-lora: 10, elsewhere: 1}\n")))
    assert [(share.model, share.weight) for share in registry.find("best").shares] == [("llama", 90), ("sql-lora", 10)]
    assert [str(each) for each in conflicts] == [
        (
            "best can't be an alias of elsewhere (file models.yaml, line 6): elsewhere is neither a base model nor an "
            "adapter"
        )
    ]


def test_an_alias_may_stand_for_a_model_of_another_file():
    (declaration,) = parse("aliases: {x: elsewhere}")
    assert declaration.aliases == (Alias("x", "elsewhere"),)


REFUSED = {
    # the root
    "nothing": ("", "the file is empty: it needs a list called models"),
    "only a comment": ("# models:\n", "the file is empty: it needs a list called models"),
    "a list as root": (
        "\n- name: a\n",
        "line 2: the file must be a mapping; its keys can be aliases, allow, models and scopes",
    ),
    "text as root": ("models", "line 1: the file must be a mapping; its keys can be aliases, allow, models and scopes"),
    "null as root": ("~", "line 1: the file must be a mapping; its keys can be aliases, allow, models and scopes"),
    "an empty mapping as root": ("{}", "line 1: the file needs a list called models"),
    "an unknown field of the root": (
        "models: []\nmodel: a\n",
        "line 2: the file has the unknown key model; known: aliases, allow, models, scopes",
    ),
    "models twice": ("models: []\nmodels: []\n", "line 2: models occurs twice in the file"),
    "a nested key": (
        "? [models]\n: []\n",
        "line 1: the file has the unknown key (a list or a mapping); known: aliases, allow, models, scopes",
    ),
    # scopes
    "a list as scopes": ("scopes: []", "line 1: scopes must be a mapping of names to what exists in them"),
    "text as scope": (
        "scopes: {a: b}",
        "line 1: the scope a must be a mapping; its keys can be aliases, allow, hosts and models",
    ),
    "a host with a port": (
        "scopes: {a: {hosts: ['b:80']}}",
        (
            "line 1: a host must be a name of at most 253 characters without a port, *. and a name, or *; other "
            "letters than a to z in punycode (xn--)"
        ),
    ),
    # models
    "null models": ("models:\n", "line 1: models must be a list"),
    "a mapping as models": ("models:\n  name: a\n", "line 2: models must be a list"),
    "text as models": ("models: a\n", "line 1: models must be a list"),
    # an entry
    "text as entry": (
        "models:\n- a\n",
        "line 2: an entry of models must be a mapping; its keys can be adapters, allow and name",
    ),
    "a list as entry": (
        "models:\n- [a]\n",
        "line 2: an entry of models must be a mapping; its keys can be adapters, allow and name",
    ),
    "an entry that is its own list": (
        "models: &l\n- *l\n",
        "line 2: an alias contains itself",
    ),
    "an unknown field of an entry": (
        "models:\n- name: a\n  adapter: [b]\n",
        "line 3: an entry of models has the unknown key adapter; known: adapters, allow, name",
    ),
    "a very long unknown field": (
        f"models:\n- ? {'a' * 100_000}\n  : b\n",
        f"line 2: an entry of models has the unknown key {'a' * 128}...; known: adapters, allow, name",
    ),
    "a merge key": (
        "models:\n- &e {name: a}\n- <<: *e\n",
        "line 3: an entry of models has the unknown key <<; known: adapters, allow, name",
    ),
    "name twice": ("models:\n- name: a\n  name: b\n", "line 3: name occurs twice in an entry of models"),
    "adapters twice": (
        "models:\n- name: a\n  adapters: [b]\n  adapters: [c]\n",
        "line 4: adapters occurs twice in an entry of models",
    ),
    "no name": ("models:\n- name: a\n- adapters: [b]\n", "line 3: an entry of models needs a name"),
    # names
    "null name": ("models:\n- name:\n", "line 2: the name must be text"),
    "a list as name": ("models:\n- name: [a]\n", "line 2: the name must be text"),
    "an empty name": ("models:\n- name: ''\n", "line 2: the name is empty"),
    "a blank name": ("models:\n- name: ' '\n", "line 2: the name is empty"),
    "a name with a control character": (
        'models:\n- name: "a\\nb"\n',
        "line 2: the name cannot be used as a model name: it holds a control character",
    ),
    "a name that is too long": (
        f"models:\n- name: {'é' * 2049}\n",
        "line 2: the name is 4098 bytes long in UTF-8; at most 4096 are allowed",
    ),
    # adapters
    "text as adapters": ("models:\n- name: a\n  adapters: b\n", "line 3: adapters must be a list"),
    "empty text as adapters": ("models:\n- name: a\n  adapters: ''\n", "line 3: adapters must be a list"),
    "a mapping as adapters": ("models:\n- name: a\n  adapters: {b: c}\n", "line 3: adapters must be a list"),
    "a null adapter": ("models:\n- name: a\n  adapters:\n  - b\n  -\n", "line 5: the adapter must be text"),
    "a mapping as adapter": ("models:\n- name: a\n  adapters:\n  - b: c\n", "line 4: the adapter must be text"),
    "an empty adapter": ("models:\n- name: a\n  adapters:\n  - ''\n", "line 4: the adapter is empty"),
    "an adapter with a control character": (
        'models:\n- name: a\n  adapters:\n  - b\n  - "c\\x7Fd"\n',
        "line 5: the adapter cannot be used as a model name: it holds a control character",
    ),
    # claims
    "an adapter of two base models": (
        "models:\n- name: a\n  adapters: [x]\n- name: b\n  adapters:\n  - y\n  - x\n",
        "line 7: x can't be an adapter of b: it is an adapter of a already",
    ),
    "a base model as adapter": (
        "models:\n- name: a\n  adapters: [b]\n- name: b\n",
        "line 3: b can't be an adapter of a: it is a base model itself",
    ),
    "an alias for the list of another base model": (
        "models:\n- name: a\n  adapters: &l [x]\n- {name: b, adapters: *l}\n",
        "line 3: x can't be an adapter of b: it is an adapter of a already",
    ),
    # aliases
    "a weight that is none": (
        "models: [{name: a}]\naliases: {x: {a: 1.5}}",
        "line 2: the weight of a in alias x must be a whole number from 0 to 1000000",
    ),
    "an alias of several that hides a base model": (
        "models: [{name: a}, {name: b}]\naliases:\n  a: {b: 1, a: 9}",
        "line 3: a can't be an alias of b: it is a base model itself",
    ),
    "a list as aliases": ("aliases: [a]\n", "line 1: aliases must be a mapping of names to models"),
    "a list as alias": ("aliases:\n  ? [a]\n  : b\n", "line 2: the alias must be text"),
    "an empty alias": ("aliases:\n  '': b\n", "line 2: the alias is empty"),
    "an alias of nothing": ("aliases:\n  a:\n", "line 2: the model of alias a must be text"),
    "an alias twice": ("aliases:\n  a: b\n  a: b\n", "line 3: a occurs twice in aliases"),
    "a base model as alias": (
        "models: [{name: a}, {name: b}]\naliases:\n  a: b\n",
        "line 3: a can't be an alias of b: it is a base model itself",
    ),
    "an adapter as alias": (
        "models: [{name: a, adapters: [x]}]\naliases:\n  x: a\n",
        "line 3: x can't be an alias of a: it is an adapter of a already",
    ),
    "a pattern with two stars": (
        "models:\n- name: a\n  adapters: ['*x*']\n",
        "line 3: the adapter *x* has more than one *, which stands for any characters",
    ),
    "an alias with two stars": (
        "models: [{name: a}]\naliases:\n  x**: a\n",
        "line 3: the alias x** has more than one *, which stands for any characters",
    ),
    "two patterns of equal length that some name fits": (
        "models: [{name: a, adapters: ['x*']}]\naliases:\n  '*y': a\n",
        (
            "line 3: *y can't be an alias of a: the pattern x* (file models.yaml, line 1) is as long, and some names "
            "match both"
        ),
    ),
    "one pattern for two": (
        "models: [{name: a, adapters: ['x*']}, {name: b}]\naliases:\n  x*: b\n",
        "line 3: x* can't be an alias of b: it is an adapter of a already",
    ),
    "too many patterns": (
        "models:\n- name: a\n  adapters:\n" + "".join(f"  - '{number:05}*'\n" for number in range(257)),
        "line 260: 00256* can't be an adapter of a: the table has 256 patterns already",
    ),
    # YAML
    "an open bracket": (
        "models: [\n",
        "line 2: not YAML: while parsing a flow node, did not find expected node content",
    ),
    "an undefined alias": ("models: *x\n", "line 1: not YAML: found undefined alias"),
    "two documents": (
        "models: []\n---\nmodels: []\n",
        "line 2: a second document begins; only one is allowed",
    ),
    "a NUL": ("models:\n- name: é\x00\n", "line 2: not YAML: control characters are not allowed"),
    "100,000 open brackets": ("\n" + "[" * 100_000, "line 2: lists and mappings are nested more than 16 deep"),
    "100,000 nested lists": ("- " * 100_000, "line 1: lists and mappings are nested more than 16 deep"),
    "17 nested mappings": (
        "".join(f"{' ' * depth}a:\n" for depth in range(17)),
        "line 17: lists and mappings are nested more than 16 deep",
    ),
}


# What a schema can't see: two keys of one name, claims that contradict each other, lengths in octets.
BEYOND_A_SCHEMA = {
    "models twice",
    "name twice",
    "adapters twice",
    "an alias twice",
    "a name that is too long",
    "a merge key",
    "a nested key",
    "a list as alias",
    "an adapter of two base models",
    "a base model as adapter",
    "an alias for the list of another base model",
    "a base model as alias",
    "an alias of several that hides a base model",
    "an adapter as alias",
    "an entry that is its own list",
    "two patterns of equal length that some name fits",
    "one pattern for two",
    "too many patterns",
}


def loaded(text):
    try:
        return yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None


SHALLOW = {case: text for case, (text, _) in REFUSED.items() if case not in BEYOND_A_SCHEMA and "100,000" not in case}


@pytest.mark.parametrize("text", SHALLOW.values(), ids=SHALLOW)
def test_the_schema_refuses_what_the_parser_refuses(text):
    assert not SCHEMA.is_valid(loaded(text))


@pytest.mark.parametrize(("text", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused_with_its_line(text, sentence):
    assert refusal(text) == sentence


def test_nesting_is_refused_only_beyond_the_limit():
    text = "".join(f"{' ' * depth}a:\n" for depth in range(16))
    assert refusal(text) == "line 1: the file has the unknown key a; known: aliases, allow, models, scopes"


def test_the_schema_is_a_schema():
    SCHEMA.check_schema(SCHEMA.schema)


def test_a_longer_name_than_a_request_may_have_is_refused():
    text = "models: [{name: qwen, adapters: [chat-lora]}]"
    with pytest.raises(SourceError, match=r"^line 1: the adapter is 9 bytes long in UTF-8; at most 8 are allowed$"):
        finish(file.parse(text, AT, 8))
    assert finish(file.parse(text, AT, 9))


MANY = {
    "adapters": "models:\n- name: a\n  adapters: [" + ", ".join(f"x{i}" for i in range(5000)) + "]\n",
    "models": "models:\n" + "".join(f"- name: m{i}\n" for i in range(5000)),
    "aliases": "models: [{name: a}]\naliases:\n" + "".join(f"  x{i}: a\n" for i in range(5000)),
}


@pytest.mark.parametrize("text", MANY.values(), ids=MANY)
def test_parsing_pauses_at_least_every_few_hundred_names(text):
    assert sum(1 for _ in file.parse(text, AT)) >= 5000 / 200 + 5000 / 100


# The source.


def source(path, **options):
    followed = Table([file.FILE])
    return FileSource(path, followed, **options), followed


def loading(path, **options):
    reader, followed = source(path, **options)
    reader.load()
    followed.apply_now()
    return followed


def test_load_reads_the_file(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text(TWO, encoding="utf-8")
    followed = loading(path)
    assert followed.synced
    assert followed.registry.base_models == ("Qwen/Qwen2.5-3B-Instruct", "llama")
    assert followed.registry.find("sql-lora").origin == Origin("file", str(path), line=2)


UNREADABLE = {
    "not there": (None, "No such file or directory"),
    "not UTF-8": (b"models: [{name: caf\xe9}]", "not UTF-8 at byte 19"),
    "UTF-16": ("models: []".encode("utf-16"), "not UTF-8 at byte 0"),
    "empty": (b"", "the file is empty: it needs a list called models"),
    "no YAML": (b"models: [\n", "line 2: not YAML: while parsing a flow node, did not find expected node content"),
    "a broken rule": (b"models:\n- name: ''\n", "line 2: the name is empty"),
}


@pytest.mark.parametrize(("octets", "sentence"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_can_not_be_used_is_broken(tmp_path, octets, sentence):
    path = tmp_path / "models.yaml"
    if octets is not None:
        path.write_bytes(octets)
    assert loading(path).broken == {("file", str(path)): sentence}


def test_a_file_that_may_not_be_read_is_broken(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, os.strerror(13))

    (tmp_path / "models.yaml").touch()
    monkeypatch.setattr(os, "open", refuse)  # file modes don't stop a test that runs as root
    assert set(loading(tmp_path / "models.yaml").broken.values()) == {"Permission denied"}


def test_a_file_of_any_size_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(file, "MAX_FILE_BYTES", 2 << 20)
    path = tmp_path / "models.yaml"
    path.write_bytes(b"#" * (2 << 20) + b"\n")
    assert set(loading(path).broken.values()) == {"is larger than 2 MiB"}


def test_a_directory_of_any_size_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(file, "MAX_DIRECTORY_BYTES", 2 << 20)
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_bytes(b"#" * (1 << 20))
    (tmp_path / "c.yaml").write_bytes(b"")
    assert len(loading(tmp_path).broken) == 3
    (tmp_path / "c.yaml").write_bytes(b"#")
    why = r"^the directory's files have 2,097,153 bytes together; at most 2,097,152 are read$"
    with pytest.raises(SourceError, match=why):
        loading(tmp_path)


def test_a_file_of_a_directory_that_is_none_is_named(tmp_path):
    one_model(tmp_path / "a.yaml", "qwen")
    os.mkfifo(tmp_path / "b.yaml")
    (tmp_path / "c.yaml").symlink_to("/dev/zero")
    (tmp_path / "d.yaml").symlink_to("nowhere")
    followed = loading(tmp_path)
    assert bases(followed) == ["qwen"]
    assert followed.broken == {
        ("file", str(tmp_path / "b.yaml")): "is a FIFO (a named pipe), not a regular file",
        ("file", str(tmp_path / "c.yaml")): "is a character device, not a regular file",
        ("file", str(tmp_path / "d.yaml")): "is a link to a file that does not exist",
    }


def test_a_directory_is_all_its_tables(tmp_path):
    for name in ("a.yaml", "b.yml", "c.json"):
        (tmp_path / name).write_text(f'{{"models": [{{"name": "{name}"}}]}}', encoding="utf-8")
    for name in (".hidden.yaml", "README.md", "d.yaml~"):
        (tmp_path / name).write_text("no table", encoding="utf-8")
    (tmp_path / "e.yaml").mkdir()
    assert loading(tmp_path).registry.base_models == ("a.yaml", "b.yml", "c.json")


def test_an_empty_directory_is_a_table_of_nothing(tmp_path):
    followed = loading(tmp_path)
    assert followed.synced
    assert followed.registry.size == 0
    assert not followed.registry.identity


def test_a_directory_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(file, "MAX_FILES", 1)
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("models: []", encoding="utf-8")
    with pytest.raises(SourceError, match=r"^the directory has 2 files; at most 1 are read$"):
        loading(tmp_path)


def test_files_that_contradict_each_other_are_a_conflict_and_the_first_name_wins(tmp_path):
    for name, model in (("b.yaml", "qwen"), ("a.yaml", "phi")):
        (tmp_path / name).write_text(f"models: [{{name: {model}, adapters: [x]}}]", encoding="utf-8")
    followed = loading(tmp_path)
    assert base_model_of(followed.registry, "x") == "phi"
    assert [conflict.name for conflict in followed.conflicts] == ["x"]


@asynccontextmanager
async def following(path, **options):
    reader, followed = source(path, poll_seconds=0.01, **options)
    reader.load()
    followed.apply_now()
    tasks = [asyncio.create_task(reader.run()), asyncio.create_task(followed.run())]
    yield reader, followed
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def one_model(path, name):
    path.write_text(f"models: [{{name: {name}}}]", encoding="utf-8")


def bases(followed):
    return sorted(followed.registry.base_models)


@in_loop
async def test_a_write_in_place_is_seen(tmp_path):
    path = tmp_path / "models.yaml"
    one_model(path, "qwen")
    async with following(path) as (_, followed):
        one_model(path, "phi-3")
        await until(lambda: bases(followed) == ["phi-3"])


@in_loop
async def test_a_rename_over_the_file_is_seen(tmp_path):
    path, fresh = tmp_path / "models.yaml", tmp_path / "fresh"
    one_model(path, "qwen")
    async with following(path) as (_, followed):
        one_model(fresh, "phi3")
        fresh.rename(path)
        await until(lambda: bases(followed) == ["phi3"])


def publish_volume(volume, version, **texts):
    """Do what a kubelet does when a mounted ConfigMap changes."""
    data = volume / f"..2026_{version}"
    data.mkdir()
    for name, text in texts.items():
        (data / f"{name}.yaml").write_text(text, encoding="utf-8")
    link = volume / "..data_tmp"
    link.symlink_to(data.name)
    link.rename(volume / "..data")
    for name in texts:
        if not (volume / f"{name}.yaml").is_symlink():
            (volume / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    for link in volume.glob("*.yaml"):
        if link.stem not in texts:
            link.unlink()


@pytest.mark.parametrize("whole", [False, True], ids=["a file of it", "the directory"])
@in_loop
async def test_a_mounted_config_map_that_changes_is_seen(tmp_path, whole):
    publish_volume(tmp_path, 1, models="models: [{name: qwen}]")
    async with following(tmp_path if whole else tmp_path / "models.yaml") as (_, followed):
        publish_volume(tmp_path, 2, models="models: [{name: phi3}]")
        await until(lambda: bases(followed) == ["phi3"])
        publish_volume(tmp_path, 3, models="models: [{name: gemma}]", more="models: [{name: llama}]")
        await until(lambda: bases(followed) == (["gemma", "llama"] if whole else ["gemma"]))
        publish_volume(tmp_path, 4, models="models: [{name: gemma-2}]")
        await until(lambda: bases(followed) == ["gemma-2"])


@in_loop
async def test_a_broken_file_keeps_its_last_good_table_until_it_is_mended(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    one_model(tmp_path / "a.yaml", "qwen")
    one_model(tmp_path / "b.yaml", "phi")
    async with following(tmp_path) as (_, followed):
        (tmp_path / "a.yaml").write_text("models:\n- nam: qwen\n", encoding="utf-8")
        one_model(tmp_path / "b.yaml", "gemma")
        await until(lambda: followed.broken)
        await until(lambda: bases(followed) == ["gemma", "qwen"])
        key = ("file", str(tmp_path / "a.yaml"))
        assert followed.broken == {
            key: "line 2: an entry of models has the unknown key nam; known: adapters, allow, name"
        }
        one_model(tmp_path / "a.yaml", "llama")
        await until(lambda: bases(followed) == ["gemma", "llama"])
        assert followed.broken == {}


@in_loop
async def test_a_file_that_goes_keeps_its_last_good_table(tmp_path):
    path = tmp_path / "models.yaml"
    one_model(path, "qwen")
    async with following(path) as (_, followed):
        path.unlink()
        await until(lambda: followed.broken)
        assert bases(followed) == ["qwen"]
        one_model(path, "qwen")
        await until(lambda: not followed.broken)
        assert bases(followed) == ["qwen"]


@in_loop
async def test_a_fifo_in_the_files_place_keeps_its_last_good_table(tmp_path):
    path = tmp_path / "models.yaml"
    one_model(path, "qwen")
    async with following(path) as (_, followed):
        path.unlink()
        os.mkfifo(path)
        fifo = "is a FIFO (a named pipe), not a regular file"
        await until(lambda: followed.broken == {("file", str(path)): fifo})
        assert bases(followed) == ["qwen"]
        path.unlink()
        one_model(path, "phi")
        await until(lambda: bases(followed) == ["phi"])


@in_loop
async def test_a_directory_that_goes_keeps_its_last_good_table(tmp_path):
    directory = tmp_path / "models"
    directory.mkdir()
    one_model(directory / "a.yaml", "qwen")
    async with following(directory) as (_, followed):
        directory.rename(tmp_path / "away")
        await until(lambda: followed.broken)
        assert followed.broken == {("file", str(directory)): "No such file or directory"}
        assert bases(followed) == ["qwen"]
        (tmp_path / "away").rename(directory)
        await until(lambda: not followed.broken)
        assert bases(followed) == ["qwen"]


@in_loop
async def test_reload_reads_files_that_do_not_seem_to_have_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(file, "metadata", lambda _path: (1,))
    path = tmp_path / "models.yaml"
    one_model(path, "qwen")
    async with following(path) as (reader, followed):
        one_model(path, "phi")
        reader.reload()
        await until(lambda: bases(followed) == ["phi"])


@in_loop
async def test_a_file_that_was_only_touched_is_not_parsed_again(tmp_path):
    path = tmp_path / "models.yaml"
    one_model(path, "qwen")
    async with following(path) as (reader, followed):
        seen = reader._seen
        os.utime(path, (1, 1))
        await until(lambda: reader._seen != seen)
        await until(lambda: followed.lag_seconds == 0)
        assert followed.reloads_total == 1
