"""What is in the images that were built, looked at from inside and outside."""

from __future__ import annotations

import json

import pytest

from tests.images.image_engine import NAMES, Engine
from tests.images.locked import closure_of

SITE = {
    "components": "/opt/trialops/venv/lib/python3.11/site-packages",
    "server": "/opt/trialops/venv/lib/python3.11/site-packages",
    "report_function": "/home/site/wwwroot/.python_packages/lib/site-packages",
}
INSIDE = """
import importlib.metadata, importlib.util, json, os, pathlib, shutil, sys
def writable(folder):
    try:
        (pathlib.Path(folder) / "probe").write_text("x")
        return True
    except OSError:
        return False
site, app = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
places = ("/", "/tmp", "/var/lib/trialops", "/opt/trialops", str(site), "/etc", "/var/tmp")
tools = ("pip", "pip3", "uv", "gcc", "cc", "make", "git", "curl", "wget", "easy_install")
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "writable": [f for f in places if writable(f)],
    "tools": [t for t in tools if shutil.which(t)],
    "modules": [m for m in ("pip", "ensurepip", "uv") if importlib.util.find_spec(m)],
    "packages": sorted({d.metadata["Name"].lower().replace("_", "-").replace(".", "-") + "==" + d.version
                        for d in importlib.metadata.distributions(path=[str(site)])}),
    "uncompiled": [str(p) for p in app.rglob("*.py") if not list((p.parent / "__pycache__").glob(p.stem + ".*.pyc"))],
    "tests": [str(p) for p in app.rglob("test_*.py") if ".python_packages" not in str(p)],
    "bill": json.loads(pathlib.Path("/opt/trialops/sbom.cdx.json").read_text()),
    "secrets": [n for n in os.environ if any(w in n for w in ("PASSWORD", "SECRET", "TOKEN", "KEY"))],
    "code": os.environ.get("TRIALOPS_CODE_VERSION", ""),
}))
"""


@pytest.fixture(scope="module", params=sorted(NAMES))
def looked(request: pytest.FixtureRequest, engine: Engine) -> tuple[str, dict]:
    app = "/home/site/wwwroot" if request.param == "report_function" else "/opt/trialops/app"
    done = engine.run(request.param, "-c", INSIDE, SITE[request.param], app, entrypoint="python3")
    return request.param, json.loads(done.stdout)


def test_a_container_has_what_it_runs_and_no_more(looked: tuple[str, dict]) -> None:
    image, found = looked
    assert found["user"] == [10001, 10001]
    assert found["writable"] == ["/tmp", "/var/lib/trialops"]
    assert found["tools"] == [] and found["modules"] == []
    assert found["uncompiled"] == [] and found["tests"] == [] and found["secrets"] == []
    assert sorted(found["packages"]) == sorted(closure_of(image))


def test_the_bill_lists_what_is_installed(looked: tuple[str, dict], engine: Engine) -> None:
    image, found = looked
    bill = found["bill"]
    python = [c for c in bill["components"] if c["purl"].startswith("pkg:pypi/")]
    assert sorted(c["purl"].removeprefix("pkg:pypi/").replace("@", "==") for c in python) == sorted(found["packages"])
    debian = {c["name"] for c in bill["components"] if c["purl"].startswith("pkg:deb/")}
    assert {"libc6", "base-files"} <= debian
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"]) == tuple(engine.reference(image).rsplit("/", 1)[1].rsplit(":", 1)) or (
        image == "components" and root["version"] == engine.reference(image).rsplit(":", 1)[1]
    )
    assert json.loads(engine.bill(image).read_text()) == bill
    references = {c["bom-ref"] for c in bill["components"]} | {root["bom-ref"]}
    assert {ref for entry in bill["dependencies"] for ref in (entry["ref"], *entry["dependsOn"])} <= references


def test_labels_say_what_it_was_made_of(looked: tuple[str, dict], engine: Engine) -> None:
    image, found = looked
    told = engine.inspect(image)
    labels = told.get("Labels") or told["Config"]["Labels"]
    tag = engine.reference(image).rsplit(":", 1)[1]
    named = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert named["io.trialops.tag"] == tag and tag.startswith(named["version"] + "-")
    assert named["revision"] == found["code"] != ""
    assert named["base.digest"].startswith("sha256:") and "python" in named["base.name"]
    assert {"title", "description", "licenses", "source", "created"} <= set(named)
    assert told["Config"]["User"] == "10001:10001"
    assert ("Healthcheck" in told or "Healthcheck" in told["Config"]) == (image == "server")
