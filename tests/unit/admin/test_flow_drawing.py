import itertools
import re
from xml.etree import ElementTree

import pytest

from bbr.admin.flow_drawing import flow
from tests.support.status_page import HOSTILE


def row(name, base_model, per_second, pools=(), kind="adapter"):
    return {
        "name": name,
        "kind": kind,
        "base_model": base_model,
        "pools": list(pools),
        "per_second": per_second,
        "requests": 1,
    }


def drawn(*rows):
    return ElementTree.fromstring("".join(flow(rows, 1)))  # noqa: S314 (ours)


def texts(root):
    names = [each for each in root.iter("div") if each.get("class") == "what"]
    return ["".join(each.itertext()) for name in names for each in name.iter("bdi")]


def part(root, kind):
    return next((each for each in root if each.get("class") == kind), ())


def heights(root, column):
    """Return the heights of a column's bars, without the boxes behind base models."""
    return [float(rect.get("height")) for rect in part(root, f"{column} bars") if rect.get("width") == "4"]


def test_nothing():
    assert "".join(flow([], 1)) == '<p class="none">No requests in the last minute.</p>'


def test_before_the_first_request_there_is_what_to_do():
    assert "<code>bbr doctor</code>: it says why the gateway does not ask this router." in "".join(flow([], 0))


def test_two_columns_without_pools():
    root = drawn(row("qwen", "qwen", 30.0, kind="base model"), row("sql", "qwen", 10.0), row("", "", 10.0, kind="none"))
    assert root.get("class") == "flow two"
    assert texts(root) == ["qwen", "sql", "not in the table", "qwen", "not routed"]
    assert heights(root, "names") == [90.0, 30.0, 30.0]
    assert heights(root, "bases") == [120.0, 30.0]
    assert heights(root, "pools") == []
    assert len(list(root.iter("path"))) == 3


def test_three_columns_with_pools():
    root = drawn(
        row("qwen", "qwen", 30.0, ["big"]), row("sql", "qwen", 10.0, ["big"]), row("phi", "phi", 10.0, ["big"])
    )
    assert root.get("class") == "flow three"
    assert texts(root)[-1] == "big"
    assert heights(root, "pools") == [150.0]
    assert len(list(root.iter("path"))) == 3 + 2


def test_ribbons_are_as_wide_as_their_rates_and_do_not_overlap():
    root = drawn(row("a", "qwen", 3.0), row("b", "qwen", 1.0))
    ends = []
    for path in root.iter("path"):
        _, end, lower = re.fullmatch(r"M0 ([\d.]+)C.* 100 ([\d.]+)V([\d.]+)C.*Z", path.get("d")).groups()
        ends.append((float(end), float(lower)))
    assert [round(lower - end, 1) for end, lower in ends] == [112.5, 37.5]
    assert ends[0][1] == ends[1][0]


def test_labels_lead_to_the_search_of_their_names():
    root = drawn(row("a&b", "qwen", 3.0, ["pool"]), row("", None, 1.0, kind="rest"))
    links = [link.get("href") for link in root.iter("a")]
    assert links == ["?q=a%26b#where", "?q=qwen#where", "?q=pool#where"]
    assert texts(root)[1] == "other names"
    assert "other base models" in texts(root)


def test_labels_do_not_overlap():
    root = drawn(*(row(f"m{number}", "qwen", 0.0 if number else 100.0) for number in range(12)))
    places = [(float(each.get("y")), float(each.get("height"))) for each in part(root, "names labels")]
    assert len(places) == 12
    assert all(top + height <= following for (top, height), (following, _) in itertools.pairwise(places))
    assert float(part(root, "names labels").get("height")) >= sum(places[-1])


def test_no_place_along_the_width_is_left_to_the_style_sheet():
    """WebKit takes `x` and `width` of a foreignObject from its attributes alone."""
    root = drawn(row("qwen", "qwen", 30.0, ["big"]))
    assert {(each.get("x"), each.get("width")) for each in root.iter("foreignObject")} == {("0", "100%")}
    assert [each.get("class") for each in root if each.get("aria-hidden")] == [
        *("names bars", "first", "bases bars", "second", "pools bars"),
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text(name):
    root = drawn(row(name, name, 3.0, [name]), row(name, name + "2", 1.0))
    assert {each.tag for each in root.iter()} == {
        *("svg", "rect", "foreignObject", "div", "bdi", "a", "path"),
    }
    assert all(text.startswith(name[:63]) or text == name for text in texts(root))
    assert max(map(len, texts(root))) <= 64


def test_no_traffic_in_rows_is_no_division_by_zero():
    assert heights(drawn(row("a", "qwen", 0.0)), "names") == [1.5]
