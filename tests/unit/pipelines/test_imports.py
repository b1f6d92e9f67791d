"""Imports go one way: pipelines, components, trialops; and what is heavy is imported where it is used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OURS = {"trialops", "components", "pipelines", "feature_repo"}
ALLOWED = {
    "trialops": {"trialops"},
    "components": {"components", "trialops"},
    "pipelines": {"pipelines", "components", "trialops"},
}
# The command line proper, which may import click.
COMMAND_LINE = re.compile(r"pipelines/(cli(_\w+)?|reference)\.py")
HEAVY = {
    "alembic", "deltalake", "duckdb", "fairlearn", "feast", "lightgbm", "matplotlib", "mlflow", "obstore",
    "optuna", "pandas", "polars", "psycopg", "pyarrow", "pyreadstat", "ray", "scipy", "sklearn", "sqlalchemy",
    "fhir", "httpx", "lxml", "openlineage", "pint", "presidio_analyzer", "pydicom", "simple_icd_10_cm", "spacy",
    "ucumvert",
}  # fmt: skip
# The schema is made of SQLAlchemy and is itself imported inside functions; so are alembic's own files.
MADE_OF_IT = {
    # Feast's plug-ins are subclasses of its own; nothing else of the project imports them, Feast does by name.
    "trialops/features/offline_store.py": {"feast"},
    "trialops/features/offline_store_jobs.py": {"feast"},
    "trialops/features/online_store.py": {"feast"},
    "trialops/stores/tables.py": {"sqlalchemy"},
    "trialops/standards/cdm_ddl.py": {"sqlalchemy"},
    "trialops/stores/migrations/": {"sqlalchemy", "alembic"},
}


def modules(package: str) -> list[Path]:
    return sorted(path for path in (ROOT / package).rglob("*.py") if "__pycache__" not in path.parts)


def names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        yield node.module


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def top_level(tree: ast.Module) -> Iterator[str]:
    """Modules imported when the file is imported: not inside functions, not for type checkers alone."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield from names(node)
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if not later and not for_types_only(node):
            waiting.extend(ast.iter_child_nodes(node))


def anywhere(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        yield from names(node)


def test_one_way() -> None:
    wrong = []
    for package, allowed in ALLOWED.items():
        for path in modules(package):
            for module in anywhere(ast.parse(path.read_text())):
                first = module.split(".")[0]
                if first in OURS - {"feature_repo"} and first not in allowed:
                    wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert wrong == []


def test_trialops_never_imports_kfp() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in modules("trialops")
        for module in anywhere(ast.parse(path.read_text()))
        if module.split(".")[0] in ("kfp", "kfp_server_api")
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["components", "pipelines"])
def test_tops_import_only_the_standard_library_kfp_and_this_project(package: str) -> None:
    wrong = []
    for path in modules(package):
        place = path.relative_to(ROOT).as_posix()
        more = {"click"} if COMMAND_LINE.fullmatch(place) else set()
        allowed = sys.stdlib_module_names | {"kfp"} | ALLOWED[package] | more
        for module in top_level(ast.parse(path.read_text())):
            if module.split(".")[0] not in allowed:
                wrong.append(f"{place} imports {module}")
    assert wrong == []


def test_components_do_not_hide_their_types() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in modules("components")
        if "from __future__ import annotations" in path.read_text()
    ]
    assert wrong == [], "kfp reads the signature's types: string annotations do not compile"


def test_heavy_libraries_are_imported_inside_functions() -> None:
    wrong = []
    for path in modules("trialops"):
        place = path.relative_to(ROOT).as_posix()
        allowed = set().union(*(given for start, given in MADE_OF_IT.items() if place.startswith(start)))
        for module in top_level(ast.parse(path.read_text())):
            if module.split(".")[0] in HEAVY - allowed:
                wrong.append(f"{place} imports {module}")
    assert wrong == []


def test_the_check_sees_what_it_should() -> None:
    tree = ast.parse(
        "import os\nif TYPE_CHECKING:\n    import polars\n"
        "class A:\n    import duckdb\ndef f():\n    import mlflow\n"
        "try:\n    from pandas import x\nexcept ImportError:\n    pass\n"
    )
    assert set(top_level(tree)) == {"os", "duckdb", "pandas"}


@pytest.mark.parametrize("arguments", [["--help"], ["pipelines"], ["run", "--help"], ["audit", "--help"]])
def test_help_is_light(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom pipelines.cli import cli\n"
        f"try:\n    cli({arguments!r}, standalone_mode=False)\nexcept SystemExit:\n    pass\n"
        "found = {name.split('.')[0] for name in sys.modules}\n"
        f"print('FOUND', sorted(found & {HEAVY | {'kfp', 'numpy', 'pydantic'}!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "FOUND []"
