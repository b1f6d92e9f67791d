"""Cohort definitions: read from files, kept in versions, or those that ship."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.standards.omop_ids import key
from trialops.trial.cohorts.circe import read_expression
from trialops.trial.cohorts.circe_json import digest, write_expression
from trialops.trial.cohorts.expression import Expression
from trialops.trial.cohorts.yaml_form import to_circe

if TYPE_CHECKING:
    from trialops.stores.chain_log import ChainLog
    from trialops.stores.objects import ObjectStore

SHIPPED = Path(__file__).parent / "examples"
KEPT = "cohorts/definitions"
_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,59}$")


@dataclass(frozen=True)
class Definition:
    """A named cohort definition.

    Attributes:
        name: Short name; the cohort's id follows from it.
        title: What a person calls it.
        description: In words.
        compare: Cohort beside which Table 1 shows it; empty: everybody else.
        expression: What it means.
    """

    name: str
    title: str
    description: str
    compare: str
    expression: Expression

    @property
    def id(self) -> int:
        """cohort_definition_id: the same for a name in every run."""
        return key("cohort_definition", self.name)

    @property
    def digest(self) -> str:
        """SHA-256 of the expression's canonical JSON."""
        return digest(self.expression)


def read_definition(path: Path) -> Definition:
    """Read a definition: JSON as ATLAS exports it (with or without its frame), or our YAML form.

    Raises:
        TrialOpsError: It cannot be read, or something in it is not supported; the place is named.
    """
    import yaml

    try:
        text = path.read_text("utf-8")
        document = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise TrialOpsError(
            f"The cohort definition cannot be read ({type(error).__name__})",
            where=path.name,
            fix="Give a .json file as ATLAS exports it, or a .yaml file like those in trialops/trial/cohorts/examples.",
        ) from None
    if not isinstance(document, dict):
        raise TrialOpsError("The cohort definition is no object", where=path.name, fix="See the examples.")
    if path.suffix == ".json":
        return _from_atlas(document, path)
    name = _checked(str(document.get("name", path.stem)), path.name)
    return Definition(
        name,
        str(document.get("title", name)),
        str(document.get("description", "")),
        str(document.get("compare", "")),
        read_expression(to_circe(document, path.name)),
    )


def _from_atlas(document: dict[str, Any], path: Path) -> Definition:
    """JSON: the expression alone, or in a frame with name and description (WebAPI gives it as text in there)."""
    framed = "expression" in document and "PrimaryCriteria" not in document
    content, at = (document["expression"], "$.expression") if framed else (document, "$")
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except ValueError:
            raise TrialOpsError("The expression inside is no JSON", where=f"{path.name}: $.expression") from None
    title = str(document.get("name") or document.get("Title") or path.stem) if framed else path.stem
    name = _checked(re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-"), path.name)
    return Definition(
        name, title, str(document.get("description") or "") if framed else "", "", read_expression(content, at)
    )


def _checked(name: str, where: str) -> str:
    if not _NAME.match(name):
        raise TrialOpsError(
            "The name of a cohort is lower-case letters, digits, - and _, at most 60", where=where, fix="Rename it."
        )
    return name


def in_folder(folder: Path) -> list[Definition]:
    """The definitions of a folder, by name.

    Raises:
        TrialOpsError: There is none, one cannot be read, or two have one name.
    """
    files = sorted(p for p in folder.glob("*") if p.suffix in (".json", ".yaml", ".yml")) if folder.is_dir() else []
    if not files:
        raise TrialOpsError(
            "The folder holds no cohort definition", where=str(folder), fix="Put .json or .yaml files there."
        )
    found = sorted((read_definition(path) for path in files), key=lambda one: one.name)
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TrialOpsError(f"Two definitions are called {twice[0]}", where=str(folder), fix="Rename one of them.")
    return found


def definitions(objects: ObjectStore, folder: str = "") -> tuple[list[Definition], str]:
    """The definitions to use: of a folder, else those that were imported, else those that ship.

    Returns:
        The definitions, and where they are from, in words.
    """
    if folder:
        return in_folder(Path(folder)), f"folder {Path(folder).name}"
    kept = imported(objects)
    return (kept, "imported definitions") if kept else (in_folder(SHIPPED), "definitions that ship with the project")


def keep(objects: ObjectStore, definition: Definition, *, who: str, at: str) -> tuple[int, bool]:
    """Keep a definition as the newest version of its name.

    Returns:
        Its version, and whether it is new; content that is the newest already stays that version.
    """
    body = {
        "name": definition.name,
        "title": definition.title,
        "description": definition.description,
        "compare": definition.compare,
        "digest": definition.digest,
        "expression": write_expression(definition.expression),
        "by": who,
        "at": at,
    }
    chain = _chain(objects, definition.name)
    before = len(chain.links())
    same = ("title", "description", "compare", "digest")

    def newest_is_this(links: Iterable[Any]) -> Any:
        last = list(links)[-1:]
        return last[0] if last and all(last[0].body[name] == body[name] for name in same) else None

    link = chain.append(body, unless=newest_is_this)
    return link.sequence, link.sequence > before


def imported(objects: ObjectStore) -> list[Definition]:
    """The newest version of every definition that was imported, by name."""
    names = sorted({item.removeprefix(f"{KEPT}/").partition("/")[0] for item in objects.list(KEPT)})
    made = []
    for name in names:
        body = _chain(objects, name).links()[-1].body
        made.append(of_body(body))
    return made


def of_body(body: Any) -> Definition:
    """A definition from what was kept of it."""
    expression = read_expression(body["expression"])
    return Definition(body["name"], body["title"], body["description"], body["compare"], expression)


def _chain(objects: ObjectStore, name: str) -> ChainLog:
    from trialops.stores.chain_log import ChainLog

    return ChainLog(objects, f"{KEPT}/{name}", f"cohort definition {name}")
