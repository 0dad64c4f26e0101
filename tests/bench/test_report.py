from bench import figures, report
from bench.figures import Target, Variant


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
