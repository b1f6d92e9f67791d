"""5,000 synthesized notes, searched by code that shares nothing with the scrubber: nothing of the subject is left."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from functools import cache

import numpy as np
import pytest

from tests.support.phi_searcher import MONTHS, day_left, number_left, phrase_left, words_left
from trialops.privacy.spans import Known
from trialops.privacy.text import TextDeidentifier
from trialops.synthetic.notes import EPOCH, write_notes
from trialops.synthetic.people import people
from trialops.synthetic.population import simulate
from trialops.synthetic.protocol import plan_sites
from trialops.synthetic.text_subject import Subject, subject_notes

TRIAL, JUDGED = 2000, 3000
OFFSET = -47


def of(who: Subject) -> Known:
    """What the structured record of a subject says."""
    address = f"{who.street}, {who.city}, {who.state} {who.postal}"
    return Known((f"{who.first} {who.last}",), (address,), (who.phone,), (who.email,), (who.mrn,), who.dates)


def bare(text: str) -> str:
    """Without what one date does not tell about the next: 10/12 how the ninth is written, May how April is."""
    text = re.sub(r"(?<!\d)0(?=\d)", "", text)
    return re.sub(rf"(?i)\b({'|'.join(m[:3] for m in MONTHS)})[a-z]*", r"\1", text)


@cache
def notes() -> tuple[tuple[str, Known], ...]:
    """Notes of the synthetic trial, and notes in sentences and with names that the model has not seen."""
    layout = plan_sites(11, 1600, 10, ())
    p = simulate(11, layout, layout.order)
    persons = people(p, 11)
    days = (p.screening, p.consent, p.birth, p.end)
    result = []
    for note in write_notes(p, persons)[:TRIAL]:
        who, i = persons[note.subject], note.subject
        address = f"{who.street}, {who.city}, {who.state} {who.postal}"
        dates = tuple(EPOCH + dt.timedelta(days=int(d[i])) for d in days)
        result.append((note.text, Known((f"{who.first} {who.last}",), (address,), (who.phone,), (), (who.mrn,), dates)))
    result += [(note.text, of(who)) for who, note, _ in subject_notes(JUDGED, 7, most=3)]
    return tuple(result)


@cache
def scrubbed(mode: str) -> tuple[str, ...]:
    texts, known = zip(*notes(), strict=True)
    offsets = [OFFSET] * len(texts) if mode == "limited" else None
    # Without the model limited mode has to do with the record and the rules: what is the subject's own needs no model.
    return tuple(TextDeidentifier(mode, model=mode == "strict").scrub(texts, known, offsets))  # type: ignore[arg-type]


def left(text: str, known: Known) -> list[str]:
    """Kinds of identifiers of a subject that a text still has."""
    street, city, zone = (part.strip() for part in known.addresses[0].split(","))
    checks = {
        "name": any(words_left(text, name) for name in known.names),
        "street": phrase_left(text, street) or phrase_left(text, " ".join(street.split()[1:])),
        "city": phrase_left(text, city),
        "postal": number_left(text, zone.split()[1], 5),
        "phone": any(number_left(text, n) for n in known.phones),
        "email": any(mail.lower() in text.lower() for mail in known.emails),
        "identifier": any(number_left(text, n, 8) for n in known.identifiers),
        "date": any(day_left(text, day) for day in known.dates),
    }
    return [kind for kind, found in checks.items() if found]


def test_the_searcher_finds_the_subject_in_the_notes_as_they_were() -> None:
    counts = Counter(kind for text, known in notes() for kind in left(text, known))
    assert len(notes()) == TRIAL + JUDGED
    assert counts["name"] > 4000
    assert min(counts[k] for k in ("street", "city", "postal", "phone", "identifier", "date")) > 500
    assert counts["email"] > 20


@pytest.mark.slow
def test_no_identifier_of_the_subject_survives_in_strict_mode() -> None:
    leaks = Counter(
        kind for text, (_, known) in zip(scrubbed("strict"), notes(), strict=True) for kind in left(text, known)
    )
    assert leaks == Counter()


@pytest.mark.slow
def test_no_identifier_of_the_subject_survives_in_limited_mode() -> None:
    leaks: Counter[str] = Counter()
    for text, (_, known) in zip(scrubbed("limited"), notes(), strict=True):
        # A shifted day can be another day of the subject, or be read as one with day and month the other way round.
        moved = {day + dt.timedelta(days=OFFSET) for day in known.dates}
        moved |= {day.replace(month=day.day, day=day.month) for day in moved if day.day <= 12}
        days = tuple(day for day in known.dates if day not in moved)
        leaks.update(
            left(text, Known(known.names, known.addresses, known.phones, known.emails, known.identifiers, days))
        )
    assert leaks == Counter()


def test_every_date_moves_by_the_offset_in_the_form_it_has() -> None:
    """The twin of a note, written with all days moved, has the dates that the scrubbed note must have, in order."""
    originals = list(subject_notes(400, 21))
    twins = list(subject_notes(400, 21, offset=OFFSET))
    texts, known = [note.text for _, note, _ in originals], [of(who) for who, _, _ in originals]
    total = 0
    for text, (_, _, dates) in zip(TextDeidentifier("limited").scrub(texts, known, [OFFSET] * 400), twins, strict=True):
        at, text = 0, bare(text)
        for date in map(bare, dates):
            at = text.find(date, at)
            assert at >= 0, (
                f"form {''.join('9' if c.isdigit() else 'a' if c.isalpha() else c for c in date)} was not shifted"
            )
            at += len(date)
            total += 1
    assert total > 400


def test_clinical_meaning_is_kept() -> None:
    kept = sum(
        word in text for text in scrubbed("strict")[:TRIAL] for word in ("patches", "screening", "Study treatment")
    )
    assert kept > 0.8 * np.count_nonzero([("patches" in t) or ("Study treatment" in t) for t, _ in notes()[:TRIAL]])
