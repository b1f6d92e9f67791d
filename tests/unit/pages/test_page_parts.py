"""Pages are made of plain values: numbers as people read them, text escaped, plots the same bytes each time."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, fragment, plots, render, suppressed
from trialops.pages.page import number

ODD = '<b>"O\'Hara" & Söhne</b>'
ESCAPED = "&lt;b&gt;&#34;O&#39;Hara&#34; &amp; Söhne&lt;/b&gt;"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (math.nan, "–"),
        (np.float64("nan"), "–"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (1234567, "1,234,567"),
        (-1234, "-1,234"),
        (12.0, "12"),
        (254.0, "254"),
        (0.0, "0"),
        (0.7236, "0.724"),
        (-0.0456, "-0.046"),
        (1234.5678, "1,234.568"),
        (0.000123456, "0.00012"),
        (np.float64(0.5), "0.500"),
        (3e12, "3,000,000,000,000.000"),
        ("promote", "promote"),
        ("", ""),
    ],
)
def test_number(value: Any, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(("n", "shown"), [(0, 0), (1, "<11"), (10, "<11"), (11, 11), (254, 254)])
def test_counts_of_a_handful_are_suppressed(n: int, shown: int | str) -> None:
    assert suppressed(n) == shown


def everything(text: str) -> Page:
    return Page(
        text,
        [
            Section(
                text,
                [
                    Text(text),
                    Facts({text: text}),
                    Table((text, "n"), [(text, 1), (None, None)], caption=text),
                    Figure(plots.bars([text], [1.0], xlabel=text), caption=text),
                ],
            )
        ],
        Verdict(text, "warn", text),
        intro=text,
    )


def test_every_text_is_escaped() -> None:
    html = render(everything(ODD))
    assert "<b>" not in html and "O'Hara" not in re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL)
    # title twice (head and heading), section, text, facts twice, table head, cell, two captions, verdict twice, intro
    assert html.count(ESCAPED) == 13
    assert html.startswith("<!doctype html>") and "<script" not in html and "http" not in _outside_svg(html)


def test_table_with_nothing_in_a_cell_or_no_rows() -> None:
    html = fragment(everything("x"))
    assert html.count("<td>–</td>") == 2, "what is absent is neither 0 nor None, and not aligned as a number"
    assert '<td class="n">1</td>' in html and "None" not in html
    empty = fragment(Page("x", [Section("s", [Table(("a", "b", "c"), [])])]))
    assert '<td colspan="3" class="quiet">none</td>' in empty
    yes = fragment(Page("x", [Section("s", [Table(("a",), [(True,)]), Facts({"f": None})])]))
    assert "<td>yes</td>" in yes and "<dd>–</dd>" in yes


def test_a_long_table_is_folded_and_keeps_every_row() -> None:
    def shown(rows: int) -> str:
        return fragment(Page("x", [Section("s", [Table(("a",), [(f"row {n:02}",) for n in range(rows)])])]))

    assert "more" not in shown(20)
    folded = shown(21)
    assert [f"row {n:02}" in folded for n in range(21)] == [True] * 21
    before, _, after = folded.partition('<tbody class="rest">')
    assert "row 11" in before and "row 12" in after and "all 21 rows" in after


def test_fragment_headings_start_where_asked_and_verdict_comes_first() -> None:
    page = Page("title", [Section("part", [Text("quiet", quiet=True)])], Verdict("Held", "warn"))
    shown = fragment(page, level=3)
    assert "<h3>part</h3>" in shown and "title" not in shown
    assert shown.index("Held") < shown.index("part") and '<p class="quiet">quiet</p>' in shown


def draw() -> dict[str, str]:
    return {
        "intervals": plots.intervals(
            ["all", "empty", "site 2"],
            [0.7, None, 0.6],
            [0.6, None, None],
            [0.8, None, None],
            xlabel="AUROC",
            reference=0.5,
        ),
        "lines": plots.lines(
            [("model", [0, 0.5, 1], [0, 0.8, 1]), ("baseline", [0, 1], [0, 1])],
            xlabel="1 - specificity",
            ylabel="sensitivity",
            diagonal=True,
            markers=True,
        ),
        "bars": plots.bars(["ADVERSE EVENT", "DEATH"], [92, 3.5], xlabel="subjects"),
        "nothing": plots.bars([], [], xlabel="subjects"),
    }


def test_plots_are_the_same_bytes_twice_here_and_in_another_process() -> None:
    first = draw()
    assert draw() == first
    program = (
        "from trialops.pages import plots\n"
        "print(plots.bars(['ADVERSE EVENT', 'DEATH'], [92, 3.5], xlabel='subjects'), end='')"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout == first["bars"]


def test_plots_are_svg_with_text_and_without_date() -> None:
    for name, svg in draw().items():
        assert svg.startswith("<svg") and svg.rstrip().endswith("</svg>"), name
        assert "<dc:date>" not in svg and "<script" not in svg
    shown = draw()
    assert "AUROC" in shown["intervals"] and "site 2" in shown["intervals"]
    assert ">92<" in shown["bars"] and ">3.5<" in shown["bars"]
    assert "baseline" in shown["lines"], "two lines need a legend"
    assert "model" not in plots.lines([("model", [0, 1], [0, 1])], xlabel="x", ylabel="y")


def test_plot_labels_are_escaped() -> None:
    svg = plots.bars([ODD], [1], xlabel="x")
    assert "<b>" not in svg and "&lt;b&gt;" in svg


def _outside_svg(html: str) -> str:
    return re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL)
