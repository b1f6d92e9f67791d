"""Command that screens spontaneous reports for disproportionality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = click.argument("source", type=click.Path(exists=True, path_type=Path))


@click.command()
@SOURCE
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the results.")
@click.option("--form", type=click.Choice(["rows", "faers"]), default="rows", show_default=True, help="What SOURCE is.")
@click.option("--report", default="report", show_default=True, help="Column of the report id.")
@click.option("--product", default="product", show_default=True, help="Column of the product.")
@click.option("--event", default="event", show_default=True, help="Column of the event.")
@click.option("--delimiter", default=",", show_default=True, help="Of CSV files.")
@click.option("--strata", default="", help="Columns to stratify by, with commas; for FAERS sex,age,year.")
@click.option("--roles", default="PS", show_default=True, help="Roles of products that count, for FAERS, with commas.")
@click.option("--without", multiple=True, metavar="'PRODUCT => EVENT'", help="Leave out reports with this pair.")
@click.option("--no-ebgm", is_flag=True, help="Leave EBGM out.")
@click.option("--public", is_flag=True, help="Published data: small counts are shown on the page.")
@click.option("--policy", default="", help="Policy file; the shipped one by default.")
@click.option("--dataset", default="spontaneous", show_default=True, help="Name the screening is compared under.")
@click.option("--continuous", is_flag=True, help="SOURCE is a batch of new and corrected reports.")
@click.option("--withdrawn", default="", help="File of report ids withdrawn with the batch, one per line.")
def screen(
    source: Path,
    out: Path,
    form: str,
    report: str,
    product: str,
    event: str,
    delimiter: str,
    strata: str,
    roles: str,
    without: tuple[str, ...],
    no_ebgm: bool,
    public: bool,
    policy: str,
    dataset: str,
    continuous: bool,
    withdrawn: str,
) -> None:
    """Screen spontaneous reports: PRR, ROR, IC and EBGM of every product-event pair, as tables and a page.

    SOURCE is a CSV or Parquet file of report rows, a folder of them, or a folder of FAERS quarters. What is measured is
    disproportionality of reporting, not a rate.
    """
    from trialops.pages import render
    from trialops.safety.signals.policy import load_signal_policy
    from trialops.safety.signals.run import asked, screened
    from trialops.settings import settings
    from trialops.stores.context import Step

    stated = load_signal_policy(policy)
    request = asked(
        str(source),
        form=form,
        report=report,
        product=product,
        event=event,
        strata=_words(strata),
        roles=_words(roles),
        without=without,
        ebgm=not no_ebgm,
        public=public,
        delimiter=delimiter,
    )
    run = Step("screen-reports", {"dataset": dataset}, settings())
    found = screened(
        run.lake,
        dataset,
        request,
        stated,
        run.workdir,
        _teller(),
        continuous=continuous,
        withdrawn=withdrawn,
        run_id=run.run_id,
    )
    ref = run.write_named(found.table, found.pairs)
    run.audit("signals.screen", ref.table, str(ref.version), numbers=found.numbers, policy=stated.digest)
    out.mkdir(parents=True, exist_ok=True)
    _whole(out / "pairs.parquet", found.pairs.write_parquet)
    _whole(out / "signals.csv", found.signals.write_csv)
    _whole(out / "page.html", lambda path: path.write_text(render(found.page), "utf-8"))
    new = int(found.signals["new"].sum())
    click.echo(
        f"{found.outcome}: {found.signals.height:,} pairs meet a criterion, {new:,} of them new; see {out}/page.html"
    )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _teller() -> Callable[[str, float | None], None]:
    """Says each stage once, and every tenth of it."""
    said: set[tuple[str, int]] = set()

    def tell(message: str, fraction: float | None) -> None:
        place = (message, int((fraction or 0.0) * 10))
        if place not in said:
            said.add(place)
            click.echo(message if fraction is None else f"{message}: {fraction:.0%}", err=True)

    return tell


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and move it there: it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    write(partial)
    partial.replace(path)
