import uvloop

from bench.parts import table


def test_a_small_table_is_measured(monkeypatch):
    monkeypatch.setattr(table, "OBJECTS", 30)
    monkeypatch.setattr(table, "ADAPTERS", 5)
    monkeypatch.setattr(table, "LOOKUPS", 100)
    found = uvloop.run(table.alone())
    assert found.keys() == table.FIGURES.keys()
    assert all(figure > 0 for name, figure in found.items() if name != "memory")
    assert found["change"] >= 50  # changes are collected for so long


def test_files_of_the_table_are_models(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "ADAPTERS", 2)
    table.write(tmp_path, 0)
    table.write(tmp_path, 1, "extra")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models-0000.yaml", "models-0001.yaml"]
    assert (tmp_path / "models-0000.yaml").read_text() == (
        "models:\n- name: org/base-model-0000\n  adapters:\n"
        "    - adapter-0000-000\n    - adapter-0000-001\n    - sql-lora\n"
    )


def test_percentiles():
    assert [table.percentile([float(each) for each in range(100)], percent) for percent in (50, 99, 100)] == [
        50,
        99,
        99,
    ]
