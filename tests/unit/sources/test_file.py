import json
import os
from pathlib import Path

import pytest
import yaml

from bbr.sources import file
from bbr.sources.table import SourceError

TWO = """\
models:
  - name: Qwen/Qwen2.5-3B-Instruct
    adapters: [sql-lora, summarize-lora]
  - name: llama
"""


def table(text):
    return {name: entry.base_model for name, entry in file.parse(text).items()}


def refusal(text):
    with pytest.raises(SourceError) as caught:
        file.parse(text)
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
    "a comment at the end": ("models: []  # none yet\n", {}),
}


@pytest.mark.parametrize(("text", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(text, expected):
    assert table(text) == expected


@pytest.mark.parametrize("text", [case[0] for case in ACCEPTED.values()], ids=ACCEPTED)
def test_never_identity(text):
    assert not file.parse(text).identity


REFUSED = {
    # the root
    "nothing": ("", "the file is empty: it needs a list called models"),
    "only a comment": ("# models:\n", "the file is empty: it needs a list called models"),
    "a list as root": ("\n- name: a\n", "line 2: the file must be a mapping with models"),
    "text as root": ("models", "line 1: the file must be a mapping with models"),
    "null as root": ("~", "line 1: the file must be a mapping with models"),
    "an empty mapping as root": ("{}", "line 1: the file needs a list called models"),
    "an unknown field of the root": ("models: []\nmodel: a\n", "line 2: the file can't hold model; known: models"),
    "models twice": ("models: []\nmodels: []\n", "line 2: models stands twice in the file"),
    "a nested key": ("? [models]\n: []\n", "line 1: the file can't hold a nested key; known: models"),
    # models
    "null models": ("models:\n", "line 1: models must be a list"),
    "a mapping as models": ("models:\n  name: a\n", "line 2: models must be a list"),
    "text as models": ("models: a\n", "line 1: models must be a list"),
    # an entry
    "text as entry": ("models:\n- a\n", "line 2: an entry of models must be a mapping with adapters and name"),
    "a list as entry": ("models:\n- [a]\n", "line 2: an entry of models must be a mapping with adapters and name"),
    "an entry that is its own list": (
        "models: &l\n- *l\n",
        "line 1: an entry of models must be a mapping with adapters and name",
    ),
    "an unknown field of an entry": (
        "models:\n- name: a\n  adapter: [b]\n",
        "line 3: an entry of models can't hold adapter; known: adapters, name",
    ),
    "a merge key": (
        "models:\n- &e {name: a}\n- <<: *e\n",
        "line 3: an entry of models can't hold <<; known: adapters, name",
    ),
    "name twice": ("models:\n- name: a\n  name: b\n", "line 3: name stands twice in an entry of models"),
    "adapters twice": (
        "models:\n- name: a\n  adapters: [b]\n  adapters: [c]\n",
        "line 4: adapters stands twice in an entry of models",
    ),
    "no name": ("models:\n- name: a\n- adapters: [b]\n", "line 3: an entry of models needs a name"),
    # names
    "null name": ("models:\n- name:\n", "line 2: the name must be text"),
    "a list as name": ("models:\n- name: [a]\n", "line 2: the name must be text"),
    "an empty name": ("models:\n- name: ''\n", "line 2: the name is empty"),
    "a blank name": ("models:\n- name: ' '\n", "line 2: the name is empty"),
    "a name with a control character": (
        'models:\n- name: "a\\nb"\n',
        "line 2: the name can not be used as a model name: it holds a control character",
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
        "line 5: the adapter can not be used as a model name: it holds a control character",
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
    # YAML
    "an open bracket": (
        "models: [\n",
        "line 2: not YAML: while parsing a flow node, did not find expected node content",
    ),
    "an undefined alias": ("models: *x\n", "line 1: not YAML: found undefined alias"),
    "two documents": (
        "models: []\n---\nmodels: []\n",
        "line 2: not YAML: expected a single document in the stream, but found another document",
    ),
    "a NUL": ("models:\n- name: é\x00\n", "line 2: not YAML: control characters are not allowed"),
    "100,000 open brackets": ("\n" + "[" * 100_000, "line 2: lists and mappings are nested more than 16 deep"),
    "100,000 nested lists": ("- " * 100_000, "line 1: lists and mappings are nested more than 16 deep"),
    "17 nested mappings": (
        "".join(f"{' ' * depth}a:\n" for depth in range(17)),
        "line 17: lists and mappings are nested more than 16 deep",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused_with_its_line(text, sentence):
    assert refusal(text) == sentence


def test_nesting_is_refused_only_beyond_the_limit():
    text = "".join(f"{' ' * depth}a:\n" for depth in range(16))
    assert refusal(text) == "line 1: the file can't hold a; known: models"


def test_pure_python_yaml_is_as_good(monkeypatch):
    monkeypatch.setattr(file, "_Loader", yaml.SafeLoader)
    assert table(TWO) == ACCEPTED["base models and adapters"][1]
    assert refusal("a: b: c").startswith("line 1: not YAML: ")
    assert refusal("models: []\n\x00").startswith("line 2: not YAML: ")


def test_load_reads_the_file(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text(TWO, encoding="utf-8")
    assert file.load(path) == file.parse(TWO)


UNREADABLE = {
    "not there": (None, "No such file or directory"),
    "not UTF-8": (b"models: [{name: caf\xe9}]", "not UTF-8 at byte 19"),
    "UTF-16": ("models: []".encode("utf-16"), "not UTF-8 at byte 0"),
    "empty": (b"", "the file is empty: it needs a list called models"),
    "no YAML": (b"models: [\n", "line 2: not YAML: while parsing a flow node, did not find expected node content"),
    "a broken rule": (b"models:\n- name: ''\n", "line 2: the name is empty"),
}


@pytest.mark.parametrize(("octets", "sentence"), UNREADABLE.values(), ids=UNREADABLE)
def test_load_names_the_file(tmp_path, octets, sentence):
    path = tmp_path / "models.yaml"
    if octets is not None:
        path.write_bytes(octets)
    with pytest.raises(SourceError) as caught:
        file.load(path)
    assert str(caught.value) == f"{path}: {sentence}"


def test_load_names_a_directory(tmp_path):
    with pytest.raises(SourceError) as caught:
        file.load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: Is a directory"


def test_load_names_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "read_text", refuse)  # file modes don't stop a test that runs as root
    with pytest.raises(SourceError) as caught:
        file.load(tmp_path / "models.yaml")
    assert str(caught.value) == f"{tmp_path / 'models.yaml'}: Permission denied"
