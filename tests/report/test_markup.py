"""Nothing from outside becomes markup, the page asks for nothing, and a drawing escapes and spaces what it is given."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from initbench.report import svg
from tests.html_page import everything, read, rows
from tests.report.studies import EVIL, html_of, write_pictured_run, write_study

# --- nothing from outside is markup, nothing comes from the network -----------------------------------------------------


def test_names_from_outside_stay_text(tmp_path: Path) -> None:
    out = tmp_path / 'run"s<b>'
    options = {"names": "<img src=x onerror=alert(1)>{:02d}", "split": "<i>split</i>", "environment": "<u>e</u>"}
    write_study(out, {"default": 0.0, EVIL: 0.02, "kaiming-normal": 0.01}, seeds=3, **options)
    write_pictured_run(out, EVIL, seed=0, dataset="<b>data</b>", **options)
    html = html_of(out, tmp_path / "report.html")
    document = read(html)
    assert "<script>alert" not in html
    assert len(list(document.all("script"))) == 1
    for tag in ("b", "i", "u", "img", "iframe", "object", "embed", "link"):
        assert not list(document.all(tag)), tag
    for item in everything(document):
        assert not [name for name in item.attributes if name.startswith("on")], item
    assert EVIL in rows(document, "b1")
    assert any(EVIL in dialog.text for dialog in document.all("dialog"))
    assert "<img src=x onerror=alert(1)>" in " ".join(item.attributes.get("data-tip", "") for item in everything(document))


def test_the_page_asks_for_nothing(html: str) -> None:
    document = read(html)
    (policy,) = (item.attributes["content"] for item in document.all("meta") if "http-equiv" in item.attributes)
    assert policy.startswith("default-src 'none';")
    for item in everything(document):
        for name in ("href", "src", "xlink:href", "action", "data", "poster", "srcset"):
            assert item.attributes.get(name, "#").startswith(("#", "data:image/png;base64,")), item
    assert not re.search(r"https?://|@import|eval\(|innerHTML|document\.write", html)
    assert "url(" not in html


def test_every_id_is_there_once_and_every_reference_leads_somewhere(html: str) -> None:
    ids = [item.attributes["id"] for item in everything(read(html)) if "id" in item.attributes]
    assert len(ids) == len(set(ids))
    for item in everything(read(html)):
        for name in ("href", "data-dialog", "aria-labelledby"):
            target = item.attributes.get(name, "")
            if target and not target.startswith("data:"):
                assert target.removeprefix("#") in ids


# --- drawing ----------------------------------------------------------------------------------------------------------


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0, 1), (68.2, 74.9), (-0.7, 13.0), (1e-4, 3e-4), (79.999, 80.001), (0, 90_000)):
        ticks = svg.round_steps(low, high)
        assert 3 <= len(ticks) <= 8
        assert low - 1e-9 <= ticks[0]
        assert ticks[-1] <= high + 1e-9
        scale = svg.Scale(low, high, 0, 100)
        labels = [scale.label(tick) for tick in scale.ticks()]
        assert [float(label) for label in labels] == pytest.approx(ticks)
        assert len(set(labels)) == len(labels)
    assert svg.Scale(0.3, 2.0, 0, 1, log=True).ticks() == pytest.approx([0.5, 1.0, 2.0])


def test_labels_keep_their_distance_and_their_order() -> None:
    wanted = [10.0, 11.0, 12.0, 200.0, 199.0, 50.0]
    found = svg.spread_out(wanted, 14, 0, 200)
    assert np.min(np.diff(np.sort(found))) >= 14 - 1e-9
    assert [sorted(wanted).index(value) for value in wanted] == [sorted(found).index(value) for value in found]
    assert min(found) >= 0
    assert max(found) <= 200
    assert found[5] == 50.0
    assert svg.spread_out([5.0], 14, 0, 100) == [5.0]


def test_elements_escape_what_they_are_given() -> None:
    safe = "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;"
    assert svg.tag("text", EVIL, data_tip=EVIL) == f'<text data-tip="{safe}">{safe}</text>'
    assert svg.tag("g", svg.tag("line", x1=1.26)) == '<g><line x1="1.3"/></g>'
