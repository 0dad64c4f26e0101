import json
import os

import pytest

import bbr.sources.file
from bbr import cli
from bbr.commands import models as commands
from bbr.config.settings import Settings
from bbr.sources.objects import SourceError
from bbr.text import is_visible
from bench.harness.background import Background
from bench.harness.fake_kubernetes import FakeKubernetes
from tests.support.commands import failure, of, write


def test_models(models):
    text, status = commands.models(of(models))
    assert status == 0
    assert text == (
        "NAME      KIND          BASE MODEL  DECLARED BY\n"
        f"org/qwen  base model    org/qwen    file {models}, line 2\n"
        f"sql       adapter       org/qwen    file {models}, line 2\n"
        f"gpt       alias of sql  org/qwen    file {models}, line 5\n"
        "\n"
        f"1 base model, 1 adapter and 1 alias from {models}.\n"
    )


def test_models_without_a_table():
    assert commands.models(of(None)) == ("no model table: every model is its own base model.\n", 0)


def test_models_tells_what_is_ignored_and_what_is_broken(models):
    write(models.parent / "b.yaml", "models: [{name: phi, adapters: [sql]}]")
    broken = write(models.parent / "c.yaml", "models: x")
    text, status = commands.models(of(models.parent))
    assert status == 1
    assert text.partition("\n\n")[2] == (
        f"2 base models, 1 adapter and 1 alias from {models.parent}.\n"
        "\n"
        "Ignored:\n"
        f"  sql can't be an adapter of phi (file {models.parent}/b.yaml, line 1): "
        f"it is an adapter of org/qwen (file {models}, line 2)\n"
        "\n"
        "Can't be used:\n"
        f"  file {broken}: line 1: models must be a list\n"
    )


ODD = "od\u200bd\n\u202e.yaml"
SPELLED_OUT = "od\\u200bd\\n\\u202e.yaml"


def test_what_nobody_could_see_in_a_name_is_spelled_out(models):
    """A line's end in a file's name begins no line of the table."""
    write(models.parent / ODD, "models: [{name: phi, adapters: [sql]}]")
    odd, _ = models.parent / SPELLED_OUT, write(models.parent / f"x{ODD}", "models: x")
    text, _ = commands.models(of(models.parent))
    assert f"  file {models.parent}/x{SPELLED_OUT}: line 1: models must be a list\n" in text
    (row,) = [line.split(maxsplit=4) for line in text.split("\n") if line.startswith("phi ")]
    assert row == ["phi", "base", "model", "phi", f"file {odd}, line 1"]
    assert all(map(is_visible, text.split("\n")))


def test_models_as_json(models):
    write(models.parent / "b.yaml", "models: [{name: phi, adapters: [sql]}]\naliases: {x: nobody}")
    broken = write(models.parent / "c.yaml", "models: x")
    text, status = commands.models(of(models.parent), as_json=True)
    found = json.loads(text)
    assert (status, found["identity"]) == (1, False)
    assert found["models"][2] == {
        "name": "gpt",
        "kind": "alias",
        "base_model": "org/qwen",
        "alias_of": "sql",
        "shares": [],
        "pattern": False,
        "declared_by": {"kind": "file", "namespace": "", "name": str(models), "line": 5},
        "allow": None,
        "scope": None,
    }
    assert [each["name"] for each in found["models"]] == ["org/qwen", "sql", "gpt", "phi"]
    sql, x = found["conflicts"]
    assert (sql["name"], sql["kept"]["base_model"], sql["ignored"]["base_model"]) == ("sql", "org/qwen", "phi")
    assert sql["why"].startswith("sql can't be an adapter of phi")
    assert (x["name"], x["kept"], x["ignored"]["alias_of"]) == ("x", None, "nobody")
    assert found["broken"] == [{"source": "file", "object": str(broken), "why": "line 1: models must be a list"}]


def test_models_as_json_of_a_file_whose_name_is_no_text(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.yaml")).write_text("models: [{name: qwen}]")
    (tmp_path / os.fsdecode(b"\xfe.yaml")).write_text("models: [{name: }]")
    found = json.loads(commands.models(of(tmp_path), as_json=True)[0])
    assert found["models"][0]["declared_by"]["name"] == str(tmp_path / "\\udcff.yaml")
    assert found["broken"][0]["object"] == str(tmp_path / "\\udcfe.yaml")


def test_models_as_json_without_a_table():
    found = json.loads(commands.models(of(None), as_json=True)[0])
    assert found == {"identity": True, "models": [], "conflicts": [], "literal": [], "broken": [], "scopes": []}


def test_models_of_a_directory_that_can_not_be_read(models, monkeypatch):
    monkeypatch.setattr(bbr.sources.file, "MAX_FILES", 0)
    with pytest.raises(SourceError):
        commands.models(of(models.parent))


def test_models_of_a_cluster(models, tmp_path):
    with Background() as background:
        fake = FakeKubernetes()
        fake.put("a", data={"baseModel": "gemma", "adapters": "- gemma-lora"})
        fake.put("b", data={"baseModel": ""})
        background.run(fake.start())
        settings = Settings(kubernetes=True, kubeconfig=fake.kubeconfig(tmp_path))
        text, status = commands.models(settings)
        background.run(fake.stop())
    assert status == 1
    assert "gemma-lora  adapter     gemma       ConfigMap default/a\n" in text
    assert "1 base model and 1 adapter from the ConfigMaps of all namespaces.\n" in text
    assert "kubernetes default/b: data.baseModel is blank\n" in text


def test_models_of_a_cluster_that_is_not_known(tmp_path):
    with pytest.raises(SourceError, match="--kubernetes: "):
        commands.models(Settings(kubernetes=True, kubeconfig=tmp_path / "none"))


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: qwen, adapters: [sql]}]", encoding="utf-8")
    return path


def test_models_prints_the_table(capsys, table):
    assert cli.main(["models", f"--models={table}"]) == 0
    out, err = capsys.readouterr()
    assert "1 base model and 1 adapter from" in out
    assert err == ""


def test_models_prints_json(capsys, table, monkeypatch):
    monkeypatch.setenv("BBR_MODELS", str(table))
    assert cli.main(["models", "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["models"]] == ["qwen", "sql"]


def test_models_of_a_directory_that_can_not_be_read_is_one_sentence(capsys, table, monkeypatch):
    monkeypatch.setattr(bbr.sources.file, "MAX_FILES", 0)
    assert failure(capsys, "models", f"--models={table.parent}") == (
        1,
        f"bbr models: --models: {table.parent}: the directory has 1 files; at most 0 are read.\n",
    )


def test_an_alias_of_several_models_tells_their_weights(tmp_path):
    path = write(tmp_path / "a.yaml", "models: [{name: a, adapters: [b]}]\naliases: {c: {b: 9, a: 1}}\n")
    assert "c     alias of b (9), a (1)  a " in commands.models(of(path))[0]
    entry = json.loads(commands.models(of(path), as_json=True)[0])["models"][2]
    shares = [{"model": "b", "base_model": "a", "weight": 9}, {"model": "a", "base_model": "a", "weight": 1}]
    assert (entry["name"], entry["shares"]) == ("c", shares)


def test_models_tells_who_may_use_what(tmp_path):
    text = "models: [{name: qwen, adapters: [sql, chat], allow: [b, a]}, {name: phi}]\n"
    text += "aliases: {gpt: sql, both: phi}\nallow: {sql: [], both: ['*'], gpt: [a]}"
    path = write(tmp_path / "models.yaml", text)
    rows = commands.models(of(path))[0].splitlines()[1:7]
    assert [(row.split()[0], row.partition("line ")[2][1:].strip()) for row in rows] == [
        ("qwen", "a, b"),
        ("chat", "a, b"),
        ("sql", "nobody"),
        ("gpt", "nobody"),
        ("phi", ""),
        ("both", "*"),
    ]
    found = json.loads(commands.models(of(path), as_json=True)[0])
    assert [each["allow"] for each in found["models"]] == [["a", "b"], ["a", "b"], [], [], None, ["*"]]


def test_models_tells_of_lists_for_names_that_nothing_declares(tmp_path):
    path = write(tmp_path / "models.yaml", "models: [{name: qwen}]\nallow: {qwne: [a]}")
    assert commands.models(of(path))[0].endswith("\n\nNames in allow that no model, adapter or alias has:\n  qwne\n")


SCOPES = """\
models: [{name: qwen, adapters: [sql]}]
scopes:
  a: {hosts: [a.example, "*.a.example"], models: [{name: phi, adapters: [sql]}], allow: {sql: [team-a]}}
  b: {}
"""


def test_models_of_scopes(tmp_path):
    path = write(tmp_path / "models.yaml", SCOPES)
    text, status = commands.models(of(path))
    assert status == 0
    assert text == (
        "NAME  KIND        BASE MODEL  DECLARED BY                ALLOWED\n"
        f"qwen  base model  qwen        file {path}, line 1\n"
        f"sql   adapter     qwen        file {path}, line 1\n"
        "\n"
        "Scope a (*.a.example, a.example), whose names hide equal names above:\n"
        "\n"
        "NAME  KIND        BASE MODEL  DECLARED BY                ALLOWED\n"
        f"phi   base model  phi         file {path}, line 3\n"
        f"sql   adapter     phi         file {path}, line 3  team-a\n"
        "\n"
        "Scope b (no host), whose names hide equal names above:\n"
        "\n"
        f"2 base models, 2 adapters and 2 scopes from {path}.\n"
    ).replace("DECLARED BY                ALLOWED", f"{'DECLARED BY'.ljust(len(f'file {path}, line 3'))}  ALLOWED")
    found = json.loads(commands.models(of(path), as_json=True)[0])
    assert found["scopes"] == [{"name": "a", "hosts": ["*.a.example", "a.example"]}, {"name": "b", "hosts": []}]
    names = [(each["scope"], each["name"], each["base_model"], each["allow"]) for each in found["models"]]
    assert names == [
        *((None, "qwen", "qwen", None), (None, "sql", "qwen", None)),
        *(("a", "phi", "phi", None), ("a", "sql", "phi", ["team-a"])),
    ]


def test_check_tells_in_which_scope_a_claim_loses(tmp_path):
    write(tmp_path / "a.yaml", "scopes: {a: {models: [{name: qwen, adapters: [sql]}]}}")
    write(tmp_path / "b.yaml", "scopes: {a: {models: [{name: phi, adapters: [sql]}]}}")
    text, _ = commands.models(of(tmp_path))
    assert "\nIgnored:\n  scope a: sql can't be an adapter of phi (file " in text
    (conflict,) = json.loads(commands.models(of(tmp_path), as_json=True)[0])["conflicts"]
    assert conflict["scope"] == "a"
