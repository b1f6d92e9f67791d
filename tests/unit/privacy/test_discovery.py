"""Discovery: planted personal data are found, clean tables are quiet, masks hold when looked at again."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from components.privacy import discover_pii, maintain_audit_log
from tests.support.homes import artifact, leave, live_in
from tests.support.raw_trial import run as clean_trial
from trialops.errors import TrialOpsError
from trialops.privacy.discovery import default_masking_policy, discover, luhn, npi, parse, ssn
from trialops.privacy.fhir_text import Scrubbers
from trialops.privacy.masking import mask, recheck
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.synthetic.wordlists import FIRST_WOMEN, LAST

ROWS = 300
PLANTED = {
    "ContactEmail": "email",
    "home_page": "url",
    "ip_addr": "ip_address",
    "SSN": "ssn",
    "mobile": "phone",
    "payment": "card_number",
    "referrer": "npi",
    "MRN": "record_number",
    "policy_no": "account",
    "DOB": "birth_date",
    "VisitDate": "date",
    "AGE": "age_over_89",
    "zip": "postal_code",
    "street_address": "address",
    "city": "town",
    "last_name": "person_name",
    "serial_no": "device_serial",
    "remarks": "name_in_text",
    # Names that say nothing: the values alone tell.
    "c1": "email",
    "c2": "ssn",
    "c3": "phone",
    "c4": "date",
    "c5": "address",
}


def checked(digits: str) -> str:
    """The digits with their check digit."""
    return next(digits + str(d) for d in range(10) if luhn(digits + str(d)))


def planted(seed: int = 3) -> pl.DataFrame:
    draw = random.Random(seed)

    def digits(n: int) -> str:
        return "".join(draw.choice("0123456789") for _ in range(n))

    def one() -> dict[str, Any]:
        last, first = draw.choice(LAST), draw.choice(FIRST_WOMEN)
        day = f"{draw.randint(1940, 2015)}-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}"
        number = next(n for n in iter(lambda: f"1{digits(8)}", "") if n)
        return {
            "ContactEmail": f"{first}.{last}{digits(2)}@example.org".lower(),
            "home_page": f"https://example.org/{digits(5)}",
            "ip_addr": f"10.{draw.randint(0, 255)}.{draw.randint(0, 255)}.{draw.randint(0, 255)}",
            "SSN": f"{draw.randint(100, 665)}-{draw.randint(10, 99)}-{draw.randint(1000, 9999)}",
            "mobile": f"({digits(3)}) 555-{digits(4)}",
            "payment": checked("4" + digits(14)),
            "referrer": next(number + str(d) for d in range(10) if npi(number + str(d))),
            "MRN": f"MRN{digits(7)}",
            "policy_no": f"HP {digits(8)}",
            "DOB": day,
            "VisitDate": day,
            "AGE": float(draw.randint(60, 95)),
            "zip": f"{draw.randint(10000, 99999)}",
            "street_address": f"{draw.randint(1, 999)} {last} Street",
            "city": last,
            "last_name": last,
            "serial_no": f"SN-{digits(6)}",
            "remarks": f"Spoke with {first} {last} by telephone 617-555-{digits(4)} about the appointment.",
            "c1": f"{first}{digits(3)}@mail.example.com",
            "c2": f"{draw.randint(100, 665)}-{draw.randint(10, 99)}-{draw.randint(1000, 9999)}",
            "c3": f"617-555-{digits(4)}",
            "c4": day,
            "c5": f"{draw.randint(1, 999)} Meadow Lane",
            "LBORRES": f"{draw.uniform(1, 200):.1f}",
            "TESTCD": draw.choice(["ALT", "AST", "BILI"]),
        }

    return pl.DataFrame([one() for _ in range(ROWS)])


def clean_tables(seed: int = 4) -> dict[str, pl.DataFrame]:
    """Tables as the platform makes them: results, codes, pseudonyms, study days."""
    draw = random.Random(seed)
    name = "abcdefghijklmnopqrstuvwxyz234567"
    ids = ["".join(draw.choice(name) for _ in range(16)) for _ in range(60)]
    n = 500
    labs = pl.DataFrame(
        {
            "USUBJID": [draw.choice(ids) for _ in range(n)],
            "LBTESTCD": [draw.choice(["ALT", "AST", "BILI", "CREAT"]) for _ in range(n)],
            "LBTEST": [draw.choice(["Alanine Aminotransferase", "Bilirubin", "Creatinine"]) for _ in range(n)],
            "LBORRES": [f"{draw.uniform(0.1, 400):.{draw.randint(0, 3)}f}" for _ in range(n)],
            "LBSTRESN": [draw.uniform(0.1, 400) for _ in range(n)],
            "LBDY": [draw.randint(-30, 400) for _ in range(n)],
            "LBLOINC": [draw.choice(["1742-6", "1920-8", "1975-2"]) for _ in range(n)],
            "LBSEQ": list(range(n)),
            "VISIT": [draw.choice(["SCREENING 1", "WEEK 2", "WEEK 24", "END OF TREATMENT"]) for _ in range(n)],
            "KNOWNDY": [draw.randint(1, 400) for _ in range(n)],
        }
    )
    measurement = pl.DataFrame(
        {
            "measurement_id": [draw.randint(10**17, 10**18) for _ in range(n)],
            "person_id": [draw.randint(10**9, 10**10) for _ in range(n)],
            "measurement_concept_id": [draw.randint(3000000, 46000000) for _ in range(n)],
            "value_as_number": [round(draw.uniform(0, 300), 2) for _ in range(n)],
            "measurement_source_value": [draw.choice(["718-7", "2345-7", "8480-6"]) for _ in range(n)],
            "unit_source_value": [draw.choice(["mg/dL", "mmol/L", "10*3/uL"]) for _ in range(n)],
        }
    )
    ages = pl.DataFrame(
        {
            "USUBJID": ids,
            "AGE": [float(draw.randint(50, 89)) for _ in ids],
            "AGEU": ["YEARS"] * len(ids),
            "SITEID": [ids[i % 3] for i in range(len(ids))],
            "ARM": [draw.choice(["Placebo", "Xanomeline High Dose", "Xanomeline Low Dose"]) for _ in ids],
            "COUNTRY": ["USA"] * len(ids),
        }
    )
    return {"clean/lb": labs, "omop/measurement": measurement, "clean/dm_like": ages} | {
        f"clean/{k.lower()}": f for k, f in clean_trial().tables.items()
    }


@pytest.fixture(scope="module")
def scrubbers() -> Scrubbers:
    return Scrubbers("strict")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


@pytest.mark.slow
def test_everything_planted_is_found_and_named(scrubbers: Scrubbers) -> None:
    found = {f.column: f.kind for f in discover("t", planted(), scrubber=scrubbers.notes)}
    assert found == PLANTED


def test_clean_tables_are_quiet(scrubbers: Scrubbers) -> None:
    tables = clean_tables()
    alarms = [(f.table, f.column, f.kind) for n, t in tables.items() for f in discover(n, t, scrubber=scrubbers.notes)]
    assert sum(t.width for t in tables.values()) > 40
    assert alarms == []


def test_one_leak_in_a_clean_column_of_text(scrubbers: Scrubbers) -> None:
    texts = [f"Subject reported nausea after dose {i}, resolved without treatment." for i in range(40)]
    leak = "Called Mrs. Ottoline Vandersloot at 617-555-0188 on 12 March 2014."
    assert discover("t", pl.DataFrame({"remark": texts}), scrubber=scrubbers.notes) == []
    found = discover("t", pl.DataFrame({"remark": [*texts, leak]}), scrubber=scrubbers.notes)
    assert [(f.kind, f.matched) for f in found] == [("name_in_text", 1)]


@pytest.mark.slow
def test_masks_hold_when_looked_at_again(home: Path, scrubbers: Scrubbers) -> None:
    vault, frame = Step("mask", {}, settings()).vault, planted()
    found = discover("t", frame, scrubber=scrubbers.notes)
    masked = mask(frame, found, vault, scrubber=scrubbers.notes)
    recheck("t", masked, found, scrubber=scrubbers.notes)
    by = {f.column: f.mask for f in found}
    for column, how in by.items():
        before, after = set(frame[column].cast(pl.String)), set(masked[column].drop_nulls())
        if column != "AGE":  # an age up to 89 stays
            assert not before & after, column
        if how == "tokenise":
            assert masked[column].n_unique() == frame[column].n_unique()
    assert set(masked["DOB"].drop_nulls()) <= {str(y) for y in range(1940, 2016)}
    assert {a for a in masked["AGE"] if not a.replace(".", "").isdigit()} == {"90+"}
    assert masked["remarks"].str.contains(r"\[NAME\]").all()
    assert masked["TESTCD"].equals(frame["TESTCD"])
    # A mask that does nothing is noticed, and the message quotes nothing.
    with pytest.raises(TrialOpsError, match="still holds personal data") as caught:
        recheck("t", frame, found[:1], scrubber=scrubbers.notes)
    assert "@" not in str(caught.value)


def test_check_digits() -> None:
    assert luhn("4111111111111111") and not luhn("4111111111111112") and not luhn("12")
    assert npi("1234567893") and not npi("1234567890")  # the example of the CMS specification
    assert ssn("219-09-9999") and not ssn("000-12-3456") and not ssn("666-12-3456") and not ssn("123-00-4567")


def test_hash_is_keyed_and_stable(home: Path) -> None:
    vault = Step("mask", {}, settings()).vault
    policy = default_masking_policy()
    hashed = type(policy.kinds["email"])(**{**policy.kinds["email"].__dict__, "mask": "hash"})
    changed = type(policy)(**{**policy.__dict__, "kinds": {**policy.kinds, "email": hashed}})
    frame = pl.DataFrame({"email": ["a@b.org", "a@b.org", "c@d.org", None]})
    found = discover("t", frame, changed)
    out = mask(frame, found, vault, policy=changed)["email"].to_list()
    assert out[0] == out[1] != out[2] and out[3] is None and len(out[0]) == 32
    import hashlib

    assert out[0] != hashlib.sha256(b"a@b.org").hexdigest()[:32]


def test_policy_is_checked() -> None:
    import yaml

    from trialops.privacy import discovery

    data = yaml.safe_load(Path(discovery.__file__).with_name("masking.yaml").read_text())
    with pytest.raises(TrialOpsError, match="not usable"):
        parse({**data, "kinds": {"x": {"identifier": "A", "mask": "blur"}}})


@pytest.mark.slow
def test_component_over_lake_and_database(home: Path) -> None:
    run = Step("setup", {}, settings())
    run.lake.write("clean/lb", clean_tables()["clean/lb"])
    run.lake.write("partner/contacts", planted().select("ContactEmail", "last_name", "LBORRES"))
    run.trail.append(actor="tester", action="note", object="x", reason="call back")
    found, page = artifact(home, "findings"), artifact(home, "report")
    assert discover_pii.python_func(found, page, "*", True) == 2
    rows = run.read_table(found)
    assert set(rows["column"]) == {"ContactEmail", "last_name"} and set(rows["table"]) == {"partner/contacts"}
    commit = run.lake.versions("masked/partner_contacts")[0]
    assert commit["rows"] == ROWS
    text = Path(page.path).read_text()
    assert "partner/contacts" in text and "@example.org" not in text


def test_audit_log_is_verified_anchored_and_summed_up(home: Path) -> None:
    import sqlalchemy as sa

    run = Step("setup", {}, settings())
    for i in range(3):
        run.trail.append(actor="tester", action="note", object=f"o{i}")
    made, page = artifact(home, "summary"), artifact(home, "report")
    assert maintain_audit_log.python_func(made, page) == "pass"
    document = json.loads(Path(made.path).read_text())
    assert document["actions"] == {"note": 3} and document["head"] == 3
    assert list(run.objects.list("audit/anchors")) and list(run.objects.list("audit/summaries"))
    maintain_audit_log.python_func(made, page)
    assert json.loads(Path(made.path).read_text())["since"] == 3
    with run.engine.begin() as connection:
        connection.execute(sa.text("DROP TRIGGER audit_events_no_update"))
        connection.execute(sa.text("UPDATE audit_events SET object = 'other' WHERE seq = 2"))
    anchors = len(list(run.objects.list("audit/anchors")))
    assert maintain_audit_log.python_func(made, page) == "fail"
    assert json.loads(Path(made.path).read_text())["bad"] == 2
    assert len(list(run.objects.list("audit/anchors"))) == anchors
