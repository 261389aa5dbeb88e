"""LaTeX that compiles, and shows what was meant."""

import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
from results_lib import method, results

from aesop.evaluation.comparison import compare
from aesop.evaluation.published import published_for
from aesop.evaluation.tables.build import differences_table, means_table
from aesop.evaluation.tables.latex import escaped, to_latex

HOSTILE = [r"a_b%c$d#e&f{g}~^\h", "[2]* |<x>|", "Größe ×4 α Γ µ Ångström čø …", '"quoted" – ’s', "*star"]


def compiled(text: str, folder: Path) -> str:
    """The text of the PDF; skips if there is no LaTeX."""
    program = shutil.which("pdflatex")
    if program is None or subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).returncode:
        pytest.skip("pdflatex and booktabs are not installed")
    document = f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{text}\\end{{document}}\n"
    (folder / "table.tex").write_text(document, encoding="utf-8")
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    if shutil.which("pdftotext") is None:
        return ""
    return subprocess.run(
        ["pdftotext", "-layout", "table.pdf", "-"], cwd=folder, capture_output=True, check=True
    ).stdout.decode()


def plain(text: str) -> str:
    """Without what a PDF in LaTeX's default fonts does not say: spaces, underscores (rules), and the kind of quotes."""
    quotes = str.maketrans("˜ˆ’”", "~^'\"", "_")
    return "".join(unicodedata.normalize("NFKC", text.translate(quotes)).split())


def test_tables_compile_and_say_what_they_should(tmp_path):
    sets = {"Set5": 5, "Set14": 14}
    seeds = [method(f"run{k}", 1 + 0.1 * k, sets, seed_of=HOSTILE[0]) for k in range(2)]
    measured = results(*(method(name, k, sets) for k, name in enumerate(HOSTILE[1:])), *seeds, name="50 % & ö_x")
    comparison = compare(measured, HOSTILE[1])
    means = to_latex(means_table(comparison, published=published_for(measured)))
    text = plain(compiled(means + to_latex(differences_table(comparison)), tmp_path))
    if not text:
        pytest.skip("compiled; pdftotext, which reads the result, is not installed")
    for name in (
        *HOSTILE[1:],
        f"{HOSTILE[0]} (2 seeds)",
        "Set5",
        "5 images, coverage 8",
        "PSNR ↑",
        "LPIPS ↓",
        "sd over 2 seeds",
    ):
        assert plain(name) in text
    estimate = comparison.sets[1].estimates[HOSTILE[0]]["psnr"]
    assert f"{estimate.mean:.2f}" in text
    assert f"[{estimate.low:.2f},{estimate.high:.2f}]" in text


def test_only_ascii_for_every_letter_that_has_a_command():
    for name in HOSTILE:
        assert escaped(name).isascii()
    assert escaped("ö é ñ ç š å ı ł") == r"\"{o} \'{e} \~{n} \c{c} \v{s} \r{a} \i{} \l{}"
    assert escaped("o\N{COMBINING DIAERESIS}") == r"\"{o}"
    assert escaped("λ Ω") == r"$\lambda$ $\Omega$"
    assert escaped("10 %\nx") == r"10 \% x"
    assert escaped("東") == "東"


def test_groups_rules_marks_and_arrows():
    comparison = compare(results(method("low"), method("middle", 1), method("high", 2)))
    lines = to_latex(means_table(comparison)).splitlines()
    assert lines[0] == r"% needs \usepackage{booktabs}"
    assert r"\begin{tabular}{lrrrrrr}" in lines
    assert r" & \multicolumn{2}{c}{Set5} & \multicolumn{2}{c}{Set14} & \multicolumn{2}{c}{Urban100} \\" in lines
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-5} \cmidrule(lr){6-7}" in lines
    assert " & ".join(["", *[r"PSNR $\uparrow$", r"LPIPS $\downarrow$"] * 3]) + r" \\" in lines
    (high,) = (line for line in lines if line.startswith("high"))
    cells = [cell.strip(" \\") for cell in high.split("&")][1:]
    assert [cell.startswith("textbf{") for cell in cells] == [False, False, True, True, True, True]
    (middle,) = (line for line in lines if line.startswith("middle"))
    assert middle.count(r"\underline{") == 4
    assert all(line.count("&") == 6 for line in lines if re.match(r"(low|middle|high|\\quad)", line))


def test_wide_tables_span_both_columns():
    compared = compare(results(method("a", sets={"S": 8})))
    assert r"\begin{table}" in to_latex(means_table(compared))
    assert r"\begin{table*}" in to_latex(means_table(compare(results(method("a")))))


def test_tables_that_are_wider_than_a_page_are_set_in_parts():
    sets = {f"S{k}": 8 for k in range(7)}
    some = results(method("a", 0, sets), method("b", 1, {"S0": 8}))
    text = to_latex(means_table(compare(some)))
    first, second, third = (part.split(r"\end{tabular}")[0] for part in text.split(r"\begin{tabular}")[1:])
    assert [len(re.findall(r"multicolumn\{2\}\{c\}\{S\d\}", part)) for part in (first, second, third)] == [3, 3, 1]
    assert [re.findall(r"^[ab](?= &)", part, re.MULTILINE) for part in (first, second, third)] == [["a", "b"], ["a"], ["a"]]
    assert all(r"\toprule" in part and r"\bottomrule" in part for part in (first, second, third))
    assert text.count(r"\caption") == 1


def test_tables_that_are_longer_than_a_page_are_several_floats(tmp_path):
    sets = {f"Set {k}": 8 for k in range(7)}
    text = to_latex(means_table(compare(results(*(method(f"m{k}", k, sets) for k in range(6)), missing=("m: x",)))))
    assert re.findall(r"\\label{tab:test-means(.*)}", text) == ["", "-2"]
    first, second = text.split(r"\end{table*}")[:2]
    assert [part.count(r"\begin{tabular}") for part in (first, second)] == [2, 1]
    assert "m: x" in first
    assert "PARTIAL" in first
    assert plain("Set 6") in (plain(compiled(text, tmp_path)) or plain("Set 6"))
    assert "Float too large" not in (tmp_path / "table.log").read_text()
