from bbr.config.settings import Settings
from bbr.models.entries import Origin
from bbr.sources import description
from bbr.sources.sources import Sources


def table(tmp_path, **texts):
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    sources = Sources(Settings(models=tmp_path))
    sources.read_all()
    return sources.table


def test_a_table_without_faults(tmp_path):
    of = table(tmp_path, a="models: [{name: qwen, adapters: [sql]}]")
    assert description.wrong(of) == []
    assert description.described(of) == {
        "identity": False,
        "scopes": [],
        "conflicts": [],
        "literal": [],
        "broken": [],
    }
    assert description.model(of.registry, "sql", of.registry.find("sql")) == {
        "name": "sql",
        "scope": None,
        "kind": "adapter",
        "base_model": "qwen",
        "alias_of": None,
        "shares": [],
        "pattern": False,
        "declared_by": {"kind": "file", "namespace": "", "name": str(tmp_path / "a.yaml"), "line": 1},
        "allow": None,
    }


def test_what_is_ignored_and_what_is_broken(tmp_path):
    of = table(tmp_path, a="models: [{name: qwen, adapters: [sql]}]", b="models: [{name: phi, adapters: [sql]}]")
    of.broken["kubernetes", "default/x"] = "data.baseModel is blank"
    (conflict,) = description.described(of)["conflicts"]
    assert (conflict["name"], conflict["kept"]["base_model"], conflict["ignored"]["base_model"]) == (
        "sql",
        "qwen",
        "phi",
    )
    (broken,) = description.described(of)["broken"]
    assert broken == {"source": "kubernetes", "object": "default/x", "why": "data.baseModel is blank"}
    lines = description.wrong(of)
    assert lines == ["", "Ignored:", f"  {conflict['why']}", "", "Can't be used:", lines[-1]]
    assert lines[-1] == "  kubernetes default/x: data.baseModel is blank"


def test_an_origin_without_a_line():
    origin = Origin("ConfigMap", "a", "default")
    assert description.origin(origin) == {"kind": "ConfigMap", "namespace": "default", "name": "a", "line": None}


def test_what_looks_like_a_pattern_and_is_none(tmp_path):
    of = table(tmp_path, a="models: [{name: qwen, adapters: ['team-*']}]")
    assert description.odd(of) == []
    assert description.model(of.registry, "team-*", of.registry.find("team-*"))["pattern"] is True
    of = table(tmp_path, a="models: [{name: 'qwen*'}]")
    first, second, third = description.odd(of)
    assert (first, second) == ("", "Taken literally:")
    assert third.startswith("  the base model qwen* (file ")
    assert description.described(of)["literal"] == [third.strip()]
