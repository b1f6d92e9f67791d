"""Dates in text: found in their written forms, moved in the form in which they stand, intervals exact."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.phi_searcher import MONTHS
from trialops.privacy.text_dates import day_first, exact_days, find_dates, shift_date
from trialops.synthetic.text_subject import DATE_FORMS, written


def bare(text: str | None) -> str:
    """Without what one date does not tell about the next: 10/12 how the ninth is written, May how April is."""
    text = re.sub(r"(?<!\d)0(?=\d)", "", text or "")
    return re.sub(rf"(?i)\b({'|'.join(m[:3] for m in MONTHS)})[a-z]*", r"\1", text)


def moved(text: str, days: int, *, day: bool = False) -> str | None:
    """A text that is one date, moved."""
    dates = find_dates(text)
    assert [(d.start, d.end) for d in dates] == [(0, len(text))]
    return shift_date(text, dates[0], days, day_before_month=day)


@pytest.mark.parametrize(
    ("before", "days", "after"),
    [
        ("2013-01-31", 1, "2013-02-01"),
        ("2013/1/7", 30, "2013/2/6"),
        ("20130107", -7, "20121231"),
        ("01/07/2013", 30, "02/06/2013"),
        ("1/7/13", 30, "2/6/13"),
        ("7.1.2013", 1, "7.2.2013"),
        ("31.01.2013", 1, "01.02.2013"),
        ("31-01-13", 1, "01-02-13"),
        ("12 March 2013", 20, "1 April 2013"),
        ("1st of March 2013", 1, "2nd of March 2013"),
        ("12MAR2013", 1, "13MAR2013"),
        ("31-Jan-2013", 1, "01-Feb-2013"),
        ("March 31, 2013", 1, "April 1, 2013"),
        ("MARCH 31, 2013", 1, "APRIL 1, 2013"),
        ("mar 31 2013", 1, "apr 1 2013"),
        ("Sept 30, 2013", 1, "Oct 1, 2013"),
        ("12MAY2013", 31, "12JUN2013"),
        ("Monday, January 7, 2013", 2, "Wednesday, January 9, 2013"),
        ("Mon, Jan 7, 2013", 2, "Wed, Jan 9, 2013"),
        ("7 janvier 2013", 31, "7 février 2013"),
        ("7. Januar 2013", 60, "8. März 2013"),
        ("7 de enero de 2013", 31, "7 de febrero de 2013"),
        ("2012-02-28T10:15:00Z", 1, "2012-02-29T10:15:00Z"),
        ("March 2013", 17, "April 2013"),
        ("March 2013", 16, "March 2013"),
        ("2013-03", -15, "2013-02"),
        ("03/2013", 31, "04/2013"),
        ("March 12", 1, "March 13"),
        ("12th of July", 1, "13th of July"),
        ("Monday", 8, "Tuesday"),
    ],
)
def test_a_date_moves_in_its_own_form(before: str, days: int, after: str) -> None:
    assert moved(before, days) == after


def test_a_month_alone_is_a_date_after_a_word_that_says_so() -> None:
    text = "symptoms since September, in May; May improve, march on"
    dates = find_dates(text)
    assert [text[d.start : d.end] for d in dates] == ["September", "May"]
    assert [shift_date(text, d, 20) for d in dates] == ["October", "June"]
    assert shift_date("in February", find_dates("in February")[0], 14) is None


def test_what_has_no_exact_answer_is_withheld() -> None:
    assert moved("February 28", 1) is None
    assert moved("March 1", -1) is None
    assert moved("January 2", 364) is None
    assert moved("Christmas", 3) is None
    assert moved("Thanksgiving", 3) is None
    assert moved("1/2/1900", -365 * 1000) is None


@pytest.mark.parametrize(
    "text",
    [
        "BP 120/80, pain 3/10, 2-3 times",
        "may improve; march on 5 legs",
        "ratio 1:640, version 1.2.3.4",
        "32/13/2013",
        "May 500 mg be given",
        "L4-L5, T12, 5-6 cm",
        "platelets 201301, sodium 140",
        "mon 3 sat 4",
        "in 2013 and 2014",
        "",
    ],
)
def test_what_is_no_date_is_left(text: str) -> None:
    assert find_dates(text) == []


def test_order_of_day_and_month_comes_from_the_record_then_the_text_then_the_default() -> None:
    text = "seen 03/04/2013"
    assert day_first(text, find_dates(text), {dt.date(2013, 4, 3)}, default=False)
    assert not day_first(text, find_dates(text), {dt.date(2013, 3, 4)}, default=True)
    text = "seen 03/04/2013, again 25/04/2013"
    assert day_first(text, find_dates(text), (), default=False)
    text = "seen 03/04/2013"
    assert [day_first(text, find_dates(text), (), default=d) for d in (True, False)] == [True, False]


@given(st.dates(dt.date(1951, 1, 1), dt.date(2040, 1, 1)), st.integers(-182, 182), st.sampled_from(DATE_FORMS))
@settings(max_examples=400, deadline=None)
def test_every_form_of_every_day_moves_exactly(day: dt.date, days: int, form: str) -> None:
    assert bare(moved(written(day, form), days)) == bare(written(day + dt.timedelta(days=days), form))


@given(
    st.dates(dt.date(1951, 1, 1), dt.date(2040, 1, 1)),
    st.dates(dt.date(1951, 1, 1), dt.date(2040, 1, 1)),
    st.integers(-182, 182),
)
@settings(max_examples=150, deadline=None)
def test_intervals_are_exact(one: dt.date, two: dt.date, days: int) -> None:
    text = f"from {one.isoformat()} to {two:%d} {two:%B} {two.year}"
    new = [shift_date(text, d, days) for d in find_dates(text)]
    first, second = (exact_days(str(n))[0] for n in new)
    assert second - first == two - one


@given(st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_disjoint_dates_inside_it(text: str) -> None:
    dates = find_dates(text)
    assert all(a.end <= b.start for a, b in zip(dates, dates[1:], strict=False))
    assert all(0 <= d.start < d.end <= len(text) for d in dates)
    for date in dates:
        shift_date(text, date, 5)


@pytest.mark.parametrize("date", ["March 3, 2023", "3 March 2023", "2023-03-03", "03/03/2023"])
@pytest.mark.parametrize("mark", [":", ";", ")", "."])
def test_a_date_ends_at_a_mark_but_not_inside_a_time(date: str, mark: str) -> None:
    text = f"Call {date}{mark} spoke"
    assert [text[d.start : d.end] for d in find_dates(text)] == [date]
    assert [(d.start, d.end) for d in find_dates("given March 3, 20:15")] != [(6, 17)]
