import re

import pytest

from bbr.admin.status_tables import TABLES, help_link, share, table


def html(name, *rows, total=None, **found):
    listed = {"total": len(rows) if total is None else total, "rows": list(rows)}
    return "".join(table(name, {name: listed, "history": {"column_seconds": []}, **found}))


def named(name, base_model, kind="adapter"):
    return {"name": name, "base_model": base_model, "kind": kind, "per_second": 0.5, "declared_by": "file x"}


@pytest.mark.parametrize("name", TABLES)
def test_an_empty_table(name):
    found = html(name)
    assert f'<p class="none">{TABLES[name].empty}</p>' in found
    assert f'<table role="table" class="{name}" hidden>' in found
    assert found.count("<tbody") == found.count("</tbody>")
    assert found.count("<th ") == len(TABLES[name].columns)


def test_names_stand_below_their_base_model():
    found = html("names", named("a", "qwen"), named("b", "qwen"), named("phi", "phi", "base model"), named("c", "phi"))
    bodies = re.findall("<tbody.*?</tbody>", found)
    assert [re.findall("<bdi>([^<]*)</bdi></t?", body)[0] for body in bodies] == ["qwen", "phi"]
    assert [body.count("<tr") for body in bodies] == [3, 2]
    assert [body.count("class=base") + body.count('class="base"') for body in bodies] == [1, 1]
    assert bodies[0].count("class=under") == 2


def test_names_across_pieces_stay_in_their_body():
    found = html("names", *(named(f"a-{number}", "qwen") for number in range(50)))
    assert found.count("<tbody") == found.count("</tbody>") == 1
    assert found.count("class=under") == 50


def test_cells_carry_their_headings():
    found = html("unknown_models", {"name": "x", "times": 1234, "seconds_ago": 61.0})
    assert '<td role="cell" class="count" data-label="Times"><bdi>1,234</bdi></td>' in found
    assert '<th scope="row" role="rowheader" class="name"><bdi>x</bdi></th>' in found


def test_a_base_model():
    row = {
        "base_model": "qwen",
        "pools": ["qwen-pool", "spare"],
        "requests": 10,
        "errors": 2,
        "per_second": 1.0,
        "per_second_now": 2.0,
        "recent_errors": 1,
        "error_share": 0.2,
        "p50": {"at_most_seconds": 0.001},
        "p99": None,
        "history": None,
    }
    found = html("models", row)
    assert '<span class="under">to <bdi>qwen-pool, spare</bdi></span>' in found
    assert '<span class="share bad"><bdi>20%</bdi></span>' in found
    assert "<bdi>2</bdi> failed" in found
    fine = html("models", {**row, "pools": [], "errors": 0, "error_share": 0.0})
    assert "under" not in fine
    assert '<span class="share ok">' in fine
    assert '<span class="share"><bdi>20%</bdi></span>' in html("models", {**row, "base_model": ""})


def test_requests_without_a_base_model_have_a_row_once_there_are_any():
    row = dict.fromkeys(("per_second", "per_second_now", "recent_errors", "error_share", "p50", "p99", "history"))
    row |= {"base_model": "", "pools": [], "requests": 0, "errors": 0}
    empty = html("models", row)
    assert "<tbody role=rowgroup></tbody>" in empty.replace('"', "")
    assert '<p class="none">No request yet.</p>' in empty
    assert '<p class="more" hidden>' in empty
    assert "(none)" in html("models", {**row, "requests": 1})


def test_rows_beyond_the_first_are_folded():
    rows = [{"name": f"m{number}", "times": 1, "seconds_ago": 1.0} for number in range(23)]
    shown, _, folded = html("unknown_models", *rows).partition('<details id="fold-more-unknown_models"')
    assert shown.count("<bdi>m") == 20
    assert folded.startswith(' data-fold="closed"><summary>3 more</summary><table role="table"')
    assert folded.count("<bdi>m") == 3
    assert shown.count("<table") == shown.count("</table>") == folded.count("</table>") == 1
    assert "<details" not in html("unknown_models", *rows[:20])


def test_more_than_are_shown():
    found = html("unknown_models", {"name": "x", "times": 1, "seconds_ago": 1.0}, total=1234)
    assert '<p class="more">1 of 1,234 are shown.</p>' in found


def test_small_parts():
    assert share(None) == '<span class="share "><bdi>–</bdi></span>'  # noqa: RUF001
    assert help_link("r-x", "what to do") == '<a class="help" href="help#r-x">what to do</a>'
