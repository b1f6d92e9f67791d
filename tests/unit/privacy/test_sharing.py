"""Sharing with partners: agreement, coarseness, small cells, marks, packages, revocation, expiry."""

from __future__ import annotations

import datetime as dt
import io
import json
from pathlib import Path
from random import Random

import polars as pl
import pytest
import yaml

from tests.support.vaults import MASTER, vault_in
from trialops.errors import TrialOpsError
from trialops.governance.audit import AuditTrail
from trialops.privacy import sharing_package as packages
from trialops.privacy.risk import assess
from trialops.privacy.risk_policy import default_risk_policy
from trialops.privacy.sharing_agreement import Agreement, load_agreement, require_current
from trialops.privacy.sharing_register import ShareRegister
from trialops.privacy.sharing_release import OTHER, prepare, summarise
from trialops.privacy.sharing_trace import trace
from trialops.stores.objects import open_store
from trialops.stores.vault import Vault

TODAY = dt.date(2026, 6, 1)
TERMS = {
    "id": "acme-2026",
    "recipient": "Acme Research",
    "contact": "data@acme.example",
    "purpose": "Secondary analysis of adverse events",
    "legal_basis": "Data use agreement of 2026-05-01, 45 CFR 164.514(e)",
    "expires": dt.date(2026, 12, 31),
    "tables": {
        "dm": ["AGE", "SEX", "RACE", "SITEID", "ARMCD"],
        "ae": ["AESEQ", "AEDECOD", "AESEV", "AESTDY"],
    },
    "small_cells": ["AE.AEDECOD"],
}


def terms(**changes: object) -> str:
    kept = {k: v for k, v in {**TERMS, **changes}.items() if v is not None}
    return yaml.safe_dump(kept)


def agreement(**changes: object) -> Agreement:
    return load_agreement(terms(**changes))


def clean(subjects: int = 300, seed: int = 5) -> dict[str, pl.DataFrame]:
    random = Random(seed)
    ids = [f"p{i:05d}" for i in range(subjects)]
    dm = pl.DataFrame(
        {
            "USUBJID": ids,
            "AGE": [str(random.randint(50, 89)) for _ in ids],
            "SEX": [random.choice("FM") for _ in ids],
            "RACE": [random.choices(["WHITE", "ASIAN", "OTHER THING"], [80, 18, 2])[0] for _ in ids],
            "SITEID": [f"s{random.randint(1, 4)}" for _ in ids],
            "ARMCD": [random.choice(["PBO", "ACT"]) for _ in ids],
            "ETHNIC": ["NOT REPORTED"] * subjects,
        }
    )
    pick = random.choices
    rows = [
        (s, n + 1, pick(["NAUSEA", "HEADACHE", "RARE FEVER"], [60, 39, 1])[0], random.choice(["MILD", "SEVERE"]),
         random.randint(1, 400))
        for s in ids for n in range(random.randint(0, 4))
    ]  # fmt: skip
    ae = pl.DataFrame(rows, schema=["USUBJID", "AESEQ", "AEDECOD", "AESEV", "AESTDY"], orient="row")
    return {"dm": dm, "ae": ae}


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return vault_in(tmp_path / "home", MASTER, study="T1")


# -- the agreement --------------------


def test_an_agreement_is_read_whole() -> None:
    read = agreement()
    assert read.k == 11 and read.expires == dt.date(2026, 12, 31)
    assert read.tables["DM"] == ("USUBJID", "AGE", "SEX", "RACE", "SITEID", "ARMCD")
    assert agreement(k=15).digest != read.digest


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"recipient": None}, "recipient is missing"),
        ({"contact": None}, "contact is missing"),
        ({"legal_basis": None}, "legal_basis is missing"),
        ({"purpose": " "}, "purpose is missing"),
        ({"expires": "soon"}, "expires is not a date"),
        ({"k": 10}, "at least 11"),
        ({"k": 11.5}, "at least 11"),
        ({"k": True}, "at least 11"),
        ({"id": "Acme 2026"}, "id is not"),
        ({"tables": {"ae": ["AEDECOD"]}, "small_cells": None}, "lacks DM"),
        ({"tables": {"dm": "AGE"}}, "mapping of table to columns"),
        ({"small_cells": ["AE.AETERM"]}, "not shared"),
        ({"watermark": "off"}, "not a field"),
    ],
)
def test_a_faulty_agreement_names_its_faults(changes: dict[str, object], what: str) -> None:
    with pytest.raises(TrialOpsError, match=what):
        agreement(**changes)


@pytest.mark.parametrize("text", ["", "- a", "{", "a: [", "just text"])
def test_what_is_no_agreement_is_said_so(text: str) -> None:
    with pytest.raises(TrialOpsError, match="not a YAML mapping"):
        load_agreement(text)


def test_an_agreement_that_ended_is_refused() -> None:
    require_current(agreement(), dt.date(2026, 12, 31))
    with pytest.raises(TrialOpsError, match="ended on 2026-12-31"):
        require_current(agreement(), dt.date(2027, 1, 1))


# -- what is shared --------------------


def test_every_subject_has_ten_others_like_it(vault: Vault) -> None:
    made = prepare(clean(), agreement(), vault)
    quasi = [c for c in default_risk_policy().declared("dm").quasi if c in made.tables["DM"].columns]
    assert made.before.verdict == "fail" and made.coarse.judgement.verdict == "pass" and quasi
    assert assess(made.tables["DM"], quasi).k >= 11
    assert set(made.tables["AE"]["USUBJID"]) <= set(made.tables["DM"]["USUBJID"])
    assert set(made.tables["DM"].columns) <= {"USUBJID", "AGE", "SEX", "RACE", "SITEID", "ARMCD"}


@pytest.mark.parametrize("k", [11, 20, 40])
def test_a_higher_k_holds(vault: Vault, k: int) -> None:
    made = prepare(clean(), agreement(k=k), vault)
    quasi = [c for c in default_risk_policy().declared("dm").quasi if c in made.tables["DM"].columns]
    assert assess(made.tables["DM"], quasi, k=k).k >= k and made.policy["k"] == k


def test_too_few_subjects_are_refused_without_a_count_that_tells(vault: Vault) -> None:
    with pytest.raises(TrialOpsError, match="cannot be shared") as caught:
        prepare(clean(15), agreement(), vault)
    assert "SEX" in caught.value.fix


def test_rare_values_are_replaced_and_the_rest_stays(vault: Vault) -> None:
    tables = clean()
    made = prepare(tables, agreement(), vault)
    counts = made.tables["AE"].group_by("AEDECOD").agg(pl.col("USUBJID").n_unique())
    assert "RARE FEVER" not in counts["AEDECOD"] and made.replaced["AE.AEDECOD"] > 0
    assert set(counts["AEDECOD"]) == {"NAUSEA", "HEADACHE", OTHER}
    assert made.tables["AE"]["AESTDY"].sum() <= tables["ae"]["AESTDY"].sum()


def test_the_summary_hides_small_cells_and_what_would_give_them_away(vault: Vault) -> None:
    made = prepare(clean(), agreement(tables={"dm": ["SEX", "ARMCD"], "ae": ["AEDECOD"]}), vault)
    assert made.summary["subjects"].drop_nulls().min() >= 11  # type: ignore[operator]
    rest = made.tables["DM"].height - 154
    dm = made.tables["DM"].with_columns(pl.Series("ARMCD", ["RARE"] * 4 + ["A"] * 150 + ["B"] * rest))
    hidden = summarise(dm.select("USUBJID", "ARMCD"), 11).filter(pl.col("subjects").is_null())
    assert hidden.height == 2, "one hidden cell alone could be worked out from the total"


@pytest.mark.parametrize(
    ("tables", "what"),
    [
        ({"dm": ["AGE"], "lb": ["LBSTRESN"]}, "table LB"),
        ({"dm": ["AGE", "SHOESIZE"]}, "column DM.SHOESIZE"),
        ({"dm": ["AGE"], "ae": ["SEX"]}, "in DM alone"),
    ],
)
def test_what_is_not_there_or_not_measured_is_refused(vault: Vault, tables: dict[str, list[str]], what: str) -> None:
    data = clean()
    data["ae"] = data["ae"].with_columns(pl.lit("F").alias("SEX"))
    with pytest.raises(TrialOpsError, match=what):
        prepare(data, agreement(tables=tables, small_cells=None), vault)


def test_the_same_again_is_the_same(vault: Vault) -> None:
    first, second = (prepare(clean(), agreement(), vault) for _ in range(2))
    assert all(first.tables[n].equals(second.tables[n]) for n in first.tables)


# -- marks --------------------

RECIPIENTS = ("acme-2026", "bolt-2026", "cern-2026", "dune-2026")


@pytest.fixture
def copies(vault: Vault) -> dict[str, dict[str, pl.DataFrame]]:
    return {n: prepare(clean(), agreement(id=n, recipient=n.upper()), vault).tables for n in RECIPIENTS}


def test_copies_differ_in_identifiers_and_order_alone(copies: dict[str, dict[str, pl.DataFrame]]) -> None:
    values = [c for c in copies["acme-2026"]["AE"].columns if c != "USUBJID"]
    contents = [t["AE"].select(values).sort(values) for t in copies.values()]
    assert all(c.equals(contents[0]) for c in contents)
    ids = [set(t["DM"]["USUBJID"]) for t in copies.values()]
    assert not set.intersection(*ids) and not ids[0] & ids[1]
    assert not ids[0] & set(clean()["dm"]["USUBJID"]), "and none is the identifier of the clean tables"


@pytest.mark.parametrize("who", RECIPIENTS)
@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_identifiers_name_the_recipient(copies: dict[str, dict[str, pl.DataFrame]], who: str, rows: int) -> None:
    leaked = copies[who]["AE"].head(rows).rename({"USUBJID": "patient"})
    found = trace(leaked, {n: t["AE"] for n, t in copies.items()})
    assert found[0].share == who and [t.named for t in found] == [True, False, False, False]


@pytest.mark.parametrize("who", RECIPIENTS)
@pytest.mark.parametrize("part", [1.0, 0.4])
def test_order_names_the_recipient_without_identifiers(
    copies: dict[str, dict[str, pl.DataFrame]], who: str, part: float
) -> None:
    leaked = copies[who]["AE"].drop("USUBJID")
    leaked = leaked.filter(pl.Series([Random(i).random() < part for i in range(leaked.height)]))
    found = trace(leaked, {n: t["AE"] for n, t in copies.items()})
    assert found[0].share == who and found[0].ascents == 1.0 and found[0].identifiers == 0
    assert [t.named for t in found] == [True, False, False, False]


def test_nobody_is_named_for_a_table_in_another_order(copies: dict[str, dict[str, pl.DataFrame]]) -> None:
    leaked = copies["acme-2026"]["AE"].drop("USUBJID").sort("AESTDY", "AEDECOD", "AESEQ")
    assert not any(t.named for t in trace(leaked, {n: t["AE"] for n, t in copies.items()}))
    assert not any(t.named for t in trace(pl.DataFrame({"x": [1]}), {n: t["AE"] for n, t in copies.items()}))


# -- packages --------------------


@pytest.fixture
def sealed(vault: Vault) -> packages.Package:
    return packages.seal_package(b"secret rows" * 100, "acme-2026-1", {"recipient": "Acme Research"}, vault)


def test_a_package_opens_with_key_and_release(vault: Vault, sealed: packages.Package) -> None:
    header = packages.header_of(sealed.data)
    assert header["recipient"] == "Acme Research" and b"secret rows" not in sealed.data
    release = packages.release_of(sealed.data, vault)
    assert packages.open_package(sealed.data, sealed.key, release) == b"secret rows" * 100
    assert packages.open_package(sealed.data, sealed.key.lower().replace("-", " "), release) == b"secret rows" * 100


def test_neither_key_nor_release_opens_it_alone(vault: Vault, sealed: packages.Package) -> None:
    other = packages.seal_package(b"other", "bolt-2026-1", {}, vault)
    release = packages.release_of(sealed.data, vault)
    for key, part in (
        (other.key, release),
        (sealed.key, packages.release_of(other.data, vault)),
        (sealed.key, b""),
        ("", release),
        ("not a key", release),
        (sealed.key[:-2], release),
    ):
        with pytest.raises(TrialOpsError, match="does not open"):
            packages.open_package(sealed.data, key, part)


@pytest.mark.parametrize("seed", range(8))
def test_a_changed_byte_never_opens(vault: Vault, sealed: packages.Package, seed: int) -> None:
    data = bytearray(sealed.data)
    data[Random(seed).randrange(len(data))] ^= 1
    with pytest.raises(TrialOpsError):
        packages.open_package(bytes(data), sealed.key, packages.release_of(bytes(data), vault))


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"TOSHARE1", b"TOSHARE1\xff\xff\xff\xff{}", b"TOSHARE1\0\0\0\x02[]"]
)
def test_what_is_no_package_is_said_so(data: bytes) -> None:
    with pytest.raises(TrialOpsError, match="not a package"):
        packages.header_of(data)


def test_an_archive_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    assert packages.archive({"b": b"2", "a": b"1"}) == packages.archive({"a": b"1", "b": b"2"})
    assert packages.unpack(packages.archive({"a": b"1"}), tmp_path / "out") == ["a"]
    with pytest.raises(TrialOpsError, match="exists already"):
        packages.unpack(packages.archive({"a": b"1"}), tmp_path / "out")
    with pytest.raises(TrialOpsError, match="outside"):
        packages.unpack(packages.archive({"../a": b"1"}), tmp_path / "bad")
    assert not (tmp_path / "a").exists()


# -- the register --------------------


@pytest.fixture
def register(engine, vault: Vault, tmp_path: Path) -> ShareRegister:  # type: ignore[no-untyped-def]
    return ShareRegister(engine, vault, open_store(str(tmp_path / "home")), "steward")


def issue(register: ShareRegister, vault: Vault, share: str = "acme-2026-1", **changes: object) -> packages.Package:
    made = packages.seal_package(b"rows", share, {}, vault)
    register.issue(share, agreement(**changes), made.data, made.key, {"rows": 3})
    return made


def test_issued_opened_and_revoked(register: ShareRegister, vault: Vault, engine) -> None:  # type: ignore[no-untyped-def]
    made, other = issue(register, vault), issue(register, vault, "bolt-2026-1", id="bolt-2026")
    assert register.recipient_key("acme-2026-1", reason="handed over by telephone") == made.key
    assert register.open(made.data, made.key, reason="check", today=TODAY) == b"rows"
    release = register.release(made.data, reason="recipient asked", today=TODAY)
    assert packages.open_package(made.data, made.key, release) == b"rows"
    register.revoke("acme-2026-1", reason="purpose exceeded")
    for act in (
        lambda: register.open(made.data, made.key, reason="again", today=TODAY),
        lambda: register.release(made.data, reason="again", today=TODAY),
        lambda: register.recipient_key("acme-2026-1", reason="again"),
        lambda: register.revoke("acme-2026-1", reason="again"),
    ):
        with pytest.raises(TrialOpsError, match="is revoked"):
            act()
    # Not only the register says so: the bytes cannot be opened by anybody any more.
    with pytest.raises(TrialOpsError, match="key was destroyed"):
        packages.release_of(made.data, vault)
    assert register.open(other.data, other.key, reason="others still open", today=TODAY) == b"rows"
    states = {s.share: (s.state, s.opened) for s in register.shares()}
    assert states == {"acme-2026-1": ("revoked", 2), "bolt-2026-1": ("active", 1)}
    trail = AuditTrail(engine)
    actions = [e.action for e in trail.events()]
    assert actions.count("share.refuse") == 4 and actions.count("share.revoke") == 1 and "key.destroy" in actions
    assert trail.verify().ok and made.key not in json.dumps([e.detail for e in trail.events()], default=str)


def test_expiry_destroys_the_key(register: ShareRegister, vault: Vault) -> None:
    made = issue(register, vault)
    assert register.expire(dt.date(2026, 12, 31)) == []
    with pytest.raises(TrialOpsError, match="is expired"):
        register.open(made.data, made.key, reason="late", today=dt.date(2027, 1, 1))
    with pytest.raises(TrialOpsError, match="key was destroyed"):
        packages.release_of(made.data, vault)
    # Setting the clock back does not bring it back.
    with pytest.raises(TrialOpsError, match="is expired"):
        register.open(made.data, made.key, reason="late", today=TODAY)


def test_a_key_left_by_a_crash_is_destroyed_next_time(
    register: ShareRegister, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = issue(register, vault)
    with monkeypatch.context() as crash:
        crash.setattr(Vault, "destroy", lambda *a, **k: (_ for _ in ()).throw(OSError("power cut")))
        with pytest.raises(OSError, match="power cut"):
            register.revoke("acme-2026-1", reason="purpose exceeded")
    with pytest.raises(TrialOpsError, match="is revoked"):
        register.open(made.data, made.key, reason="x", today=TODAY)
    with pytest.raises(TrialOpsError, match="key was destroyed"):
        packages.release_of(made.data, vault)


def test_what_is_unknown_taken_or_unexplained_is_refused(register: ShareRegister, vault: Vault) -> None:
    made = issue(register, vault)
    with pytest.raises(TrialOpsError, match="registered already"):
        register.issue("acme-2026-1", agreement(), made.data, made.key, {})
    with pytest.raises(TrialOpsError, match="no such package"):
        register.revoke("nobody", reason="x")
    with pytest.raises(TrialOpsError, match="needs a reason"):
        register.revoke("acme-2026-1", reason=" ")
    stranger = packages.seal_package(b"x", "stranger", {}, vault)
    with pytest.raises(TrialOpsError, match="no such package"):
        register.open(stranger.data, stranger.key, reason="x", today=TODAY)
    assert io.BytesIO(register.package("acme-2026-1")).read() == made.data
