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


def test_special_characters_are_shown():
    name = r"a_b*c|d`e\f<g>[h](i) #~& 100 %"
    html = PARSER.renderInline(escaped(name))
    assert html.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == name
