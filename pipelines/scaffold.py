"""Start a component or a pipeline from templates that work: what is written passes its tests as it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from trialops.errors import TrialOpsError

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*$")


def component(name: str, area: str, root: Path = ROOT) -> list[Path]:
    """Write a component: logic in trialops/, wrapper in components/, test in tests/unit/.

    Args:
        name: Name of function, module and component; lower case with underscores.
        area: Area; made when it does not exist.
        root: Root of the project.

    Returns:
        Files written or changed.

    Raises:
        TrialOpsError: When a name is not allowed or the component exists.
    """
    _check(name, area)
    logic = root / "trialops" / area / f"{name}.py"
    wrapper = root / "components" / f"{area}.py"
    test = root / "tests" / "unit" / area / f"test_{name}.py"
    existing = wrapper.read_text() if wrapper.exists() else None
    taken = [path for path in (logic, test) if path.exists()]
    if existing is not None and re.search(rf"^def {name}\(", existing, re.MULTILINE):
        taken.append(wrapper)
    _refuse(taken, root)
    facts = {"name": name, "area": area, "title": _title(name), "dashed": name.replace("_", "-")}
    package = root / "trialops" / area / "__init__.py"
    written = []
    if not package.exists():
        written.append(_write(package, f'"""{_title(area)}."""\n'))
    written.append(_write(logic, _render("logic.py", facts)))
    head = _render("component_header.py", facts) if existing is None else _imports(existing, wrapper)
    written.append(_write(wrapper, head.rstrip("\n") + "\n" + _render("component.py", facts)))
    written.append(_write(test, _render("test_component.py", facts)))
    return written


def pipeline(name: str, category: str, area: str, root: Path = ROOT) -> list[Path]:
    """Write a pipeline with one component, its catalogue entry and its test.

    Args:
        name: Name of pipeline, module and function.
        category: Folder below pipelines/; made when it does not exist.
        area: Area of its component.
        root: Root of the project.

    Returns:
        Files written or changed.

    Raises:
        TrialOpsError: When a name is not allowed or something of that name exists.
    """
    _check(name, category, area)
    module = root / "pipelines" / category / f"{name}.py"
    test = root / "tests" / "local" / f"test_run_{name}.py"
    catalog = root / "pipelines" / "catalog.py"
    listed = _entries(catalog)
    taken = [path for path in (module, test) if path.exists()]
    if name in [known for _, known, _ in listed]:
        taken.append(catalog)
    _refuse(taken, root)
    facts = {
        "name": name,
        "area": area,
        "category": category,
        "title": _title(name),
        "dashed": name.replace("_", "-"),
    }
    written = component(name, area, root)
    package = module.parent / "__init__.py"
    if not package.exists():
        written.append(_write(package, f'"""Pipelines: {category.replace("_", " ")}."""\n'))
    written.append(_write(module, _render("pipeline.py", facts)))
    written.append(_write(test, _render("test_pipeline.py", facts)))
    lines = catalog.read_text().splitlines(keepends=True)
    after = [line for their, known, line in listed if (their, known) > (category, name)]
    lines.insert((min(after) if after else _end_of_catalog(catalog)) - 1, _render("entry.py", facts))
    written.append(_write(catalog, "".join(lines)))
    return written


def _check(*names: str) -> None:
    for name in names:
        if not _NAME.match(name):
            raise TrialOpsError(
                f"{name!r} is not a name here",
                where="NAME",
                fix="Use lower case letters, digits and single underscores.",
            )


def _refuse(taken: list[Path], root: Path) -> None:
    if taken:
        listed = ", ".join(path.relative_to(root).as_posix() for path in taken)
        raise TrialOpsError("Something of that name exists already", where=listed, fix="Choose another name.")


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _render(template: str, facts: dict[str, str]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Python sources, not HTML
    )
    return environment.get_template(f"{template}.j2").render(facts)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ast.parse(text, str(path))
    path.write_text(_in_order(text))
    return path


def _in_order(text: str) -> str:
    """Text with each run of ``from ... import`` lines sorted: their order depends on the chosen names."""
    lines = text.splitlines(keepends=True)
    start = 0
    while start < len(lines):
        end = start
        while end < len(lines) and re.match(r"from \S+ import [^(\n]+\n", lines[end]):
            end += 1
        lines[start:end] = sorted(lines[start:end], key=lambda line: line.split()[1])
        start = max(end, start + 1)
    return "".join(lines)


def _imports(text: str, path: Path) -> str:
    """An existing components module with ``Artifact`` and ``Output`` among its imports."""
    for node in ast.parse(text, str(path)).body:
        if isinstance(node, ast.ImportFrom) and node.module == "kfp.dsl":
            names = sorted({alias.name for alias in node.names} | {"Artifact", "Output"})
            lines = text.splitlines(keepends=True)
            wide = f"from kfp.dsl import {', '.join(names)}\n"
            if len(wide) > 110:
                wide = "from kfp.dsl import (\n" + "".join(f"    {name},\n" for name in names) + ")\n"
            assert node.end_lineno is not None
            lines[node.lineno - 1 : node.end_lineno] = [wide]
            return "".join(lines)
    raise TrialOpsError(
        "The components module does not import from kfp.dsl",
        where=str(path),
        fix="Add: from kfp.dsl import Output",
    )


def _catalog_node(catalog: Path) -> ast.Tuple:
    for node in ast.parse(catalog.read_text()).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "CATALOG":
            assert isinstance(node.value, ast.Tuple)
            return node.value
    raise TrialOpsError("CATALOG was not found", where=str(catalog), fix="Restore the file.")


def _entries(catalog: Path) -> list[tuple[str, str, int]]:
    """Category, name and first line of every entry."""
    found = []
    for call in _catalog_node(catalog).elts:
        assert isinstance(call, ast.Call)
        facts = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
        found.append((str(facts["category"]), str(facts["name"]), call.lineno))
    return found


def _end_of_catalog(catalog: Path) -> int:
    end = _catalog_node(catalog).end_lineno
    assert end is not None
    return end
