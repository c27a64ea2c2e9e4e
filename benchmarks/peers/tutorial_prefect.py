"""The job as a tutorial on Prefect shows it: tasks, `.map`, a pool of threads.

python -m benchmarks.peers.tutorial_prefect SHEET BUCKET PREFIX IN_FLIGHT
"""

import csv
import os
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import httpx
from prefect import flow, task, unmapped
from prefect.task_runners import ThreadPoolTaskRunner

API = os.environ["VIBEDREAM_BASE_URL"]
HEADERS = {"Authorization": f"Bearer {os.environ['VIBEDREAM_API_KEY']}"}


@task(retries=3, retry_delay_seconds=2)
def generate(row: dict[str, str]) -> str:
    """The link of the finished clip."""
    answer = httpx.post(
        f"{API}/api/v1/models/i2v-pro/generate", headers=HEADERS, json={"image": row["image"], "prompt": row["prompt"]}
    )
    answer.raise_for_status()
    prediction = answer.json()["id"]
    while True:
        time.sleep(1)
        answer = httpx.get(f"{API}/api/v1/predictions/{prediction}", headers=HEADERS)
        answer.raise_for_status()
        told = answer.json()
        if told["status"] == "completed":
            return str(told["outputs"][0])
        if told["status"] == "failed":
            raise RuntimeError(told["error"])


@task(retries=3, retry_delay_seconds=2)
def store(link: str, row: dict[str, str], bucket: str, prefix: str) -> str:
    """Where the clip is stored."""
    clip = httpx.get(link)
    clip.raise_for_status()
    key = f"{prefix}/videos/{row['sku']}.mp4"
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=clip.content, ContentType="video/mp4")
    return f"s3://{bucket}/{key}"


@flow
def make_videos(sheet: str, bucket: str, prefix: str) -> list[str]:
    """Every row of the sheet."""
    with Path(sheet).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return store.map(generate.map(rows), rows, unmapped(bucket), unmapped(prefix)).result()


def main() -> None:
    sheet, bucket, prefix, in_flight = sys.argv[1:]
    threads: Any = ThreadPoolTaskRunner(max_workers=int(in_flight))
    made = make_videos.with_options(task_runner=threads)(sheet, bucket, prefix)
    with Path(sheet).with_suffix(".results.csv").open("w") as file:
        file.writelines(f"{uri}\n" for uri in made)


if __name__ == "__main__":
    main()
