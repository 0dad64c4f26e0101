"""What the chart has copies of: whole, no links, and found where they differ."""

import pytest

from deploy.render import copies, helm


def test_the_charts_are_up_to_date():
    assert copies.outdated() == []


def test_the_chart_has_no_link():
    assert [file for file in helm.CHART.rglob("*") if file.is_symlink()] == []


@pytest.mark.parametrize("change", ["changed", "missing", "more", "link"])
def test_one_that_is_out_of_date_is_named_and_written_anew(tmp_path, change):
    copies.write(directory := tmp_path / "dashboards")
    assert copies.outdated(directory) == []
    wrong = directory / ("other.json" if change == "more" else "bbr.json")
    if change in ("missing", "link"):
        wrong.unlink()
    if change == "link":
        (target := tmp_path / "bbr.json").write_bytes((copies.SOURCE / "bbr.json").read_bytes())
        wrong.symlink_to(target)
    elif change != "missing":
        wrong.write_text("{}\n")
    assert copies.outdated(directory) == [wrong.name]
    copies.write(directory)
    assert copies.outdated(directory) == []
    assert sorted(file.name for file in directory.iterdir()) == ["alerts.yaml", "bbr.json"]
