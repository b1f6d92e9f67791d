"""An S3 server for tests, with one bucket."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 server in a process of its own: Delta's client holds the interpreter lock while it waits."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    names = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        try:
            _create_bucket(url)
            yield "s3://trial/home"
        finally:
            server.terminate()
            server.wait(10)


def _create_bucket(url: str) -> None:
    import boto3
    from botocore.exceptions import EndpointConnectionError

    client = boto3.client("s3", region_name="us-east-1", endpoint_url=url)
    for _ in range(240):
        try:
            client.create_bucket(Bucket="trial")
            return
        except EndpointConnectionError:
            time.sleep(0.25)
    raise TimeoutError("the S3 server did not start")
