"""Synthesized sentences and notes with identifiers whose positions are known.

A grammar of sentences (`text_grammar/`) is expanded at random; slots become invented names, places and numbers. The
grammar has a part that the named-entity model learns from and a part that is kept back for judging; sentences, names
and towns of one are not in the other.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trialops.privacy.clinical_terms import TERMS
from trialops.synthetic import text_names
from trialops.synthetic.text_slots import Slots

#: Kind of span of each slot; slots that are missing here identify nobody.
KIND_OF = {
    **dict.fromkeys(("NAME", "FIRST", "LAST", "LASTFIRST", "INITIALS"), "NAME"),
    **dict.fromkeys(("CITY", "COUNTRY", "STATE", "STREET", "ADDRESS", "ZIP"), "LOCATION"),
    **dict.fromkeys(("ORG", "COMPANY", "HOSPITAL", "UNIVERSITY"), "ORGANIZATION"),
    **dict.fromkeys(("DATE", "MONTHYEAR", "WEEKDAY"), "DATE"),
    **dict.fromkeys(("ID", "SSN", "CARD", "IBAN", "IP"), "ID"),
    "PHONE": "PHONE",
    "EMAIL": "EMAIL",
    "URL": "URL",
}
_PIECE = re.compile(r"<([\w]+)>|\{(\w+)\}|\[([^\[\]]*)\]")
_SENTENCES = {"training": ("gen", "gen", "clin", "clin", "none"), "judging": ("gen", "clin", "clin", "none")}
#: Packages of Python's library whose documentation is read.
_PROSE = (
    "asyncio",
    "concurrent/futures",
    "distutils",
    "email",
    "http",
    "importlib",
    "json",
    "logging",
    "tkinter",
    "unittest",
    "urllib",
    "xml/dom",
)
_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_SENTENCE = re.compile(r"(?:(?<=[.!?] )|^)[A-Z][a-z]+(?: [a-z'-]+,?){3,24}\.")


_ERRANDS = (
    "bring",
    "buy",
    "check",
    "send",
    "fix",
    "find",
    "read",
    "sign",
    "open",
    "close",
    "change",
    "update",
    "review",
    "cancel",
    "book",
    "return",
    "call",
    "finish",
)


@dataclass(frozen=True)
class Labelled:
    """A text and its identifiers.

    Attributes:
        text: The text.
        spans: (start, end, kind), in order.
    """

    text: str
    spans: tuple[tuple[int, int, str], ...]


@cache
def grammar(part: str) -> dict[str, list[str]]:
    """Rules of a part: sentences of its own and the terms that both use."""
    rules: dict[str, list[str]] = {}
    for file in (text_names.FOLDER / "terms.txt", TERMS):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                name, _, terms = line.partition(": ")
                rules[name] = [t.strip() for t in terms.split("|")]
    name = ""
    for line in (text_names.FOLDER / f"{part}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            name = line[1:].strip()
        elif line:
            rules.setdefault(name, []).append(line.replace("\\n", "\n"))
    return rules


@cache
def diagnoses(part: str) -> list[str]:
    """Descriptions of ICD-10-CM, a work of the US government; half of the three-character groups for each part."""
    import simple_icd_10_cm as icd

    codes = icd.get_all_codes(with_dots=True)
    kept = {c[:3] for c in codes if text_names.part_of(c[:3]) == "judging"}
    return [icd.get_description(c) for c in codes if (c[:3] in kept) == (part == "judging") and "." in c]


@cache
def prose(part: str) -> list[str]:
    """Plain English sentences about nothing personal: the documentation inside Python's own library."""
    import sysconfig

    found: set[str] = set()
    library = Path(sysconfig.get_paths()["stdlib"])
    for folder in (library, *(library / name for name in _PROSE)):
        for source in sorted(folder.glob("*.py")):
            for text in _DOCSTRING.findall(source.read_text(encoding="utf-8", errors="ignore")):
                found |= set(_SENTENCE.findall(" ".join(text.split())))
    return sorted(s for s in found if text_names.part_of(s) == part)


@cache
def plain_words(part: str) -> list[str]:
    """Plain words; one in five is kept back, so that judging has words the model has not met."""
    lines = (text_names.FOLDER / "words.txt").read_text(encoding="utf-8").splitlines()
    words = {w for line in lines if not line.startswith("#") for w in line.split()}
    return sorted(w for w in words if part == "judging" or text_names.part_of(w) == part)


class Writer:
    """Writes texts.

    Args:
        seed: Same seed, same texts.
        part: "training" or "judging".
    """

    def __init__(self, seed: int, part: str = "training") -> None:
        self.rng = random.Random(f"{part}/{seed}")
        self.part = part
        self.slots = Slots(self.rng, part)
        self.rules = grammar(part)

    def sentence(self, rule: str) -> Labelled:
        """One sentence of a rule of the grammar."""
        out: list[str] = []
        spans: list[tuple[int, int, str]] = []
        self._expand(f"<{rule}>", out, spans, [0])
        return Labelled("".join(out), tuple(spans))

    def _expand(self, template: str, out: list[str], spans: list[tuple[int, int, str]], at: list[int]) -> None:
        last = 0
        for match in _PIECE.finditer(template):
            self._put(template[last : match.start()], out, at)
            last = match.end()
            rule, slot, choice = match.groups()
            if rule:
                self._rule(rule, out, spans, at)
            elif slot:
                value = self.slots.draw(slot)
                if slot in KIND_OF:
                    spans.append((at[0], at[0] + len(value), KIND_OF[slot]))
                self._put(value, out, at)
            else:
                self._expand(self.rng.choice(choice.split("|")), out, spans, at)
        self._put(template[last:], out, at)

    def _put(self, text: str, out: list[str], at: list[int]) -> None:
        if text:
            out.append(text)
            at[0] += len(text)

    def _rule(self, rule: str, out: list[str], spans: list[tuple[int, int, str]], at: list[int]) -> None:
        if rule == "num":
            return self._put(
                str(
                    self.rng.choice(
                        [self.rng.randint(1, 20), self.rng.randint(10, 400), round(self.rng.random() * 20, 1)]
                    )
                ),
                out,
                at,
            )
        if rule == "icd":
            text = self.rng.choice(diagnoses(self.part))
            return self._put(text if self.rng.random() < 0.5 else text[0].lower() + text[1:], out, at)
        if rule == "year":
            return self._put(str(self.rng.randint(1950, 2026)), out, at)
        if rule == "salad":
            return self._put(self._salad(), out, at)
        if rule == "mixed":
            return self._mixed(out, spans, at)
        if rule == "prose":
            return self._put(self.rng.choice(prose(self.part)), out, at)
        if rule == "verb2":
            return self._put(
                self.rng.choice(_ERRANDS),
                out,
                at,
            )
        if rule not in self.rules:
            lower = rule.lower()
            text = self.rng.choice(self.rules[lower])
            return self._put(text.upper() if rule.isupper() else text[0].upper() + text[1:], out, at)
        return self._expand(self.rng.choice(self.rules[rule]), out, spans, at)

    def _salad(self) -> str:
        """Plain words in no order: what they are does not depend on what stands beside them."""
        words = self.rng.choices(plain_words(self.part), k=self.rng.randint(3, 9))
        case = self.rng.random()
        if case < 0.6:
            words[0] = words[0].capitalize()
        elif case < 0.72:
            words = [w.capitalize() for w in words[:4]]
        return " ".join(words) + self.rng.choice([".", ".", "", ":", "?", ",", "!"])

    def _mixed(self, out: list[str], spans: list[tuple[int, int, str]], at: list[int]) -> None:
        """A plain sentence with identifiers in places where nothing announces them."""
        source = self.rng.random()
        text = self._salad() if source < 0.4 else self.rng.choice((prose if source < 0.75 else diagnoses)(self.part))
        words = text.split(" ")
        for _ in range(self.rng.randint(1, 2)):
            slot = self.rng.choice(
                ("NAME", "NAME", "FIRST", "LAST", "CITY", "CITY", "COUNTRY", "ORG", "COMPANY", "DATE", "ID", "PHONE")
            )
            words.insert(self.rng.randint(0, len(words)), "{" + slot + "}")
        self._expand(" ".join(words), out, spans, at)

    def document(self, most: int = 5) -> Labelled:
        """One to `most` sentences of one kind, written neatly or not."""
        kinds = _SENTENCES[self.part]
        kind = self.rng.choice(kinds)
        parts = []
        for _ in range(self.rng.randint(1, most) if self.rng.random() < 0.7 else 1):
            parts.append(self.sentence(kind if self.rng.random() < 0.7 else self.rng.choice(kinds)))
        joint = self.rng.choice([" ", " ", " ", "\n", "  ", ". ", "; "])
        text, spans = "", []
        for piece in parts:
            if text:
                text += joint
            spans += [(a + len(text), b + len(text), k) for a, b, k in piece.spans]
            text += piece.text
        return self._roughened(Labelled(text, tuple(spans)))

    def _roughened(self, note: Labelled) -> Labelled:
        r = self.rng.random()
        if r < 0.08:
            return Labelled(_cased(note.text, str.lower), note.spans)
        if r < 0.13:
            return Labelled(_cased(note.text, str.upper), note.spans)
        if r < 0.17:
            return _without(note, ".,;:")
        if r < 0.23:
            return _redacted(note, self.rng)
        return note

    def documents(self, count: int, most: int = 5) -> Iterator[Labelled]:
        """So many texts."""
        for _ in range(count):
            yield self.document(most)


def _cased(text: str, change: object) -> str:
    """Another case, character by character: positions stay."""
    changed = (change(c) for c in text)  # type: ignore[operator]
    return "".join(n if len(n) == 1 else c for c, n in zip(text, changed, strict=True))


def _edited(note: Labelled, edits: list[tuple[int, int, str]]) -> Labelled:
    """A text with pieces replaced; spans that were replaced are gone, the others move along."""
    out, spans, last, moved = [], list(note.spans), 0, 0
    shifts = []
    for a, b, new in edits:
        out += [note.text[last:a], new]
        moved += len(new) - (b - a)
        shifts.append((b, moved))
        last = b
    text = "".join([*out, note.text[last:]])
    gone = {(a, b) for a, b, _ in edits}

    def at(p: int) -> int:
        return p + next((m for b, m in reversed(shifts) if b <= p), 0)

    return Labelled(text, tuple((at(a), at(b), k) for a, b, k in spans if (a, b) not in gone and at(a) < at(b)))


def _without(note: Labelled, signs: str) -> Labelled:
    return _edited(note, [(i, i + 1, "") for i, c in enumerate(note.text) if c in signs])


def _redacted(note: Labelled, rng: random.Random) -> Labelled:
    """Some identifiers replaced by placeholders: texts that have been scrubbed before look like this."""
    return _edited(note, [(a, b, f"[{k}]") for a, b, k in note.spans if rng.random() < 0.5])
