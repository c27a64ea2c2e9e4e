"""The job in plain asyncio, httpx and boto3, as a good engineer writes it in an hour.

Submits, polls, copies, repeats what was refused, writes a table. It keeps no ledger: started twice, it pays twice.

    python -m benchmarks.peers.plain_asyncio SHEET BUCKET PREFIX IN_FLIGHT
"""

import asyncio
import csv
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import httpx

API = os.environ["VIBEDREAM_BASE_URL"]
HEADERS = {"Authorization": f"Bearer {os.environ['VIBEDREAM_API_KEY']}"}


async def generate(api: httpx.AsyncClient, row: dict[str, str]) -> str:
    """The link of the finished clip."""
    while True:
        answer = await api.post(
            f"{API}/api/v1/models/i2v-pro/generate", json={"image": row["image"], "prompt": row["prompt"]}
        )
        if answer.status_code != 429:
            break
        await asyncio.sleep(float(answer.headers.get("retry-after", 1)))
    answer.raise_for_status()
    prediction = answer.json()["id"]
    while True:
        await asyncio.sleep(1)
        look = await api.get(f"{API}/api/v1/predictions/{prediction}")
        look.raise_for_status()
        told = look.json()
        if told["status"] == "completed":
            return str(told["outputs"][0])
        if told["status"] == "failed":
            raise RuntimeError(told["error"])


async def deliver(rows: list[dict[str, str]], bucket: str, prefix: str, in_flight: int) -> None:
    """Every row, with its status, clip and error."""
    s3 = boto3.client("s3")
    gate = asyncio.Semaphore(in_flight)
    threads = ThreadPoolExecutor(16)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with (
        httpx.AsyncClient(headers=HEADERS, timeout=60, limits=limits) as api,
        httpx.AsyncClient(timeout=60, limits=limits) as assets,
    ):

        async def one(row: dict[str, str]) -> None:
            try:
                async with gate:
                    link = await generate(api, row)
                clip = await assets.get(link)
                clip.raise_for_status()
                key = f"{prefix}/videos/{row['sku']}.mp4"
                await asyncio.get_running_loop().run_in_executor(
                    threads, lambda: s3.put_object(Bucket=bucket, Key=key, Body=clip.content, ContentType="video/mp4")
                )
                row.update(status="succeeded", video=f"s3://{bucket}/{key}", error="")
            except (httpx.HTTPError, RuntimeError) as error:
                row.update(status="failed", video="", error=str(error))

        await asyncio.gather(*(one(row) for row in rows))


def main() -> None:
    sheet, bucket, prefix, in_flight = sys.argv[1:]
    with Path(sheet).open(newline="") as file:
        rows = list(csv.DictReader(file))
    asyncio.run(deliver(rows, bucket, prefix, int(in_flight)))
    with Path(sheet).with_suffix(".results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if any(row["status"] != "succeeded" for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
