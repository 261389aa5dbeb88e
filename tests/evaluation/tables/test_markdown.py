"""Markdown as another program reads it."""

import re

from markdown_it import MarkdownIt
from results_lib import method, results

from aesop.evaluation.comparison import compare
from aesop.evaluation.tables.build import means_table
from aesop.evaluation.tables.markdown import escaped, to_markdown

PARSER = MarkdownIt("commonmark").enable("table")


def cells(text: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", PARSER.render(text), re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def test_a_parser_finds_every_cell_and_mark():
    comparison = compare(results(method("low"), method("a|b *c*", 1), method("high", 2), missing=("x_y_z",)))
    table = means_table(comparison)
    text = to_markdown(table)
    header, *rows = cells(text)
    assert header[1] == "Set5 (5 images, coverage " + header[1].partition("coverage ")[2]
    assert header[1].endswith("<br>PSNR ↑")
    assert [len(row) for row in rows] == [7] * len(table.rows)
    for row, found in zip(table.rows, rows, strict=True):
        assert re.sub(r"<[^>]+>", "", found[0]) == row.label
        shown = {"best": "<strong>{}</strong>", "second": "<u>{}</u>", None: "{}"}
        assert found[1:] == [shown[cell.place].format(cell.text) for cell in row.cells]
    assert "<strong>" in str(rows)
    rendered = PARSER.render(text)
    assert "<p>PARTIAL: not everything was measured. Mean over images" in rendered
    assert "<li>x_y_z</li>" in rendered


def test_wide_tables_become_one_for_each_set():
    measured = results(method("a", sets={f"S_{k}": 8 for k in range(5)}), method("b", sets={"S_0": 8}))
    table = means_table(compare(measured))
    html = PARSER.render(to_markdown(table))
    assert html.count("<table>") == 5
    assert re.findall(r"<p><strong>(S_\d)</strong> \(8 images", html) == [f"S_{k}" for k in range(5)]
    rows = cells(to_markdown(table))
    interval = "<em>95 % interval, images</em>"
    assert [row[0] for row in rows] == ["", "a", interval, "b", interval, *["", "a", interval] * 4]
    shown = [re.sub("<[^>]+>", "", cell) for row in rows for cell in row[1:]]
    assert [cell for cell in shown if cell not in ("PSNR ↑", "LPIPS ↓")] == [
        row.cells[k].text for start in range(0, 10, 2) for row in table.part(start // 2, start // 2 + 1).rows for k in (0, 1)
    ]


def test_special_characters_are_shown():
    name = r"a_b*c|d`e\f<g>[h](i) #~& 100 %"
    html = PARSER.renderInline(escaped(name))
    assert html.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == name
