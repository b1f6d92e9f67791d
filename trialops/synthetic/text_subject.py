"""Notes about one invented subject whose identifiers are known, each time in another written form.

For judging only: the structured record of the subject goes with every note, so that a search for what is left of it
needs no trust in whatever took it out.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from trialops.privacy.name_forms import NICKNAMES
from trialops.synthetic.clinical_text import Labelled, Writer
from trialops.synthetic.text_slots import Slots, month_names

#: Ways to write a day. Every one tells day, month and year.
DATE_FORMS = (
    *("iso", "us", "us0", "us2", "dot", "long", "dmy", "compact_month"),
    *("dashed", "short", "ordinal", "weekday", "slashed", "digits", "upper", "timed"),
)


@dataclass(frozen=True)
class Subject:
    """An invented subject.

    Attributes:
        first: Given name.
        last: Surname.
        street: Number and street.
        city: Town.
        state: Code of a state.
        postal: Postal code.
        phone: Ten digits.
        email: E-mail address.
        mrn: Medical record number.
        dates: Days of the record; the first is the date of birth.
    """

    first: str
    last: str
    street: str
    city: str
    state: str
    postal: str
    phone: str
    email: str
    mrn: str
    dates: tuple[datetime.date, ...]

    def moved(self, days: int) -> Subject:
        """The same subject with all days moved."""
        return replace(self, dates=tuple(d + datetime.timedelta(days=days) for d in self.dates))


def written(day: datetime.date, form: str) -> str:
    """A day in one of `DATE_FORMS`."""
    month = month_names()[day.month - 1]
    th = "th" if 10 <= day.day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    return {
        "iso": day.isoformat(),
        "us": f"{day.month}/{day.day}/{day.year}",
        "us0": f"{day.month:02d}/{day.day:02d}/{day.year}",
        "us2": f"{day.month:02d}/{day.day:02d}/{day.year % 100:02d}",
        "dot": f"{day.month:02d}.{day.day:02d}.{day.year}",
        "long": f"{month} {day.day}, {day.year}",
        "dmy": f"{day.day} {month} {day.year}",
        "compact_month": f"{day.day:02d}{month[:3].upper()}{day.year}",
        "dashed": f"{day.day:02d}-{month[:3]}-{day.year}",
        "short": f"{month[:3]} {day.day}, {day.year}",
        "ordinal": f"{day.day}{th} of {month} {day.year}",
        "weekday": f"{day:%A}, {month} {day.day}, {day.year}",
        "slashed": f"{day.year}/{day.month:02d}/{day.day:02d}",
        "digits": f"{day.year}{day.month:02d}{day.day:02d}",
        "upper": f"{month.upper()} {day.day}, {day.year}",
        "timed": f"{day.isoformat()}T09:30",
    }[form]


class SubjectSlots(Slots):
    """Slots filled with one subject's identifiers; other people's places and firms come from the judging part."""

    def __init__(self, rng: random.Random, subject: Subject) -> None:
        super().__init__(rng, "judging")
        self.subject = subject
        self.dates: list[str] = []
        for slot in (
            "NAME",
            "FIRST",
            "LAST",
            "LASTFIRST",
            "STREET",
            "CITY",
            "ZIP",
            "ADDRESS",
            "PHONE",
            "EMAIL",
            "ID",
            "DATE",
            "MONTHYEAR",
        ):
            self._makers[slot] = getattr(self, f"_own_{slot.lower()}")

    def _own_name(self) -> str:
        s = self.subject
        nick = self._pick([*NICKNAMES.get(s.first.lower(), (s.first,))]).capitalize()
        plain = f"{s.first} {s.last}"
        forms = [plain, plain, plain.upper(), plain.lower(), f"{s.first[0]}. {s.last}"]
        forms += [f"{s.first} {self._digits('@')}. {s.last}", f"{nick} {s.last}", f"{s.last}, {s.first}"]
        forms += [f"{s.last} {s.first}", f"{s.first}  {s.last}", " ".join(s.first) + "  " + " ".join(s.last)]
        return self._pick([*forms, f"{s.first}\n{s.last}", s.first, s.last])

    def _own_first(self) -> str:
        return self._pick([self.subject.first, self.subject.first, self.subject.first.upper()])

    def _own_last(self) -> str:
        return self._pick([self.subject.last, self.subject.last, self.subject.last.upper()])

    def _own_lastfirst(self) -> str:
        return self._pick(
            [f"{self.subject.last}, {self.subject.first}", f"{self.subject.last}, {self.subject.first}".upper()]
        )

    def _own_street(self) -> str:
        s = self.subject.street
        short = (
            s.replace("Street", "St")
            .replace("Avenue", "Ave.")
            .replace("Road", "Rd")
            .replace("Lane", "Ln")
            .replace("Court", "Ct")
        )
        return self._pick([s, s, short, s.upper(), s.lower()])

    def _own_city(self) -> str:
        return self._pick([self.subject.city, self.subject.city.upper()])

    def _own_zip(self) -> str:
        return self.subject.postal

    def _own_address(self) -> str:
        gap = self._pick([", ", "\n", "; "])
        return f"{self._own_street()}{gap}{self.subject.city}, {self.subject.state} {self.subject.postal}"

    def _own_phone(self) -> str:
        a, b, c = self.subject.phone[:3], self.subject.phone[3:6], self.subject.phone[6:]
        return self._pick(
            [
                f"({a}) {b}-{c}",
                f"{a}-{b}-{c}",
                f"{a}.{b}.{c}",
                f"{a} {b} {c}",
                f"+1 {a} {b} {c}",
                f"1-{a}-{b}-{c}",
                a + b + c,
                f"({a}){b}-{c} x12",
                f"{b}-{c}",
            ]
        )

    def _own_email(self) -> str:
        return self._pick([self.subject.email, self.subject.email.upper()])

    def _own_id(self) -> str:
        m = self.subject.mrn
        return self._pick([m, m, f"{m[:3]}-{m[3:]}", f"{m[:2]} {m[2:5]} {m[5:]}", f"#{m}", f"MRN{m}"])

    def _own_date(self) -> str:
        text = written(self.rng.choice(self.subject.dates), self.rng.choice(DATE_FORMS))
        self.dates.append(text)
        return text

    def _own_monthyear(self) -> str:
        return self._own_date()


def subject(seed: int) -> Subject:
    """An invented subject."""
    rng = random.Random(f"subject/{seed}")
    slots = Slots(rng, "judging")
    origin = slots._origin()
    first, last = slots._first(origin), slots._last(origin)
    digits = slots._digits
    birth = datetime.date(1938, 1, 1) + datetime.timedelta(days=rng.randrange(20000))
    start = datetime.date(2012, 1, 1) + datetime.timedelta(days=rng.randrange(3000))
    return Subject(
        first=first,
        last=last,
        street=f"{rng.randint(100, 9999)} {slots._last()} {rng.choice(['Street', 'Avenue', 'Lane', 'Road', 'Court'])}",
        city=slots._city(),
        state=rng.choice(["OH", "TX", "NY", "CA", "WY"]),
        postal=digits("4####"),
        phone=digits("614555####"),
        email=f"{first.lower().replace(' ', '')}.{last.lower().replace(' ', '')}@example.org".replace("'", ""),
        mrn=digits("7#######"),
        dates=(birth, start, *(start + datetime.timedelta(days=rng.randrange(1, 400)) for _ in range(3))),
    )


def subject_notes(
    count: int, seed: int = 0, *, offset: int = 0, most: int = 5
) -> Iterator[tuple[Subject, Labelled, tuple[str, ...]]]:
    """Notes about subjects, one each.

    Args:
        count: How many.
        seed: Same seed, same notes.
        offset: The notes as they were if all days of the subject were moved by so many days; nothing else changes.
        most: Sentences of a note, 2 at least.

    Yields:
        The subject as it is without offset, the note, and the dates as the note writes them, in order.
    """
    for i in range(count):
        who = subject(seed * 1_000_003 + i)
        writer = Writer(seed * 1_000_003 + i, "judging")
        slots = SubjectSlots(writer.rng, who.moved(offset) if offset else who)
        writer.slots = slots
        parts = [
            writer.sentence(rule)
            for rule in writer.rng.choices(("clin", "gen", "none"), (6, 2, 1), k=writer.rng.randint(2, most))
        ]
        text, spans = "", []
        for part in parts:
            text += " " if text else ""
            spans += [(a + len(text), b + len(text), k) for a, b, k in part.spans]
            text += part.text
        yield who, Labelled(text, tuple(spans)), tuple(slots.dates)
