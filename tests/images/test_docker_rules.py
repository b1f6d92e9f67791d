"""Rules for the files below docker/, on every machine: nothing is built."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.base import QUIET, RUN_AS
from tests.images.locked import DOCKER, images, requirements, script
from tests.support.tools import tool

ROOT = DOCKER.parent
FILES = {name: ROOT / told["dockerfile"] for name, told in images().items()}


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile: word and rest, continued lines joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def broken_rules(found: list[tuple[str, str]]) -> list[str]:
    """What of our rules a Dockerfile breaks."""
    broken = []
    words = [word for word, _ in found]
    last = len(words) - 1 - words[::-1].index("FROM")
    arguments = {rest.split("=")[0]: rest.partition("=")[2] for word, rest in found if word == "ARG"}
    stages = {rest.split()[-1] for word, rest in found if word == "FROM" and " AS " in rest.upper()}
    for word, rest in found:
        if word == "FROM":
            base = rest.split()[0]
            if base not in stages and not re.fullmatch(r"\$\{[A-Z_]*BASE\}", base):
                broken.append("a base that no argument names")
        if word == "ADD":
            broken.append("ADD")
        if word == "RUN" and re.search(r"curl|wget|--trusted-host|--extra-index|git clone|sudo|chmod 777", rest):
            broken.append("fetches or opens what no lock names")
        if word == "RUN" and "pip install" in rest and "--require-hashes" not in rest:
            broken.append("installs without digests")
        if word in ("ARG", "ENV") and re.search(r"PASSWORD|SECRET|TOKEN|APIKEY|PRIVATE", rest, re.IGNORECASE):
            broken.append("a secret in an argument or variable")
    for name, value in arguments.items():
        if name.endswith("BASE") and value and (":" not in value.rsplit("/", 1)[-1] or value.endswith(":latest")):
            broken.append("a base without a tag")
    final = found[last:]
    users = [rest for word, rest in final if word == "USER"]
    if not users or users[-1] != f"{RUN_AS}:{RUN_AS}":
        broken.append("does not run as the components' user")
    if any(word == "RUN" for word, _ in final[[word for word, _ in final].index("USER") if users else 0 :]):
        broken.append("changes the image after the user is set")
    if any(word == "RUN" and re.search(r"pip install|apt-get", rest) for word, rest in final):
        broken.append("installs in the last stage")
    if not any(word == "RUN" and "strip_base.py" in rest for word, rest in final):
        broken.append("leaves the base's installers in")
    return broken


@pytest.mark.parametrize("image", sorted(FILES))
def test_dockerfiles_keep_the_rules(image: str) -> None:
    found = instructions(FILES[image])
    assert broken_rules(found) == []
    assert sum(word == "FROM" for word, _ in found) >= 2
    text = FILES[image].read_text()
    titles = "title description licenses version revision source created base.name base.digest"
    assert {f"org.opencontainers.image.{name}" for name in titles.split()} <= set(re.findall(r"org[\w.]+", text))
    assert 'TRIALOPS_CODE_VERSION="${REVISION}"' in text and "STOPSIGNAL SIGTERM" in text
    assert images()[image]["title"] in text and images()[image]["description"] in text
    assert f"requirements/{image}.txt" in text and "compile" in text.lower()


BAD = {
    "a base that no argument names": "FROM python:3.11\nRUN python3 strip_base.py\nUSER 10001:10001",
    "ADD": "FROM ${BASE}\nADD https://example.org/x /x\nRUN python3 strip_base.py\nUSER 10001:10001",
    "installs without digests": "FROM ${BASE} AS a\nRUN pip install x\nFROM a\nRUN strip_base.py\nUSER 10001:10001",
    "fetches or opens what no lock names": "FROM ${BASE}\nRUN curl x | sh; python3 strip_base.py\nUSER 10001:10001",
    "a secret in an argument or variable": "ARG NPM_TOKEN\nFROM ${BASE}\nRUN strip_base.py\nUSER 10001:10001",
    "a base without a tag": "ARG BASE=python:latest\nFROM ${BASE}\nRUN strip_base.py\nUSER 10001:10001",
    "does not run as the components' user": "FROM ${BASE}\nRUN strip_base.py\nUSER root",
    "installs in the last stage": "FROM ${BASE}\nRUN apt-get install x; strip_base.py\nUSER 10001:10001",
    "changes the image after the user is set": "FROM ${BASE}\nRUN strip_base.py\nUSER 10001:10001\nRUN true",
    "leaves the base's installers in": "FROM ${BASE}\nUSER 10001:10001",
}


@pytest.mark.parametrize("rule", sorted(BAD))
def test_the_rules_are_seen_broken(rule: str, tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(BAD[rule])
    assert rule in broken_rules(instructions(path))


def test_components_send_no_usage_statistics() -> None:
    text = FILES["components"].read_text()
    assert all(f"{name}={value}" in text for name, value in QUIET.items())


def test_requirements_are_the_lock(capsys: pytest.CaptureFixture[str]) -> None:
    assert script("locked").main(["--check"]) == 0, capsys.readouterr().out


def test_requirements_agree_with_the_lock_entry_by_entry() -> None:
    import tomllib

    lock = {p["name"]: p for p in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    for image in [*FILES, "build"]:
        found = requirements(image)
        assert found and all(lock[name]["version"] == version for name, version in found.items())
        text = "\n".join(p.read_text() for p in (DOCKER / "requirements").glob(f"{image}*.txt"))
        for name, digests in re.findall(r"^([a-z0-9][a-z0-9.-]*)==.*?((?: \\\n    --hash=\S+)+)", text, re.MULTILINE):
            known = {file["hash"] for file in [*lock[name].get("wheels", []), lock[name].get("sdist", {"hash": ""})]}
            assert set(re.findall(r"--hash=(\S+)", digests)) <= known, name


def test_the_component_image_has_exactly_the_projects_dependencies() -> None:
    """Against uv's own reading of the lock."""
    uv = Path(sys.executable).parent / "uv"
    if not uv.exists():
        pytest.skip("uv is not installed beside this interpreter")
    command = [str(uv), "export", "--frozen", "--no-dev", "--no-emit-project", "--no-hashes", "--quiet"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    linux = [line for line in lines if "==" in line and "win32" not in line.partition(";")[2]]
    named = {line.split(";")[0].split("==")[0].strip(): line.split("==")[1].split()[0] for line in linux}
    ours = requirements("components")
    assert {name: version for name, version in named.items() if name in ours} == ours
    assert set(named) - set(ours) <= {"colorama", "pywin32"}


def test_a_package_that_is_not_locked_cannot_get_in(tmp_path: Path) -> None:
    locked = script("locked")
    with pytest.raises(SystemExit, match="left-pad is not in uv.lock"):
        locked.Lock(ROOT / "uv.lock").closure(["left-pad"], "x86_64")
    stale = tmp_path / "docker"
    shutil.copytree(DOCKER, stale)
    (tmp_path / "uv.lock").write_text((ROOT / "uv.lock").read_text())
    requirement = stale / "requirements" / "server.txt"
    requirement.write_text(requirement.read_text().replace("numpy==", "numpy==9"))
    done = subprocess.run([sys.executable, stale / "locked.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 1 and "server.txt is out of date" in done.stdout


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out of the build context (its own order: the last rule that fits decides)."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        keep, rule = line.startswith("!"), line.lstrip("!").strip("/")
        parts = path.split("/")
        heads = ["/".join(parts[: k + 1]) for k in range(len(parts))]
        bare = rule.removeprefix("**/")
        fits = any(fnmatch.fnmatchcase(head, rule) for head in heads) or (
            rule.startswith("**/") and any(fnmatch.fnmatchcase(part, bare) for part in parts)
        )
        out = (not keep) if fits else out
    return out


def test_the_build_context_holds_sources_alone() -> None:
    sources = script("sources")
    for image in FILES:
        for file in sources.sources(image):
            assert not ignored(file.relative_to(ROOT).as_posix())
    outside = ["tests/conftest.py", ".git/config", ".venv/bin/python", ".trialops/trialops.db", "docs/architecture.md"]
    outside += [
        "shared/data/MANIFEST.md",
        "build/images/server.ref",
        "mlflow.db",
        "trialops/vault.key",
        "trialops/.env",
    ]
    outside += ["trialops/__pycache__/version.cpython-311.pyc", "benchmarks/search.py", "new-folder/patients.xpt"]
    assert [path for path in outside if not ignored(path)] == []


def test_no_image_holds_a_test_or_reference_data() -> None:
    sources = script("sources")
    for image in FILES:
        held = [file.relative_to(ROOT).as_posix() for file in sources.sources(image)]
        assert len(held) == len(set(held))
        data = re.compile(r"/test_[^/]*\.py$|\.(xpt|parquet|db)$")
        assert not [name for name in held if "/tests/" in name or data.search(name)]
    held = {file.relative_to(ROOT).as_posix() for file in sources.sources("components")}
    for package in ("trialops", "components", "pipelines", "feature_repo"):
        shipped = {p.relative_to(ROOT).as_posix() for p in (ROOT / package).rglob("*") if p.is_file()}
        assert {name for name in shipped if "__pycache__" not in name} <= held


def test_a_tag_follows_from_what_goes_in(tmp_path: Path) -> None:
    copy = tmp_path / "repository"
    for name in ("trialops", "docker"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, copy)

    def tag(image: str = "server", base: str = "python@sha256:1") -> str:
        command = [sys.executable, copy / "docker" / "sources.py", "tag", image, "--base", base]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    first, other = tag(), tag("report_function")
    assert re.fullmatch(r"\d+\.\d+\.\d+-[0-9a-f]{16}", first) and tag() == first
    assert tag(base="python@sha256:2") != first
    path = copy / "trialops" / "serving" / "server.py"
    path.write_text(path.read_text() + "\n")
    assert tag() != first and tag("report_function") != other
    second = tag()
    (copy / "trialops" / "intake" / "new.py").write_text("")  # of another image
    assert tag() == second
    (copy / "docker" / "requirements" / "server.txt").write_text("")
    assert tag() != second


def test_the_bill_is_the_same_each_time_and_lists_what_is_there(tmp_path: Path) -> None:
    sbom = script("sbom")
    for name, more in {
        "Alpha.One": "Requires-Dist: beta>=1\nRequires-Dist: pytest; extra == 'test'\n",
        "beta": "",
    }.items():
        folder = tmp_path / f"{name}-1.2.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2+x\nLicense-Expression: MIT\n{more}"
        (folder / "METADATA").write_text(text)
    status, release = tmp_path / "status", tmp_path / "os-release"
    status.write_text(
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u9\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n"
    )
    release.write_text('VERSION_ID="12"\n')
    bills = [sbom.bill("trialops-x", "0.1.0-ab", [tmp_path], base="python@sha256:1", debian=False) for _ in range(2)]
    assert json.dumps(bills[0]) == json.dumps(bills[1])
    purls = [component["purl"] for component in bills[0]["components"]]
    assert purls[1:] == ["pkg:pypi/alpha-one@1.2%2Bx", "pkg:pypi/beta@1.2%2Bx"]
    edges = {entry["ref"]: entry["dependsOn"] for entry in bills[0]["dependencies"]}
    assert edges["pkg:pypi/alpha-one@1.2%2Bx"] == ["pkg:pypi/beta@1.2%2Bx"]
    debian = sbom.debian_components(status, release)
    assert [one["purl"] for one in debian] == ["pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64&distro=debian-12"]


VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(str(problem)[:500] if problem else 0)
"""


def test_the_bill_of_this_environment_keeps_the_schema() -> None:
    """Against CycloneDX's own schema, by its library (`make tools`); a bill with a field too many is refused."""
    python = tool("python", "CycloneDX's library")

    def problem(document: object) -> str:
        done = subprocess.run(
            [python, "-c", VALIDATE], input=json.dumps(document), capture_output=True, text=True, timeout=120
        )
        assert done.returncode in (0, 1), done.stderr
        return done.stderr

    sbom = script("sbom")
    document = sbom.bill("trialops-here", "0.1.0-ab", [Path(p) for p in sys.path if p.endswith("site-packages")])
    assert problem(document) == ""
    assert "surprise" in problem({**document, "surprise": 1})


def test_the_installers_of_a_base_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strip = script("strip_base")
    site, library, bin_ = tmp_path / "site", tmp_path / "lib", tmp_path / "bin"
    for name in ("pip/__init__.py", "pip-24.0.dist-info/METADATA", "setuptools/x.py", "numpy/__init__.py"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("")
    (library / "ensurepip").mkdir(parents=True)
    (library / "json").mkdir()
    bin_.mkdir()
    for name in ("pip", "pip3.11", "python3", "pipeline"):
        (bin_ / name).write_text("")
    monkeypatch.setattr(
        strip.sysconfig, "get_path", {"stdlib": str(library), "purelib": str(site), "scripts": str(bin_)}.get
    )
    monkeypatch.setattr(strip.site, "getsitepackages", lambda: [str(site)])
    monkeypatch.setattr(strip, "PLACES", (bin_,))
    monkeypatch.setattr(strip, "WHEELS", tmp_path / "wheels")
    strip.strip()
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"site/numpy/__init__.py", "bin/python3", "bin/pipeline"} and (library / "json").exists()
