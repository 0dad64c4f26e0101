import re
import shutil

import pytest

from bench.harness import figures
from bench.harness.figures import Target, Variant
from tests.support import made_up_results
from tests.support.late import late

report = late("bench.render.report")


def test_a_file_is_printed_as_a_table(tmp_path, capsys):
    variants = [Variant("none"), Variant("uv", "none", target=Target(2))]
    rows = figures.compare("1,000 bytes", "us", variants, {"none": [10.0, 10.0], "uv": [15.0, 17.0]})
    path = tmp_path / "figures.json"
    figures.save(path, rows, {"rounds": 2, "json": path})
    capsys.readouterr()
    assert report.main([str(path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[2:] == [
        "| case | variant | median | spread | ratio | target |",
        "|---|---|---|---|---|---|",
        "| 1,000 bytes | none | 10 us | 10 - 10 | | |",
        "| 1,000 bytes | uv | 16 us | 15 - 17 | 1.60 to none | <= 2: met |",
    ]


def project(path):
    """Make a project with every block in its performance page, none in the others, and no results."""
    blocks = "".join(f"<!-- bench:{name} -->\nold\n<!-- /bench:{name} -->\n\nkept\n\n" for name in report.BLOCKS)
    (path / "docs").mkdir()
    (path / "bench/results").mkdir(parents=True)
    for page in report.PAGES:
        (path / page).write_text(blocks if "performance" in page else "no block\n")


@pytest.fixture
def root(tmp_path):
    project(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A project with all results, its pages and plots written; plots take seconds."""
    path = tmp_path_factory.mktemp("project")
    project(path)
    made_up_results.write(path / "bench/results")
    assert report.main(["--write"], path) == 0
    return path


@pytest.fixture
def copied(written, tmp_path, monkeypatch):
    """One that a test may change. Plots of the same figures are drawn once: that they come out alike is shown below."""
    drawn = {}

    def files(results):
        key = tuple((path.name, path.read_bytes()) for path in sorted((tmp_path / "project/bench/results").iterdir()))
        if key not in drawn:
            drawn[key] = draw(results)
        return drawn[key]

    draw = report.plots.files
    monkeypatch.setattr(report.plots, "files", files)
    return shutil.copytree(written, tmp_path / "project")


@pytest.fixture
def without_plots(monkeypatch):
    monkeypatch.setattr(report.plots, "files", lambda _results: {})


def block(root, name):
    """Return a block's lines."""
    text = (root / "docs/performance.md").read_text("utf-8")
    return text.partition(f"<!-- bench:{name} -->\n")[2].partition(f"\n<!-- /bench:{name} -->")[0].splitlines()


def test_what_was_not_measured_is_a_sentence(root):
    assert report.main(["--write"], root) == 0
    text = (root / "docs/performance.md").read_text()
    assert text.count("kept") == len(report.BLOCKS)
    assert "old" not in text
    for name in report.BLOCKS:
        lines = block(root, name)
        assert len(lines) == (3 if name == "reasons" else 1)
        for line in lines:
            assert "make bench" in line
            assert "|" not in line
    assert not list(root.glob("docs/plots/*"))
    assert (root / "README.md").read_text() == "no block\n"


@pytest.mark.parametrize("name", made_up_results.FILES)
def test_one_file_alone_renders(root, name):
    made_up_results.write(root / "bench/results", name)
    assert report.main(["--write"], root) == 0
    assert f"Reproduce: `python -m bench.published.{name}`" in (root / "docs/performance.md").read_text()
    assert "Not measured yet" in (root / "docs/performance.md").read_text()


def test_all_files_render_tables_with_their_conditions(written):
    root = written
    assert "Not measured yet" not in (root / "docs/performance.md").read_text()
    lines = block(root, "direct-size")
    assert lines[0] == "| body | router | us / exchange | exchanges / CPU second | exchanges / s | CPU, times uv's |"
    assert lines[4] == "| 0 bytes | Go v1.5.0 | 55 (49.5 to 60.5) | 18,182 | 2,020 (1,818 to 2,222) | 5x (5 to 5) |"
    assert lines[-2] == (
        "Reproduce: `python -m bench.published.direct`; `make bench` measures all tables. Figures are medians of 3 "
        "rounds, with the smallest and the largest in brackets; one without brackets is of all rounds together."
    )
    assert lines[-1] == (
        "Conditions: 2 x an abacus, a desk; python 3.11.0, bbr 0.0.0; commit 0123456789ab, 1970-01-01."
    )
    assert block(root, "direct-tls")[0] == "| body | TLS | uv, us / exchange |"
    assert block(root, "direct-mode")[0] == "This run has left these cases out."
    closed = block(root, "gateway-closed-streamed")
    assert closed[2].startswith("| 1 KB | 1 | none | | | | | | 56 (50.4 to 61.6) |")
    assert not any("Lua" in line for line in closed)
    assert [line.split(" | ")[2] for line in block(root, "gateway-in-process")[2:5]] == ["none", "uv", "Lua"]
    assert any(
        line.startswith("| 1 KB | 1,000 | grpcio (overloaded) |") for line in block(root, "gateway-open-streamed")
    )
    pattern = block(root, "pattern2")
    assert pattern[0] == "| run | variant | p50 ms | p99 ms | added share |"
    assert pattern[2].endswith("| 0.11 (0.099 to 0.121) % of 999 ms |")
    assert pattern[3] == "| concurrent | none | 1.11 (0.999 to 1.22) | 1.11 (0.999 to 1.22) | |"
    assert "| 8 bodies of 1 MB, slow client | KiB / MB | 1,111 (1000 to 1,222) |" in block(root, "memory")[3]
    assert "| chat, 2 KB | 100,000 | 4 | 3.71 | 1 |" in "\n".join(block(root, "scaling"))
    assert sum(line.startswith("Conditions:") for line in block(root, "headline")) == 1


def test_conditions_that_differ_are_told_apart_in_the_headline(root, without_plots):
    made_up_results.write(root / "bench/results")
    path = root / "bench/results/memory.json"
    path.write_text(path.read_text().replace("an abacus", "a slide rule"))
    report.main(["--write"], root)
    told = [line.partition(" 2 x ") for line in block(root, "headline") if "Conditions:" in line]
    assert [(titles.startswith("Memory: "), machine.partition(",")[0]) for titles, _, machine in told] == [
        (False, "an abacus"),
        (True, "a slide rule"),
    ]


def test_plots_are_there_and_shown(written):
    root = written
    plots = {path.name for path in (root / "docs/plots").iterdir()}
    assert plots == {
        f"{name}-{theme}.svg" for name in ("direct", "added", "load", "memory") for theme in ("light", "dark")
    }
    shown = re.findall(r"plots/([\w-]+\.svg)", (root / "docs/performance.md").read_text())
    assert set(shown) == plots
    for path in (root / "docs/plots").iterdir():
        text = path.read_text()
        assert re.search("> ?uv", text)
        assert "<dc:date>" not in text


def test_check_says_what_is_out_of_date(copied, capsys):
    assert report.main(["--check"], copied) == 0
    assert capsys.readouterr().out == ""
    svg, page = copied / "docs/plots/direct-dark.svg", copied / "docs/performance.md"
    svg.write_text(svg.read_text() + " ")
    page.write_text(page.read_text().replace("77,777", "66,666"))
    assert report.main(["--check"], copied) == 1
    told = capsys.readouterr().out
    assert "docs/performance.md: out of date: python -m bench.render.report --write" in told
    assert {line.partition(":")[0] for line in told.splitlines()} == {
        "docs/plots/direct-dark.svg",
        "docs/performance.md",
    }


def test_plots_without_figures_go(copied, capsys):
    (copied / "bench/results/memory.json").unlink()
    assert report.main(["--check"], copied) == 1
    assert "docs/plots/memory-dark.svg" in capsys.readouterr().out
    assert report.main(["--write"], copied) == 0
    assert not list(copied.glob("docs/plots/memory-*"))
    assert list(copied.glob("docs/plots/direct-*"))


def test_results_may_lie_elsewhere(root, tmp_path_factory, without_plots):
    elsewhere = tmp_path_factory.mktemp("results")
    made_up_results.write(elsewhere)
    assert report.main(["--write", "--results", str(elsewhere)], root) == 0
    assert block(root, "accuracy")[0] == "| kind | mode | requests | misroutes |"
    assert block(root, "accuracy")[2] == "| all | FULL_DUPLEX_STREAMED | 77,777 | 0 |"
    assert block(root, "accuracy")[-2].endswith("One run.")
    assert len(block(root, "accuracy")) == 2 + 4 + 3


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": [{}]}'])
def test_a_file_that_no_benchmark_wrote_is_named(root, capsys, content):
    (root / "bench/results/memory.json").write_text(content)
    assert report.main(["--check"], root) == 2
    assert f"{root}/bench/results/memory.json is not what a benchmark writes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "<!-- bench:nothing -->\n<!-- /bench:nothing -->\n",
            "README.md: there is no block 'nothing'; there are accuracy",
        ),
        ("<!-- bench:memory -->\n", "README.md: a block lacks"),
        ("<!-- bench:memory -->\n<!-- /bench:scaling -->\n", "README.md: a block lacks"),
    ],
)
def test_a_page_whose_blocks_are_wrong_is_named(root, capsys, text, told):
    (root / "README.md").write_text(text)
    assert report.main(["--write"], root) == 2
    assert capsys.readouterr().err.startswith(told)
    assert (root / "README.md").read_text() == text


@pytest.mark.parametrize("arguments", [[], ["--write", "file.json"]])
def test_files_or_pages(arguments, capsys):
    with pytest.raises(SystemExit):
        report.main(arguments)
    assert "give either files, or --write, or --check" in capsys.readouterr().err


def test_the_project_s_own_pages_are_as_its_results_say(capsys):
    assert report.main(["--check"]) == 0, capsys.readouterr().out


def test_every_block_is_on_a_page():
    text = "".join((report.ROOT / page).read_text("utf-8") for page in report.PAGES)
    assert sorted(re.findall(r"<!-- bench:(\S+) -->", text)) == sorted(report.BLOCKS)
