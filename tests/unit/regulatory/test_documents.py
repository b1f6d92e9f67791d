"""Documents: what is printed, the same bytes from the same cut, versions, signatures, and a changed byte."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from pipelines.cli import cli
from tests.support.homes import leave, live_in
from trialops.errors import TrialOpsError
from trialops.governance.signatures import Signatures
from trialops.pages import plots
from trialops.regulatory.documents.content import (
    Chapter,
    Chart,
    DataTable,
    Document,
    Paragraph,
    Population,
    rows_of,
    share,
    text_of,
)
from trialops.regulatory.documents.html import to_html
from trialops.regulatory.documents.pdf import to_pdf
from trialops.regulatory.documents.register import (
    MANIFEST,
    check_version,
    read_file,
    register_document,
    signatures_on,
    version_of,
    versions,
)
from trialops.settings import settings
from trialops.stores.context import Step

PASSPHRASE = "correct horse battery"
SAFETY = Population("Safety population", 254)
STAMP = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "t1-dsur-blinded-2025-12-31"


def document(events: int = 45, **change: object) -> Document:
    rows = rows_of(
        [
            ("CARDIAC DISORDERS", events, share(12, 86), 0.1234567),
            ("  SYNCOPE <b> #x [y] $z$ \\", 3, share(1, 86), None),
        ]
        * 60
    )
    made = Document(
        kind="dsur",
        title="Development Safety Update Report",
        study="T1",
        audience="blinded",
        cut=date(2025, 12, 31),
        stamp=STAMP,
        source="a" * 64,
        program="b" * 16,
        facts={"Sponsor": "Example & Co", "IND": "999999"},
        chapters=(
            Chapter(
                "7",
                "Summary tabulations",
                (
                    Paragraph("What <script>alert(1)</script> and #let x = 1 look like."),
                    DataTable(
                        "7.1", "Serious adverse events", SAFETY, ("Term", "Events", "n (%)", "Rate"), rows, ("A note.",)
                    ),
                    DataTable("7.2", "Deaths", SAFETY, ("Subject", "Day"), (), listing=True),
                    Chart(
                        "7.3",
                        "Time to first event",
                        SAFETY,
                        plots.lines([("a", [0, 1], [0, 1])], xlabel="x", ylabel="y"),
                    ),
                ),
            ),
        ),
    )
    return replace(made, **change)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    monkeypatch.setenv("TRIALOPS_ROLE", "regulatory affairs")
    live_in(tmp_path / "home", monkeypatch)
    yield Step("documents", {}, settings())
    leave()


def test_the_same_content_and_stamp_are_the_same_bytes() -> None:
    assert to_pdf(document()) == to_pdf(document()) and to_html(document()) == to_html(document())
    later = replace(document(), stamp=datetime(2027, 5, 5, tzinfo=UTC))
    assert later.digest == document().digest and to_pdf(later) != to_pdf(document())
    assert document(46).digest != document().digest


def test_the_pdf_is_an_archival_tagged_file_with_its_stamp_as_date() -> None:
    made = to_pdf(document())
    assert made.startswith(b"%PDF-1.7") and b"pdfaid:part" in made and b"/StructTreeRoot" in made
    assert re.search(rb"/CreationDate ?\(D:20260101000000Z\)", made)
    assert b"DejaVuSans" in made  # fonts are inside


def test_the_page_says_what_every_table_was_made_of_and_runs_nothing() -> None:
    page = to_html(document()).decode()
    assert page.count("Data cut 2025-12-31 · source aaaaaaaaaaaa · program bbbbbbbbbbbb") == 4
    assert page.count("Safety population (N = 254)") == 3 and "<em>None.</em>" in page
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert '<td class="under">SYNCOPE' in page and '<td class="right">12 (14.0)</td>' in page


def test_cells() -> None:
    cells = [text_of(v) for v in (None, 1234, 0.12345678, float("nan"), True, "x")]
    assert cells == ["–", "1,234", "0.1235", "–", "yes", "x"] and share(0, 0) == "0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: DataTable("1", "t", SAFETY, ("a", "b"), (("x",),)), "1 cells under 2 heads"),
        (lambda: document(stamp=datetime(2026, 1, 1)), "no time zone"),  # noqa: DTZ001
        (lambda: replace(document(), chapters=document().chapters * 2), "the number 7.1"),
    ],
)
def test_what_is_no_document(change: object, message: str) -> None:
    with pytest.raises(TrialOpsError, match=message):
        change()  # type: ignore[operator]


def test_versions_are_numbered_and_the_same_content_is_the_same_version(run: Step) -> None:
    first, new = register_document(run, document())
    again, known = register_document(run, replace(document(), stamp=datetime(2027, 1, 1, tzinfo=UTC)))
    assert (first.document, first.version, new, known) == (NAME, 1, True, False) and again == first
    second, _ = register_document(run, document(46))
    assert (second.version, len(versions(run, NAME))) == (2, 2) and second.manifest != first.manifest
    assert read_file(run, first, f"{NAME}.pdf") == to_pdf(document())
    with pytest.raises(TrialOpsError, match="no such document") as caught:
        version_of(run, "t1-dsmb")
    assert NAME in caught.value.fix
    inside = b"".join(p.read_bytes() for p in (settings().home / "documents").rglob("*") if p.is_file())
    assert b"SYNCOPE" not in inside and b"%PDF" not in inside  # nothing lies there in the clear
    with pytest.raises(DatabaseError), run.engine.begin() as connection:
        connection.execute(text("UPDATE documents SET manifest = 'x'"))


def test_signed_and_a_changed_byte_is_found(run: Step, tmp_path: Path) -> None:
    made, _ = register_document(run, document())
    Signatures(run.engine, run.vault, cost=2**4).enrol("alovelace", "Ada Lovelace", PASSPHRASE)
    told = CliRunner().invoke(cli, ["documents", "sign", NAME, "--user", "alovelace", "--passphrase", PASSPHRASE])
    assert told.exit_code == 0 and "approved by Ada Lovelace" in told.output, told.output
    whole = CliRunner().invoke(cli, ["documents", "check", NAME])
    assert whole.exit_code == 0 and "holds" in whole.output and check_version(run, made) == []
    out = tmp_path / "out"
    got = CliRunner().invoke(
        cli, ["documents", "get", NAME, "--to", str(out), "--purpose", "to be filed with the agency"]
    )
    assert got.exit_code == 0, got.output
    assert (out / f"{NAME}.pdf").read_bytes() == to_pdf(document()) and (out / MANIFEST).exists()
    # A byte of the stored file.
    file = next(p for p in (settings().home / "documents").rglob("*.pdf"))
    kept = bytearray(file.read_bytes())
    kept[len(kept) // 2] ^= 1
    file.write_bytes(bytes(kept))
    assert any("pdf" in problem and "changed" in problem for problem in check_version(run, made))
    assert CliRunner().invoke(cli, ["documents", "check", NAME]).exit_code == 1
    refused = CliRunner().invoke(cli, ["documents", "sign", NAME, "--user", "alovelace", "--passphrase", PASSPHRASE])
    assert refused.exit_code == 1 and len(signatures_on(run, made)) == 1
    # One who may encrypt too: another file in its place is not what the manifest says.
    key = f"documents/{NAME}/0001/{NAME}.pdf"
    run.objects.put(key, run.vault.encrypt("documents", to_pdf(document(46)), context=key))
    assert any("not what was registered" in problem for problem in check_version(run, made))


def test_who_may_read_what(run: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register_document(run, document(audience="unblinded"))
    arguments = [
        "documents",
        "get",
        NAME.replace("blinded", "unblinded"),
        "--to",
        str(tmp_path / "o"),
        "--purpose",
        "for the board meeting",
    ]
    refused = CliRunner().invoke(cli, arguments)
    assert refused.exit_code != 0 and "may not use this: unblinded documents" in refused.output
    assert not (tmp_path / "o").exists()
    monkeypatch.setenv("TRIALOPS_ROLE", "statistician (unblinded)")
    settings.cache_clear()
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    inside = [*arguments[:4], str(settings().home / "here"), *arguments[5:]]
    assert "below the platform's home" in CliRunner().invoke(cli, inside).output
    listed = CliRunner().invoke(cli, ["documents", "list"])
    assert "2025-12-31" in listed.output
