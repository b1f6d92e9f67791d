"""What a database says of itself: size, empty space, indexes, transactions, connections, archiving."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine


@dataclass(frozen=True)
class TableFacts:
    """One table.

    Attributes:
        name: With its schema where that is not the usual one.
        rows: Live rows; an estimate on PostgreSQL.
        dead: Dead rows.
        size: Bytes without indexes.
        empty: Share of it that holds nothing; None where unknown.
        measured: Whether `empty` was measured (pgstattuple) and not estimated.
        scans: Reads from end to end and through an index.
        analyzed: Whether the planner knows anything of it.
    """

    name: str
    rows: int
    dead: int = 0
    size: int = 0
    empty: float | None = None
    measured: bool = False
    scans: tuple[int, int] = (0, 0)
    analyzed: bool = True


@dataclass(frozen=True)
class IndexFacts:
    """One index.

    Attributes:
        name: Its name.
        table: Its table.
        columns: What it is over, in order; expressions as text.
        where: Condition of a partial index.
        unique: Whether it upholds a constraint.
        valid: Whether it can be used; False is what a REINDEX CONCURRENTLY that failed leaves.
        size: Bytes.
        scans: Times a query used it; None where nobody counts.
        empty: Share of it that holds nothing; None where unknown.
        measured: Whether that was measured.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    where: str = ""
    unique: bool = False
    valid: bool = True
    size: int = 0
    scans: int | None = None
    empty: float | None = None
    measured: bool = False


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key: its table, columns, and the table it refers to."""

    table: str
    columns: tuple[str, ...]
    refers: str


@dataclass(frozen=True)
class DatabaseFacts:
    """A database at one moment.

    Attributes:
        kind: postgresql or sqlite.
        server: Version of the server or library.
        size: Bytes.
        tables: Every table.
        indexes: Every index.
        foreign_keys: Every foreign key.
        counters_days: Days since the counters were reset; None where nobody counts.
        age: Oldest transaction id's age, of the database that is worst on the server; None where there is none.
        longest: Seconds of the longest open transaction.
        connections: In use, and the most there may be.
        freelist: Free pages and all pages of a SQLite file.
        archiving: What is known of WAL archiving, by name.
        problems: What the database's own integrity check says.
    """

    kind: str
    server: str
    size: int
    tables: tuple[TableFacts, ...]
    indexes: tuple[IndexFacts, ...]
    foreign_keys: tuple[ForeignKey, ...] = ()
    counters_days: float | None = None
    age: int | None = None
    longest: float | None = None
    connections: tuple[int, int] | None = None
    freelist: tuple[int, int] | None = None
    archiving: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def look(engine: Engine) -> DatabaseFacts:
    """Ask a database about itself; nothing is changed.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: It cannot be asked.
    """
    if engine.dialect.name == "postgresql":
        from trialops.operations.database_postgres import look as ask
    else:
        from trialops.operations.database_sqlite import look as ask
    return ask(engine)
