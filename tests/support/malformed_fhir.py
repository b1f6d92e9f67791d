"""Malformed FHIR deliveries: each a name, a way to write it into a folder, and the reason it must be given."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.fhir_zone import bundle, delete, observation, patient

SECRET = "Quetzalcoatlus"
"""A value that stands in every malformed file; no message may repeat it."""


@dataclass(frozen=True)
class Case:
    """One malformed delivery.

    Attributes:
        name: What is wrong.
        write: Writes it into a folder.
        reason: Reason expected in quarantine or among the ignored.
        items: Items that must be set aside or ignored for it.
        sound: Items beside it in the same file that must be loaded.
    """

    name: str
    write: Callable[[Path], None]
    reason: str
    items: int = 1
    sound: int = 0


def _file(name: str, data: bytes | str) -> Callable[[Path], None]:
    content = data.encode() if isinstance(data, str) else data
    return lambda folder: (folder / name).write_bytes(content) and None


def _person(**more: Any) -> dict[str, Any]:
    return patient("bad", name=[{"family": SECRET}]) | more


def _seen(**more: Any) -> dict[str, Any]:
    return observation("bad", "a", note=[{"text": SECRET}]) | more


def _text(resource: dict[str, Any]) -> str:
    return json.dumps(resource)


PERSON = _text(_person())
SOUND = _text(patient("sound"))


def json_cases() -> Iterator[Case]:
    """Texts that are no sound JSON, each as a line among sound lines, and as a file of its own."""
    faults = {
        "cut off in a text": (PERSON[:-12], "CUT_OFF"),
        "cut off after a value": (PERSON[:-1], "CUT_OFF"),
        "cut off in a word": (PERSON[:-1] + ',"active":tru', "CUT_OFF"),
        "cut off after a colon": (PERSON[:-1] + ',"active":', "CUT_OFF"),
        "no quotes": ("{resourceType: Patient, id: bad, family: " + SECRET + "}", "NOT_JSON"),
        "single quotes": (PERSON.replace('"', "'"), "NOT_JSON"),
        "trailing comma": (PERSON[:-1] + ",}", "NOT_JSON"),
        "comment": ("/* " + SECRET + " */ " + PERSON, "NOT_JSON"),
        "two values": (PERSON + PERSON, "NOT_JSON"),
        "XML": (f"<Patient><id value='{SECRET}'/></Patient>", "NOT_JSON"),
        "CSV": (f"id,family,{SECRET}", "NOT_JSON"),
        "control character": (PERSON.replace("bad", "b\x01d"), "NOT_JSON"),
        "bad escape": (PERSON.replace("bad", "b\\qd"), "NOT_JSON"),
        "key twice": (PERSON[:-1] + ',"gender":"male","gender":"female"}', "DUPLICATE_KEY"),
        "key twice inside": (PERSON.replace('"family"', '"family":"x","family"'), "DUPLICATE_KEY"),
        "type twice": (PERSON[:-1] + ',"resourceType":"Group"}', "DUPLICATE_KEY"),
        "NaN": (_text(_seen(valueInteger=1)).replace(": 1}", ": NaN}"), "NOT_A_NUMBER"),
        "Infinity": (_text(_seen(valueInteger=1)).replace(": 1}", ": -Infinity}"), "NOT_A_NUMBER"),
        "exponent too large": (_text(_seen(valueInteger=1)).replace(": 1}", ": 1e999}"), "HUGE_NUMBER"),
        "exponent too small": (_text(_seen(valueInteger=1)).replace(": 1}", ": 1e-999}"), "HUGE_NUMBER"),
        "endless integer": (_text(_seen(valueInteger=1)).replace(": 1}", f": {'9' * 5000}}}"), "HUGE_NUMBER"),
        "endless fraction": (_text(_seen(valueInteger=1)).replace(": 1}", f": 0.{'9' * 5000}}}"), "HUGE_NUMBER"),
        "number with a leading zero": (_text(_seen(valueInteger=1)).replace(": 1}", ": 007}"), "NOT_JSON"),
        "NUL": (PERSON.replace("bad", "b\\u0000d"), "BAD_CHARACTER"),
        "half a surrogate pair": (PERSON.replace(SECRET, SECRET + "\\ud83d"), "BAD_CHARACTER"),
        "nested too deep": (PERSON[:-1] + ',"x":' + "[" * 70 + "]" * 70 + "}", "TOO_DEEP"),
        "nested without end": ("[" * 200_000, "TOO_DEEP"),
        "objects nested without end": ('{"a":' * 100_000, "TOO_DEEP"),
    }
    for name, (text, reason) in faults.items():
        yield Case(f"line: {name}", _file("Patient-1.ndjson", f"{SOUND}\n{text}\n{SOUND}\n"), reason, 1, 1)
        yield Case(f"file: {name}", _file("bundle-9.json", text), reason)
    yield Case("a list", _file("bundle-9.json", f"[{PERSON}]"), "NOT_FHIR")
    yield Case("a number", _file("bundle-9.json", "42"), "NOT_FHIR")
    yield Case("a text", _file("bundle-9.json", f'"{SECRET}"'), "NOT_FHIR")
    yield Case("null", _file("bundle-9.json", "null"), "NOT_FHIR")
    yield Case("an object of another kind", _file("bundle-9.json", f'{{"{SECRET}": 1}}'), "NOT_FHIR")
    yield Case("lines of another kind", _file("Patient-1.ndjson", f'{{"x": "{SECRET}"}}\n' * 5), "NOT_FHIR", 5)
    yield Case("a line of another kind", _file("Patient-1.ndjson", f'{SOUND}\n{{"x": 1}}\n'), "NO_RESOURCE_TYPE", 1, 1)
    yield Case(
        "a type that is a number",
        _file("Patient-1.ndjson", f'{SOUND}\n{{"resourceType": 7}}\n'),
        "NO_RESOURCE_TYPE",
        1,
        1,
    )


def encoding_cases() -> Iterator[Case]:
    """Texts in other encodings than UTF-8."""
    strange = _text(_person()).replace(SECRET, SECRET + "é")
    latin = json.dumps(_person(gender="é"), ensure_ascii=False)
    for name, data in {
        "UTF-16 with mark": strange.encode("utf-16"),
        "UTF-32 with mark": strange.encode("utf-32"),
        "Windows-1252": latin.encode("cp1252"),
        "overlong": PERSON.encode().replace(b"bad", b"b\xc0\xafd"),
        "surrogates as UTF-8": PERSON.encode().replace(b"bad", b"b\xed\xa0\x80d"),
        "cut inside a character": json.dumps(_person(gender="é"), ensure_ascii=False).encode()[:-2] + b"\xc3",
        "random bytes": bytes(range(128, 256)) * 20,
    }.items():
        yield Case(f"file: {name}", _file("bundle-9.json", data), "WRONG_ENCODING")
        if b"\n" not in data and b"\r" not in data:
            lines = SOUND.encode() + b"\n" + data + b"\n"
            yield Case(f"line: {name}", _file("Patient-1.ndjson", lines), "WRONG_ENCODING", 1, 1)
    # Two bytes a character without a mark: NULs between ASCII letters, which is UTF-8 and no JSON.
    yield Case("file: UTF-16 without mark", _file("bundle-9.json", PERSON.encode("utf-16-le")), "NOT_JSON")


def resource_cases() -> Iterator[Case]:
    """Sound JSON that is no sound resource."""
    resources: dict[str, tuple[dict[str, Any], str]] = {
        "unknown type": (_person(resourceType="Pazient"), "UNKNOWN_TYPE"),
        "type of another case": (_person(resourceType="patient"), "UNKNOWN_TYPE"),
        "abstract type": (_person(resourceType="DomainResource"), "UNKNOWN_TYPE"),
        "a data type": (_person(resourceType="HumanName"), "UNKNOWN_TYPE"),
        "a path as type": (_person(resourceType="../../etc/passwd"), "UNKNOWN_TYPE"),
        "type of R5": (_person(resourceType="InventoryItem"), "UNKNOWN_TYPE"),
        "no id": ({k: v for k, v in _person().items() if k != "id"}, "NO_IDENTITY"),
        "id with blanks": (_person(id="a b"), "BAD_ID"),
        "id that is a path": (_person(id="../x"), "BAD_ID"),
        "id too long": (_person(id="x" * 65), "BAD_ID"),
        "id that is a number": (_person(id=7), "BAD_ID"),
        "id that is null": (_person(id=None), "BAD_ID"),
        "id that is a list": (_person(id=["a"]), "BAD_ID"),
        "unknown element": (_person(**{SECRET: 1}), "UNKNOWN_ELEMENT"),
        "unknown element inside": (_person(name=[{"family": "x", SECRET: 1}]), "UNKNOWN_ELEMENT"),
        "python name of an element": (_person(gender__ext={"id": "x"}), "UNKNOWN_ELEMENT"),
        "number as text": (_seen(valueQuantity={"value": "1.5"}), "WRONG_TYPE"),
        "integer as text": (_seen(valueInteger="1"), "WRONG_TYPE"),
        "fraction for an integer": (_seen(valueInteger=1.5), "WRONG_TYPE"),
        "boolean as number": (_person(active=1), "WRONG_TYPE"),
        "boolean as text": (_person(active="true"), "WRONG_TYPE"),
        "boolean for a number": (_seen(valueQuantity={"value": True}), "WRONG_TYPE"),
        "date as number": (_person(birthDate=19500101), "WRONG_TYPE"),
        "seconds for a time": (_seen(effectiveDateTime=1577872800), "WRONG_TYPE"),
        "object for a list": (_person(name={"family": SECRET}), "WRONG_TYPE"),
        "list for an object": (_seen(code=[{"text": SECRET}]), "WRONG_TYPE"),
        "text for a reference": (_seen(subject=f"Patient/{SECRET}"), "WRONG_TYPE"),
        "number for a reference": (_seen(subject={"reference": 7}), "WRONG_TYPE"),
        "meta that is a text": (_person(meta=SECRET), "WRONG_TYPE"),
        "version that is a number": (_person(meta={"versionId": 7}), "WRONG_TYPE"),
        "null": (_person(gender=None), "EMPTY_ELEMENT"),
        "null in a list": (_person(name=[None]), "EMPTY_ELEMENT"),
        "empty list": (_person(name=[]), "EMPTY_ELEMENT"),
        "empty object": (_person(maritalStatus={}), "EMPTY_ELEMENT"),
        "empty text": (_person(language=""), "EMPTY_ELEMENT"),
        "gender of another list": (_person(gender="f"), "UNKNOWN_CODE"),
        "status of another list": (_seen(status="done"), "UNKNOWN_CODE"),
        "no status": ({k: v for k, v in _seen().items() if k != "status"}, "NOT_R4"),
        "no code": ({k: v for k, v in _seen().items() if k != "code"}, "NOT_R4"),
        "two values of one choice": (_seen(valueInteger=1, valueString="1"), "NOT_R4"),
        "day that does not exist": (_person(birthDate="1950-02-30"), "NOT_R4"),
        "date of another form": (_person(birthDate="01/02/1950"), "NOT_R4"),
        "time without zone": (_seen(effectiveDateTime="2020-01-01T10:00:00"), "NOT_R4"),
        "hour that does not exist": (_seen(effectiveDateTime="2020-01-01T25:00:00Z"), "NOT_R4"),
        "lastUpdated that is a day": (_person(meta={"lastUpdated": "2020-01-01"}), "NOT_R4"),
        "integer beyond 32 bits": (_seen(valueInteger=2**40), "NOT_R4"),
        "base64 that is none": (_person(photo=[{"data": SECRET + "!"}]), "NOT_R4"),
        "contained of no type": (_person(contained=[{"id": "x"}]), "UNKNOWN_TYPE"),
        "contained of unknown type": (_person(contained=[{"resourceType": "Nope", "id": "x"}]), "UNKNOWN_TYPE"),
        "contained with a bad id": (_person(contained=[{"resourceType": "Group", "id": "a b"}]), "BAD_ID"),
        "contained that is wrong": (
            _person(contained=[{"resourceType": "Group", "id": "g", "actual": "yes"}]),
            "WRONG_TYPE",
        ),
        "a bundle as an entry": ({"resourceType": "Bundle", "type": "collection", "id": "b"}, "NOT_STORED"),
        "parameters": ({"resourceType": "Parameters", "id": "b"}, "NOT_STORED"),
        "a URN that leads nowhere": (
            _seen(subject={"reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"}),
            "UNRESOLVED_REFERENCE",
        ),
        "a condition nobody meets": (
            _seen(subject={"reference": f"Patient?identifier=x|{SECRET}"}),
            "UNRESOLVED_REFERENCE",
        ),
    }
    for name, (resource, reason) in resources.items():
        both = bundle([patient("sound"), resource])
        yield Case(f"resource: {name}", _file("bundle-9.json", both), reason, 1, 1)


def bundle_cases() -> Iterator[Case]:
    """Bundles that are none, and entries that are none."""
    entries: dict[str, tuple[Any, str]] = {
        "a text as entry": (SECRET, "BAD_BUNDLE"),
        "null as entry": (None, "BAD_BUNDLE"),
        "request that is a text": ({"request": SECRET, "resource": _person()}, "BAD_BUNDLE"),
        "method that is a number": ({"request": {"method": 7}, "resource": _person()}, "BAD_BUNDLE"),
        "full URL that is a list": ({"fullUrl": [SECRET], "resource": _person()}, "BAD_BUNDLE"),
        "nothing in it": ({"request": {"method": "PUT", "url": "Patient/x"}}, "NO_RESOURCE"),
        "resource that is a text": (
            {"request": {"method": "PUT", "url": "Patient/x"}, "resource": SECRET},
            "NO_RESOURCE_TYPE",
        ),
        "patch": ({"request": {"method": "PATCH", "url": "Patient/x"}, "resource": _person()}, "UNSUPPORTED_METHOD"),
        "unknown method": (
            {"request": {"method": SECRET, "url": "Patient/x"}, "resource": _person()},
            "UNSUPPORTED_METHOD",
        ),
        "deletion of nothing": (delete(""), "BAD_DELETE"),
        "deletion by condition": (delete(f"Patient?name={SECRET}"), "BAD_DELETE"),
        "deletion of an unknown type": (delete("Pazient/x"), "BAD_DELETE"),
        "a read": ({"request": {"method": "GET", "url": f"Patient?name={SECRET}"}}, "NOT_A_CHANGE"),
    }
    for name, (entry, reason) in entries.items():
        data = json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [{"resource": patient("sound")}, entry]})
        yield Case(f"entry: {name}", _file("bundle-9.json", data), reason, 1, 1)
    one = json.dumps(_person())
    yield Case("bundle: no type", _file("bundle-9.json", bundle([], kind="")), "BAD_BUNDLE")
    yield Case("bundle: type unknown", _file("bundle-9.json", bundle([], kind=SECRET)), "BAD_BUNDLE")
    yield Case(
        "bundle: entry is an object",
        _file("bundle-9.json", f'{{"resourceType":"Bundle","type":"batch","entry":{{"resource":{one}}}}}'),
        "BAD_BUNDLE",
    )
    yield Case(
        "bundle: entry twice",
        _file("bundle-9.json", f'{{"resourceType":"Bundle","type":"batch","entry":[{{"resource":{one}}}],"entry":[]}}'),
        "DUPLICATE_KEY",
    )
    yield Case(
        "bundle: type comes last and is another",
        _file("bundle-9.json", f'{{"entry":[{{"resource":{SOUND}}}],"resourceType":"Patient"}}'),
        "NO_IDENTITY",
    )
    yield Case(
        "bundle: cut off between entries", _file("bundle-9.json", bundle([_person(), _person()])[:-3]), "CUT_OFF"
    )
    yield Case("bundle: a tail", _file("bundle-9.json", bundle([_person()]) + b"]"), "NOT_JSON")
    yield Case(
        "bundle: missing comma", _file("bundle-9.json", bundle([_person()] * 2).replace(b"}, {", b"} {")), "NOT_JSON"
    )


def file_cases() -> Iterator[Case]:
    """Files that must not or cannot be opened, or inflate without end."""

    def outside(folder: Path) -> None:
        place = folder.parent / "elsewhere.json"
        place.write_text(PERSON)
        (folder / "bundle-9.json").symlink_to(place)

    def looped(folder: Path) -> None:
        (folder / "bundle-9.json").symlink_to(folder / "bundle-8.json")
        (folder / "bundle-8.json").symlink_to(folder / "bundle-9.json")

    yield Case("link out of the folder", outside, "LINK_OUT_OF_FOLDER")
    yield Case("links in a circle", looped, "UNREADABLE", 2)
    yield Case("link to nothing", lambda f: (f / "bundle-9.json").symlink_to(f / "gone.json"), "NOT_A_FILE")
    yield Case("link to a device", lambda f: (f / "bundle-9.json").symlink_to("/dev/zero"), "LINK_OUT_OF_FOLDER")
    yield Case("folder named as a file", lambda f: (f / "bundle-9.json").mkdir(), "NOT_A_FILE")
    yield Case("pipe", lambda f: os.mkfifo(f / "bundle-9.json"), "NOT_A_FILE")
    yield Case("empty", _file("bundle-9.json", b""), "EMPTY")
    yield Case("white space alone", _file("bundle-9.json", b" \n\t\n"), "CUT_OFF")
    small = gzip.compress(PERSON.encode() + b"\n")
    yield Case("gzip: cut off", _file("Patient-1.ndjson.gz", small[:-9]), "BAD_COMPRESSION")
    yield Case("gzip: damaged", _file("Patient-1.ndjson.gz", small[:20] + b"\0\0\0\0" + small[24:]), "BAD_COMPRESSION")
    yield Case("gzip: wrong checksum", _file("Patient-1.ndjson.gz", small[:-8] + b"\0" * 8), "BAD_COMPRESSION")
    yield Case("gzip: plain text", _file("Patient-1.ndjson.gz", PERSON), "BAD_COMPRESSION")
    yield Case("gzip: zlib", _file("Patient-1.ndjson.gz", zlib.compress(PERSON.encode())), "BAD_COMPRESSION")
    yield Case("gzip: a tail", _file("Patient-1.ndjson.gz", small + b"tail"), "BAD_COMPRESSION")
    yield Case("gzip: a bomb of one line", _file("Patient-1.ndjson.gz", _bomb(b" ", 15)), "BOMB")
    yield Case("gzip: a bomb of empty lines", _file("Patient-1.ndjson.gz", _bomb(b"\n", 15)), "BOMB")
    yield Case("gzip: a bomb of lines", _file("Patient-1.ndjson.gz", _bomb(SOUND.encode() + b"\n", 15)), "BOMB")
    yield Case("gzip: a bomb as a bundle", _file("bundle-9.json.gz", _bomb(b" ", 15)), "BOMB")
    yield Case("zip under another name", _file("bundle-9.json", b"PK\x03\x04" + PERSON.encode()), "NOT_JSON")


def _bomb(unit: bytes, megabytes: int) -> bytes:
    """A gzip stream that inflates a thousandfold."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = unit * (1_000_000 // len(unit) + 1)
    return b"".join(packer.compress(block) for _ in range(megabytes)) + packer.flush()


def large_cases() -> Iterator[Case]:
    """Texts larger than a resource may be; the test lowers the limit."""
    large = _text(_person(photo=[{"data": "QUJD" * 30_000}]))
    yield Case(
        "line too long", _file("Patient-1.ndjson", f"{SOUND}\n{large}\n{_text(patient('s2'))}\n"), "TOO_LARGE", 1, 2
    )
    yield Case("resource too large", _file("bundle-9.json", large), "TOO_LARGE")
    yield Case("entry too large", _file("bundle-9.json", bundle([json.loads(large)])), "TOO_LARGE")
    yield Case("text without an end", _file("bundle-9.json", '{"resourceType":"' + "x" * 200_000), "TOO_LARGE")


def all_cases() -> list[Case]:
    """The corpus, but for the large ones."""
    makers = (json_cases, encoding_cases, resource_cases, bundle_cases, file_cases)
    return [case for make in makers for case in make()]
