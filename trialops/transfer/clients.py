"""Clients of the providers: time limits, retries, credentials from the pod's own identity."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

SINGLE = "single"
"""A client that sends a request once: for a start that has no idempotency token."""


@lru_cache(maxsize=16)
def aws(service: str, region: str, mode: str = "standard") -> Any:
    """A boto3 client; credentials and endpoints come from the environment (IRSA on a cluster, AWS_ENDPOINT_URL_*).

    Args:
        service: boto3's name of the service.
        region: AWS region.
        mode: "standard" repeats requests that may be repeated; SINGLE never does.
    """
    import boto3
    from botocore.config import Config

    attempts = 1 if mode == SINGLE else 4
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=5,
        read_timeout=60,
        tcp_keepalive=True,
    )
    return boto3.client(service, region_name=region, config=config)
