"""Sheets and tables in the stand-in's bucket."""

import csv
import io
from collections.abc import Iterable
from typing import Any

import boto3

from reelsheet.sandbox.process import SandboxProcess


def put_sheet(provider: SandboxProcess, name: str, prompts: Iterable[str]) -> str:
    """A sheet with these prompts at `manifests/NAME.csv`; its address."""
    lines = "".join(f"{provider.pictures}/morning-mug.jpg,{prompt}\n" for prompt in prompts)
    key = f"manifests/{name}.csv"
    _client(provider).put_object(Bucket=provider.bucket, Key=key, Body=f"image,prompt\n{lines}".encode())
    return f"s3://{provider.bucket}/{key}"


def table(provider: SandboxProcess, prefix: str) -> list[dict[str, str]]:
    """The latest results below `prefix`."""
    body = _client(provider).get_object(Bucket=provider.bucket, Key=f"{prefix}/results.csv")["Body"].read()
    return list(csv.DictReader(io.StringIO(body.decode(), newline="")))


def _client(provider: SandboxProcess) -> Any:
    told = provider.environment()
    return boto3.client(
        "s3", endpoint_url=told["AWS_ENDPOINT_URL_S3"], aws_access_key_id=told["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"], region_name=told["AWS_DEFAULT_REGION"],
    )  # fmt: skip
