"""Study metadata as data: what define.xml, the transport files and Dataset-JSON all say, derived once from the tables.

Lengths, significant digits, data types and code lists come from the values; labels, roles, origins, keys and methods
from the standard. Three writers reading one description cannot contradict each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.intake.xport import Column
from trialops.regulatory.code_lists import CodeList, code_lists
from trialops.regulatory.standard import domain_of, rules, structure_of, variable_of
from trialops.regulatory.value_types import Typed, conform, typed

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Study:
    """What identifies the study and the standards its data follow.

    Attributes:
        name: STUDYID.
        description: In a sentence.
        protocol: Protocol name or number.
        sdtmig: Version of the SDTM implementation guide.
        ct: Version (date) of CDISC controlled terminology.
        meddra: MedDRA version.
        whodrug: WHODrug version.
        created: Time stamped into the documents, ISO 8601 with seconds. It is the only thing in a package that does
            not come from the data.
    """

    name: str
    description: str = ""
    protocol: str = ""
    sdtmig: str = ""
    ct: str = ""
    meddra: str = ""
    whodrug: str = ""
    created: str = "1960-01-01T00:00:00"

    def filled(self) -> Study:
        """The same with the standards' versions of submission.yaml where none is given."""
        given = {k: getattr(self, k) or v for k, v in rules()["standards"].items()}
        return replace(
            self,
            description=self.description or f"Study {self.name}",
            protocol=self.protocol or self.name,
            **given,
        )


@dataclass(frozen=True)
class Value:
    """Value-level description: what a result is where the variable `by` has the value `code`."""

    oid: str
    where: str
    by: str
    code: str
    label: str
    typed: Typed


@dataclass(frozen=True)
class Item:
    """One variable of one data set.

    Attributes:
        oid: IT.<data set>.<variable>.
        name: Variable.
        label: Label.
        kind: "char" or "num" in a transport file.
        typed: Data type, length and significant digits of the values.
        role: SDTM role.
        origin: Type and source.
        method: OID of the deriving method, or nothing.
        code_list: OID of the code list, or nothing.
        key: Position among the key variables, from 1; 0 for none.
        mandatory: Whether every record has a value.
        empty: Whether no record has a value.
        value_list: OID of the value list, or nothing.
        values: Value-level descriptions.
    """

    oid: str
    name: str
    label: str
    kind: str
    typed: Typed
    role: str
    origin: tuple[str, str]
    method: str = ""
    code_list: str = ""
    key: int = 0
    mandatory: bool = False
    empty: bool = False
    value_list: str = ""
    values: tuple[Value, ...] = ()

    @property
    def column(self) -> Column:
        """The column of a transport file that holds it."""
        if self.kind == "num":
            return Column(self.name, "num", 8, self.label)
        return Column(self.name, "char", self.typed.width, self.label)


@dataclass(frozen=True)
class DataSet:
    """One data set: its description and, in `frame`, its rows in key order and file types."""

    oid: str
    name: str
    domain: str
    label: str
    observation_class: str
    structure: str
    items: tuple[Item, ...]
    frame: pl.DataFrame
    reference: bool
    comment: str = ""

    @property
    def columns(self) -> list[Column]:
        """Columns of its transport file."""
        return [item.column for item in self.items]

    @property
    def repeating(self) -> bool:
        """Whether a subject may have more than one record."""
        return self.name != "DM"


@dataclass(frozen=True)
class Metadata:
    """Everything define.xml says.

    Attributes:
        study: Names and standards.
        data_sets: In submission order: by class, then name.
        code_lists: By OID.
        methods: Name and text by OID.
        comments: Text by OID.
        findings: What a reviewer should know: a sentence per fact, never a value of a subject.
    """

    study: Study
    data_sets: tuple[DataSet, ...]
    code_lists: Mapping[str, CodeList]
    methods: Mapping[str, tuple[str, str]]
    comments: Mapping[str, str]
    findings: tuple[str, ...] = field(default=())


def describe(tables: Mapping[str, pl.DataFrame], study: Study, comments: Mapping[str, str] | None = None) -> Metadata:
    """Derive the metadata of a submission from its tables.

    Args:
        tables: Rows by data set name; columns whose name begins with an underscore are left out.
        study: Names and standards.
        comments: Comment on a data set, by its name.

    Returns:
        Metadata; every data set sorted by its keys, with types as in a transport file.

    Raises:
        TrialOpsError: A data set or variable that the standard does not know, or values that its type cannot hold.
    """
    study = study.filled()
    order = {name: i for i, name in enumerate(rules()["classes"])}
    drafts = [_data_set(name, frame) for name, frame in tables.items()]
    drafts.sort(key=lambda d: (order[d.observation_class], d.name))
    if not drafts:
        raise TrialOpsError("There is no data set to describe", fix="Give the tables of a delivery.")
    lists, linked, findings = code_lists(drafts, study)
    methods = {f"MT.{name}": (m["name"], m["text"]) for name, m in rules()["methods"].items()}
    used = {item.method for d in drafts for item in d.items if item.method}
    notes = {f"COM.{name}": text for name, text in (comments or {}).items() if text}
    done = []
    for draft in drafts:
        items = tuple(replace(i, code_list=linked.get(i.oid, "")) for i in draft.items)
        comment = f"COM.{draft.name}"
        done.append(replace(draft, items=items, comment=comment if comment in notes else ""))
        findings += tuple(f"{draft.name}.{i.name} has no value in any record." for i in items if i.empty)
    return Metadata(
        study,
        tuple(done),
        lists,
        {oid: methods[oid] for oid in sorted(used)},
        {oid: notes[oid] for oid in sorted(notes) if oid[4:] in tables},
        tuple(sorted(findings)),
    )


def _data_set(name: str, frame: pl.DataFrame) -> DataSet:
    import polars as pl

    spec, domain = structure_of(name), domain_of(name)
    kept = [c for c in frame.columns if not c.startswith("_")]
    variables = [variable_of(domain if not name.startswith("SUPP") else name, c) for c in kept]
    frame = frame.select(conform(name, frame[v.name], v) for v in variables)
    keys = [k for k in spec.keys if k in frame.columns]
    rest = [c for c in frame.columns if c not in keys]
    frame = frame.sort([*keys, *rest], nulls_last=False)
    items = []
    for variable in variables:
        series = frame[variable.name]
        empty = series.null_count() == len(series) or (
            series.dtype == pl.String and not (series.fill_null("") != "").any()
        )
        full = len(series) > 0 and not empty and not series.is_null().any()
        items.append(
            Item(
                oid=f"IT.{name}.{variable.name}",
                name=variable.name,
                label=variable.label,
                kind="num" if variable.kind == "number" else "char",
                typed=typed(series, variable.kind),
                role=variable.role,
                origin=variable.origin,
                method=f"MT.{variable.method}" if variable.method else "",
                key=keys.index(variable.name) + 1 if variable.name in keys else 0,
                mandatory=full and variable.role in ("Identifier", "Topic"),
                empty=empty,
            )
        )
    described = tuple(_with_values(name, domain, item, frame) for item in items)
    return DataSet(
        oid=f"IG.{name}",
        name=name,
        domain=domain,
        label=spec.label,
        observation_class=spec.observation_class,
        structure=spec.structure,
        items=described,
        frame=frame,
        reference=spec.observation_class == "TRIAL DESIGN",
    )


def _with_values(name: str, domain: str, item: Item, frame: pl.DataFrame) -> Item:
    """Add the value level where the rules ask for it: one description per test or qualifier."""
    import polars as pl

    generic = "--" + item.name[2:] if item.name.startswith(domain) else item.name
    wanted = rules()["value_level"].get(generic)
    by = wanted.replace("--", domain) if wanted else ""
    if not by or by not in frame.columns or item.empty:
        return item
    title = rules()["decodes"].get(by, "")
    codes = frame.select(by).unique().drop_nulls().sort(by)[by].to_list()
    values = []
    for code in codes:
        part = frame.filter(pl.col(by) == code)
        text = part[title].drop_nulls() if title in part.columns else part[by].drop_nulls()
        kind = "number" if item.kind == "num" else "result"
        values.append(
            Value(
                oid=f"{item.oid}.{code}",
                where=f"WC.{name}.{by}.{code}",
                by=f"IT.{name}.{by}",
                code=code,
                label=str(text[0]) if len(text) else str(code),
                typed=typed(part[item.name], kind),
            )
        )
    return replace(item, value_list=f"VL.{name}.{item.name}", values=tuple(values))
