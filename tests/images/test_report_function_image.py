"""The report function's image: its app and packages are enough to make reports. The Functions host is a stand-in."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx
import pytest

from tests.images.image_engine import SCRATCH, Engine
from tests.images.transferred import transfer
from tests.support.functions_host import FUNCTION_KEY

pytestmark = pytest.mark.slow
HOST = Path(__file__).resolve().parents[1] / "support" / "functions_host.py"
START = """
import sys, threading
sys.path[:0] = ["/home/site/wwwroot", "/home/site/wwwroot/.python_packages/lib/site-packages", "/host"]
import function_app, functions_host
with functions_host.FunctionsHost(function_app.app, address=("0.0.0.0", 8080)):
    print("listening", flush=True)
    threading.Event().wait()
"""


def test_reports_are_made_in_the_image(engine: Engine, tmp_path: Path) -> None:
    made = transfer(tmp_path)
    for folder in (made.home, made.repository):
        for place, folders, files in os.walk(folder):
            for name in (place, *(os.path.join(place, n) for n in (*folders, *files))):
                os.chown(name, 10001, 10001)
    options = [
        "--publish=127.0.0.1::8080",
        SCRATCH[0],
        f"--volume={made.home}:/var/lib/trialops",
        f"--volume={made.repository}:/repository",
        f"--volume={HOST}:/host/functions_host.py:ro",
        "--env=TRIALOPS_REPOSITORY_URL=/repository",
        "--entrypoint=python3",
    ]
    with engine.started("report_function", "-c", START, options=options) as running:
        place = f"http://127.0.0.1:{running.port(8080)}/api/reports/i-1"
        headers, answer = {"x-functions-key": FUNCTION_KEY}, None
        for _ in range(400):
            try:
                answer = httpx.post(place, json={**made.request, "kinds": ["trial_progress"]}, headers=headers)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        assert answer is not None and answer.status_code == 202, running.logs()
        for _ in range(1200):
            told = httpx.get(place, headers=headers).json()
            if told["runtimeStatus"] not in ("Pending", "Running"):
                break
            time.sleep(0.1)
        assert told["runtimeStatus"] == "Completed", told
        assert len(told["output"]["reports"]) == 2
        assert FUNCTION_KEY not in running.logs()
    assert (made.repository / made.request["trial"] / "reports" / f"{made.request['run_id']}.json").exists()
