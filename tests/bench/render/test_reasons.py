import pytest

from bench.render.reasons import reasons
from bench.render.results import Results
from tests.support import made_up_results


def test_each_reason_has_the_figures_that_were_recorded(tmp_path):
    made_up_results.write(tmp_path)
    right, cheap, small = reasons(Results(tmp_path))
    assert right.startswith(
        "- **It never guesses.** Of 155,554 requests of all kinds (JSON, forms, gzip, adapters, unknown models) "
        "through a real Envoy, 0 went to a wrong pool. "
    )
    assert cheap == (
        "- **It costs little.** A 1 KB chat takes 12 µs of processor time (the Go router: 60 µs). "
        "Behind Envoy, bbr adds 0.114 ms to a request's median latency (the Go router: 0.559 ms); most of it is "
        "Envoy's call."
    )
    assert small.startswith(
        "- **It stays small.** While a client slowly uploads 20 MB that begin with `model`, bbr, uncompiled, holds "
        "0.222 MiB (the Go router: 1.11 MiB). "
    )


BUILDS = [("0.1.0, compiled", "bbr is Python, compiled to C. "), ("0.1.0, interpreted", "")]


@pytest.mark.parametrize(("build", "said"), BUILDS)
def test_what_it_costs_names_the_compiled_build(tmp_path, build, said):
    made_up_results.write(tmp_path)
    path = tmp_path / "direct.json"
    path.write_text(path.read_text("utf-8").replace('"bbr": "0.0.0"', f'"bbr": "{build}"'), "utf-8")
    assert f"- **It costs little.** {said}A 1 KB chat takes 12 µs" in reasons(Results(tmp_path))[1]


def test_memory_of_the_compiled_build_needs_no_remark(tmp_path):
    made_up_results.write(tmp_path)
    path = tmp_path / "memory.json"
    path.write_text(path.read_text("utf-8").replace('"bbr": "0.0.0"', '"bbr": "0.1.0, compiled"'), "utf-8")
    assert "`model`, bbr holds 0.222 MiB" in reasons(Results(tmp_path))[2]


@pytest.mark.parametrize(("missing", "at"), [("accuracy", 0), ("direct", 1), ("gateway", 1), ("memory", 2)])
def test_a_reason_without_figures_says_so(tmp_path, missing, at):
    made_up_results.write(tmp_path)
    (tmp_path / f"{missing}.json").unlink()
    lines = reasons(Results(tmp_path))
    assert [line.endswith("not measured yet, run `make bench`.") for line in lines] == [each == at for each in range(3)]


@pytest.mark.parametrize(("name", "at"), [("accuracy", 0), ("direct", 1), ("memory", 2)])
def test_a_reason_whose_case_was_left_out_says_so(tmp_path, name, at):
    made_up_results.write(tmp_path)
    path = tmp_path / f"{name}.json"
    path.write_text(path.read_text().replace('"variant": "uv"', '"variant": "other"'))
    assert "not measured yet" in reasons(Results(tmp_path))[at]


def test_without_the_go_router_there_is_no_comparison(tmp_path):
    made_up_results.write(tmp_path)
    for path in tmp_path.iterdir():
        path.write_text(path.read_text().replace("Go v1.5.0", "other"))
    assert not any("Go router" in line for line in reasons(Results(tmp_path)))
