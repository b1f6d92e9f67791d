"""Commands of medical coding: the review queue, and the dictionaries to code with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trialops.standards.dictionaries import Dictionaries
    from trialops.standards.review import Item, ReviewQueue

_STATES = ("open", "second", "conflict", "accepted", "rejected")
_FILE = click.Path(path_type=Path)


@click.group()
def coding() -> None:
    """Medical coding: the queue of codes that wait for a person, and the dictionaries."""


def _queue() -> ReviewQueue:
    from trialops.settings import settings
    from trialops.standards.review import ReviewQueue
    from trialops.stores.database import connect, migrate
    from trialops.stores.objects import open_store
    from trialops.stores.study import bound_study

    chosen = settings()
    engine = connect(chosen.database)
    migrate(engine)
    return ReviewQueue(engine, bound_study(open_store(chosen.objects)) or chosen.study)


def _dictionaries(vocabulary: str = "") -> Dictionaries:
    from trialops.settings import settings
    from trialops.standards.dictionaries import dictionary_folder, load_dictionaries

    return load_dictionaries(dictionary_folder(settings().home, vocabulary))


def _who(actor: str) -> str:
    from trialops.settings import settings

    return actor or settings().who


@coding.command("queue")
@click.option(
    "--state", type=click.Choice(_STATES), default=None, help="Only items in this state.  [default: open ones]"
)
@click.option("--all", "everything", is_flag=True, help="Settled items too.")
@click.option("--assignee", default="", help="Only items on this person's desk.")
@click.option("--limit", default=50, show_default=True, help="Most items to list.")
def queue_command(state: str | None, everything: bool, assignee: str, limit: int) -> None:
    """List items, those on the most rows first."""
    items = _queue().items(state or "", assignee=assignee)
    if state is None and not everything:
        items = [item for item in items if item.state not in ("accepted", "rejected")]
    for item in items[:limit]:
        first = f"{item.candidates[0].code} ({item.candidates[0].score:.2f})" if item.candidates else "no candidate"
        click.echo(f"{item.item[:12]}  {item.state:9} {item.system:10} {item.verbatim[:48]:48}  {item.code or first}")
    click.echo(f"{min(limit, len(items))} of {len(items)} items")


@coding.command()
@click.argument("item")
def show(item: str) -> None:
    """Show one ITEM (its key, or the beginning of it) with candidates and history."""
    _print(_queue().item(item))


def _print(item: Item) -> None:
    click.echo(f"{item.verbatim}\n  item     {item.item}\n  state    {item.state} {item.code} {item.display}".rstrip())
    click.echo(f"  system   {item.system}, {item.release}\n  why      {item.reason}\n  rows     {item.rows}")
    for name, value in sorted(item.context.items()):
        if value:
            click.echo(f"  {name:8} {value}")
    for number, candidate in enumerate(item.candidates, 1):
        click.echo(f"  {number}. {candidate.score:.2f}  {candidate.code:12} {candidate.display}")
        click.echo(f"       {'; '.join(candidate.reasons)}")
    for decision in item.decisions:
        to = f" to {decision.assignee}" if decision.assignee else ""
        click.echo(f"  {decision.at[:19]}  {decision.actor}  {decision.action}{to} {decision.code}: {decision.reason}")


@coding.command()
@click.argument("item")
@click.argument("code")
@click.option("--reason", required=True, help="Why this code.")
@click.option("--actor", default="", help="Who decides.  [default: TRIALOPS_ACTOR or the user]")
def accept(item: str, code: str, reason: str, actor: str) -> None:
    """Accept CODE for ITEM: a candidate's number (1, 2, ...), its code, or any other code of the dictionary."""
    from trialops.standards.review_app import chosen_code

    queue = _queue()
    found = queue.item(item)
    if code.isdigit() and 1 <= int(code) <= len(found.candidates):
        code = found.candidates[int(code) - 1].code
    code, display = chosen_code(found, code, _dictionaries())
    _print(
        queue.decide(found.item, "accept", actor=_who(actor), reason=reason, code=code, display=display, seen=found.id)
    )


@coding.command()
@click.argument("item")
@click.option("--reason", required=True, help="Why it stays uncoded.")
@click.option("--actor", default="", help="Who decides.  [default: TRIALOPS_ACTOR or the user]")
def reject(item: str, reason: str, actor: str) -> None:
    """Leave ITEM uncoded."""
    _print(_queue().decide(item, "reject", actor=_who(actor), reason=reason))


@coding.command()
@click.argument("item")
@click.argument("person")
@click.option("--reason", required=True, help="Why it is theirs.")
@click.option("--actor", default="", help="Who hands over.  [default: TRIALOPS_ACTOR or the user]")
def assign(item: str, person: str, reason: str, actor: str) -> None:
    """Put ITEM on the desk of PERSON."""
    _print(_queue().decide(item, "assign", actor=_who(actor), reason=reason, assignee=person))


@coding.command()
@click.argument("item")
@click.option("--reason", required=True, help="Why the decision does not stand.")
@click.option("--actor", default="", help="Who reopens it.  [default: TRIALOPS_ACTOR or the user]")
def reopen(item: str, reason: str, actor: str) -> None:
    """Take up a settled ITEM again; what was decided stays in its history."""
    _print(_queue().decide(item, "reopen", actor=_who(actor), reason=reason))


@coding.command()
@click.argument("system", type=click.Choice(["LOINC", "ICD-10-CM", "MedDRA", "WHODrug"]))
@click.argument("text")
def lookup(system: str, text: str) -> None:
    """Candidates for TEXT, or the term of a code, in SYSTEM."""
    found = _dictionaries().search(system, text)
    for candidate in found:
        click.echo(f"{candidate.score:.2f}  {candidate.code:12} {candidate.display}  ({'; '.join(candidate.reasons)})")
    if not found:
        click.echo("nothing fits")


@coding.command()
@click.option("--port", default=8765, show_default=True, help="Port on the loopback address; 0 for a free one.")
@click.option("--actor", default="", help="Whose session it is.  [default: TRIALOPS_ACTOR or the user]")
def serve(port: int, actor: str) -> None:
    """Work through the queue in a browser; the address that is printed is for this session's person alone."""
    from trialops.governance.audit import AuditTrail
    from trialops.standards.review_app import ReviewApp
    from trialops.standards.review_app import serve as run_server

    queue, who = _queue(), _who(actor)
    app = ReviewApp(queue, _dictionaries(), who)
    AuditTrail(queue.engine).append(
        actor=who, action="coding.session", object="coding queue", reason="review page opened"
    )
    run_server(app, port, lambda address: click.echo(f"Open {address}\nCtrl-C ends the session of {who}."))


@coding.command("import-loinc")
@click.argument("path", type=_FILE)
def import_loinc(path: Path) -> None:
    """Take over a LOINC release: PATH is Loinc.csv from loinc.org, or CONCEPT.csv from Athena."""
    from trialops.standards.loinc import read_release

    release = read_release(path)
    name = "CONCEPT.csv" if path.name.lower() == "concept.csv" else "Loinc.csv"
    _imported({name: path}, "LOINC", f"{len(release.terms)} terms")


@coding.command("import-icd10")
@click.argument("path", type=_FILE)
def import_icd10(path: Path) -> None:
    """Take over the codes of a fiscal year: PATH is icd10cm-order-YYYY.txt from CMS."""
    from trialops.standards.icd10 import read_order_file

    order = read_order_file(path)
    _imported(
        {f"icd10cm-order-{order.fiscal_year}.txt": path},
        "ICD-10-CM",
        f"{len(order.codes)} codes of fiscal year {order.fiscal_year}",
    )


@coding.command("import-meddra")
@click.argument("folder", type=_FILE)
def import_meddra(folder: Path) -> None:
    """Take over MedDRA: FOLDER holds llt.asc, pt.asc and, for the hierarchy, mdhier.asc."""
    from trialops.standards.dictionaries import read_meddra

    dictionary = read_meddra(folder)
    names = [name for name in ("llt.asc", "pt.asc", "mdhier.asc") if (folder / name).is_file()]
    _imported({f"meddra/{name}": folder / name for name in names}, "MedDRA", dictionary.release)


@coding.command("import-whodrug")
@click.argument("path", type=_FILE)
def import_whodrug(path: Path) -> None:
    """Take over a medication list: PATH is a CSV with columns code, name, preferred_code, preferred_name."""
    from trialops.standards.dictionaries import read_terms

    dictionary = read_terms(path, "WHODrug")
    _imported({"whodrug.csv": path}, "WHODrug", dictionary.release)


def _imported(files: dict[str, Path], system: str, what: str) -> None:
    from trialops.governance.audit import AuditTrail
    from trialops.settings import settings
    from trialops.standards.dictionaries import import_files

    digests = import_files(settings().home, files)
    AuditTrail(_queue().engine).append(
        actor=settings().who,
        action="coding.import",
        object=f"dictionaries/{system}",
        version=what,
        reason="dictionary imported",
        detail=digests,
    )
    click.echo(f"{system}: {what}")
