"""Values of the slots of synthesized sentences: people, places, organisations, dates and numbers."""

from __future__ import annotations

import datetime
import random
import string
from collections.abc import Callable
from functools import cache

from trialops.synthetic import text_names


@cache
def _values(name: str) -> list[str]:
    lines = (text_names.FOLDER / "slots.txt").read_text(encoding="utf-8").splitlines()
    return next(line.partition(": ")[2].split("|") for line in lines if line.startswith(f"{name}: "))


def month_names() -> list[str]:
    """The months in English."""
    return _values("months")


class Slots:
    """Draws slot values.

    Args:
        rng: Source of chance.
        part: "training" or "judging"; names and towns of one part are never in the other.
    """

    def __init__(self, rng: random.Random, part: str) -> None:
        self.rng, self.part = rng, part
        self._makers: dict[str, Callable[[], str]] = {
            slot.upper(): getattr(self, f"_{slot}") for slot in _values("slots")
        }

    def draw(self, slot: str) -> str:
        """A value of a slot such as "NAME"."""
        return self._makers[slot]()

    def _pick(self, values: list[str]) -> str:
        return self.rng.choice(values)

    def _digits(self, form: str) -> str:
        """A form with # for a digit and @ for a capital."""
        pick = {"#": string.digits, "@": string.ascii_uppercase, "~": string.ascii_lowercase}
        return "".join(self.rng.choice(pick[c]) if c in pick else c for c in form)

    def _origin(self) -> str:
        return "english" if self.rng.random() < 0.25 else self._pick(list(text_names.origins()))

    def _first(self, origin: str | None = None) -> str:
        return text_names.name(self.rng, origin or self._origin(), "given", self.part)

    def _last(self, origin: str | None = None) -> str:
        origin = origin or self._origin()
        last = text_names.name(self.rng, origin, "family", self.part)
        if self.rng.random() < 0.05:
            last += "-" + text_names.name(self.rng, origin, "family", self.part)
        elif self.rng.random() < 0.05:
            last = (
                self._pick(["van ", "de ", "von ", "de la ", "Van ", "Di ", "Mc", "O'", "St. ", "del ", "El ", "Le"])
                + last
            )
        return last

    def _name(self) -> str:
        origin, r = self._origin(), self.rng.random()
        first, last = self._first(origin), self._last(origin)
        if r < 0.70:
            return f"{first} {last}"
        if r < 0.78:
            return f"{first} {self.rng.choice(string.ascii_uppercase)}. {last}"
        if r < 0.83:
            return f"{first[0]}. {last}"
        if r < 0.87:
            return f"{first} {self._first(origin)} {last}"
        if r < 0.90:
            return f"{first.upper()} {last.upper()}"
        if r < 0.93:
            return f"{first} {last} {self._last(origin)}"
        if r < 0.95:
            return f"{first} {last} {self._pick(['Jr.', 'III', 'Sr.', 'II'])}"
        return first if r < 0.975 else last

    def _lastfirst(self) -> str:
        origin = self._origin()
        text = f"{self._last(origin)}, {self._first(origin)}" + self._pick(
            ["", "", f" {self.rng.choice(string.ascii_uppercase)}."]
        )
        return text.upper() if self.rng.random() < 0.4 else text

    def _initials(self) -> str:
        return self._digits(self._pick(["@.@.", "@@", "@@@", "@.@.@."]))

    def _city(self) -> str:
        return self._pick(towns(self.part))

    def _country(self) -> str:
        return self._pick(list(countries()))

    def _state(self) -> str:
        return self._pick(_values("states") if self.rng.random() < 0.6 else _values("codes"))

    def _street(self) -> str:
        r = self.rng.random()
        number = str(self.rng.randint(1, 9999) if self.rng.random() < 0.5 else self.rng.randint(1, 199))
        base = self._pick(
            [
                self._pick(_values("streets")),
                self._last(),
                self._first(),
                f"{self._pick(['North', 'S', 'W.', 'East', 'Old'])} {self._pick(_values('streets'))}",
                f"{self.rng.randint(1, 99)}th",
            ]
        )
        if r < 0.62:
            flat = self._pick(
                [
                    "",
                    "",
                    "",
                    f" Apt {number[-1]}",
                    f", Suite {number}",
                    " #" + number[:2],
                    f" Apt. {number[:3]}",
                    f", Unit {number[0]}B",
                ]
            )
            return f"{number} {base} {self._pick(_values('ways'))}{flat}"
        if r < 0.68:
            return f"{self._pick(['P.O. Box', 'PO Box', 'Postfach'])} {number}"
        road = self._pick(_values("abroad")).replace("{C}", self._city()).replace("{L}", self._last())
        return self._pick(
            [
                f"{road} {number[:3]}",
                f"{number[:3]} {road}",
                f"{road} {number[:2]}",
                f"{number[:4]} {road} {number[:2]}",
                road,
            ]
        )

    def _zip(self) -> str:
        return self._digits(
            self._pick(
                [
                    "#####",
                    "#####",
                    "#####-####",
                    "@@# #@@",
                    "@## #@@",
                    "@#@ #@#",
                    "####",
                    "### ##",
                    "#####",
                    "##-###",
                    "####@@",
                ]
            )
        )

    def _address(self) -> str:
        street, city, code = self._street(), self._city(), self._zip()
        gap = self._pick([", ", ", ", "\n", " ", ",\n", "\n "])
        tail = self._pick(
            [
                f"{city}, {self._pick(_values('codes'))} {code}",
                f"{city}, {self._state()} {code}",
                f"{city} {code}",
                f"{code} {city}",
                f"{city}",
                f"{city}{gap}{code}",
                f"{code} {city}, {self._country()}",
                f"{city}{gap}{self._country()} {code}",
                f"{city} {self._pick(_values('codes'))} {code}",
                f"{city}{gap}{self._country()}",
            ]
        )
        extra = self._pick(
            ["", "", "", "", f"{gap}{self._pick(['Suite', 'Apt.', 'Flat', 'Unit', 'Floor'])} {self._digits('##')}"]
        )
        return f"{street}{extra}{gap}{tail}"

    def _brand(self) -> str:
        word = "".join(self._pick(_values("syllables")) for _ in range(self.rng.randint(2, 3))).capitalize()
        return self._pick(
            [
                word,
                word,
                word,
                word.upper(),
                self._digits("@@@"),
                self._digits("@@"),
                f"{word} {self._pick(_values('streets'))}",
                f"{self._pick(_values('streets'))}{self._pick(_values('streets'))}",
            ]
        )

    def _company(self) -> str:
        a, b = self._last(), self._last()
        r = self.rng.random()
        if r < 0.25:
            return self._brand()
        if r < 0.45:
            return self._pick(
                [f"{a}-{b}", f"{a}, {b} and {self._last()}", f"{a} & {b}", f"{a} and {b}", f"{a}, {b} & {self._last()}"]
            )
        stem = self._pick(
            [
                a,
                a,
                self._brand(),
                self._city(),
                f"{a} {b}",
                self._pick(_values("streets")),
                f"{self._pick(_values('streets'))} {self._pick(_values('streets'))}",
            ]
        )
        return f"{stem} {self._pick(_values('firms'))}"

    def _hospital(self) -> str:
        stem = self._pick(
            [
                self._city(),
                self._last(),
                f"St. {self._first()}'s",
                f"St {self._first()}",
                f"{self._city()} {self._pick(['General', 'Mercy', 'Regional', 'University'])}",
                f"{self._first()} {self._last()}",
                self._pick(_values("streets")),
                "Mount " + self._last(),
                "Sacred Heart",
            ]
        )
        if self.rng.random() < 0.12:
            return self._pick(
                [
                    f"Hospital de {self._city()}",
                    f"Klinikum {self._city()}",
                    f"Hôpital {self._last()}",
                    f"CHU de {self._city()}",
                    f"Ospedale {self._last()}",
                    f"University Hospital of {self._city()}",
                    f"Universitätsklinikum {self._city()}",
                    f"{self._city()} Gen Hosp",
                ]
            )
        return f"{stem} {self._pick(_values('care'))}" + (f" of {self._city()}" if self.rng.random() < 0.05 else "")

    def _university(self) -> str:
        return self._pick(
            [
                f"University of {self._city()}",
                f"{self._last()} {self._pick(_values('schools'))}",
                f"{self._city()} {self._pick(_values('schools'))}",
                f"Universität {self._city()}",
                f"Université de {self._city()}",
            ]
        )

    def _org(self) -> str:
        r = self.rng.random()
        if r < 0.5:
            return self._company()
        if r < 0.65:
            return self._university() if r < 0.58 else self._hospital()
        if r < 0.72:
            return f"The {self._pick(_values('streets'))} {self._pick(_values('streets'))}s"
        stems = [self._city(), self._last(), self._pick(_values("streets")), "St. " + self._first(), "National"]
        return f"{self._pick(stems)} {self._pick(_values('bodies'))}"

    def _day(self) -> datetime.date:
        return datetime.date(1930, 1, 1) + datetime.timedelta(days=self.rng.randrange(36500))

    def _date(self) -> str:
        d = self._day()
        m, y2 = _values("months")[d.month - 1], f"{d.year % 100:02d}"
        th = "th" if 10 <= d.day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(d.day % 10, "th")
        forms = [
            d.isoformat(),
            f"{d.month}/{d.day}/{d.year}",
            f"{d.month:02d}/{d.day:02d}/{d.year}",
            f"{d.day:02d}.{d.month:02d}.{d.year}",
            f"{d.month}/{d.day}/{y2}",
            f"{m} {d.day}, {d.year}",
            f"{d.day} {m} {d.year}",
            f"{d.day:02d}{m[:3].upper()}{d.year}",
            f"{d.day}-{m[:3]}-{d.year}",
            f"{m[:3]} {d.day}, {d.year}",
            f"{m} {d.day}{th}",
            f"{d.day}{th} of {m} {d.year}",
            f"{m} {d.day}",
            f"{d.day} {m}",
            f"{d:%A}, {m} {d.day}, {d.year}",
            f"{d.year}/{d.month:02d}/{d.day:02d}",
            f"{m} {d.day}{th}, {d.year}",
            f"{m[:3]}. {d.day}",
            f"{d.month}-{d.day}-{y2}",
            f"{d.day} {m[:3]} {y2}",
        ]
        return self._pick(forms)

    def _monthyear(self) -> str:
        d = self._day()
        return self._pick(
            [
                f"{_values('months')[d.month - 1]} {d.year}",
                f"{_values('months')[d.month - 1][:3]} {d.year}",
                f"{_values('months')[d.month - 1]} of {d.year}",
                f"{d.month:02d}/{d.year}",
            ]
        )

    def _weekday(self) -> str:
        return f"{self._day():%A}"

    def _phone(self) -> str:
        return self._digits(self._pick(_values("phones")))

    def _email(self) -> str:
        first, last = self._first().lower().replace(" ", ""), self._last().lower().replace(" ", "").replace("'", "")
        host = self._pick([self._brand().lower().replace(" ", ""), "gmail", "mail", "hospital", last, "example"])
        box = self._pick([f"{first}.{last}", first[0] + last, first + self._digits("##"), last, f"{first}_{last}"])
        return f"{box}@{host}.{self._pick(_values('mail domains'))}"

    def _url(self) -> str:
        host = f"{self._brand().lower().replace(' ', '')}.{self._pick(_values('web domains'))}"
        return (
            self._pick(["", "www.", "https://", "http://www.", "https://"])
            + host
            + self._pick(["", "", "/" + self._last().lower(), "/"])
        )

    def _id(self) -> str:
        return self._digits(
            self._pick(
                [
                    "########",
                    "#######",
                    "######",
                    "##-###-###",
                    "@######",
                    "@@######",
                    "###-##-#####",
                    "@##-####",
                    "#####",
                    "@@@-####",
                    "##@@##",
                    "MRN######",
                    "##########",
                    "@@##@@@####",
                    "#-####-#",
                    "01-7##-1###",
                    "@########",
                    "@@#######@",
                ]
            )
        )

    def _ssn(self) -> str:
        return self._digits(self._pick(["###-##-####", "### ## ####", "#########"]))

    def _card(self) -> str:
        return self._digits(
            self._pick(
                [
                    "4### #### #### ####",
                    "5###-####-####-####",
                    "4###############",
                    "37#############",
                    "6011############",
                    "############",
                    "30############",
                    "4############",
                ]
            )
        )

    def _iban(self) -> str:
        return self._digits(
            self._pick(
                [
                    "DE####################",
                    "GB##@@@@##############",
                    "FR## #### #### #### #### #### ###",
                    "IT##@######################",
                    "CH###################",
                ]
            )
        )

    def _ip(self) -> str:
        return (
            ".".join(str(self.rng.randint(0, 255)) for _ in range(4))
            if self.rng.random() < 0.75
            else ":".join(f"{self.rng.randint(0, 65535):x}" for _ in range(8))
        )

    def _age(self) -> str:
        return str(self.rng.randint(1, 99))

    def _time(self) -> str:
        return f"{self.rng.randint(0, 23):02d}:{self.rng.randint(0, 59):02d}"


@cache
def towns(part: str) -> list[str]:
    """Names of towns of the world, those of the gazetteer."""
    from trialops.privacy.gazetteer import listed_towns

    return [town for town in listed_towns() if text_names.part_of(town) == part]


@cache
def countries() -> tuple[str, ...]:
    """Countries of the world in English."""
    from trialops.privacy.gazetteer import COUNTRIES

    return COUNTRIES
