"""What Prefect shows of a run: names, tags, artifacts, events; and nothing that a cell could make of it."""

import re
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.generate_videos import generate_videos
from flows.reporting import artifacts as pages
from flows.reporting import events as reported
from flows.reporting import names, progress
from reelsheet.sandbox.process import SandboxProcess


@given(st.text(max_size=60))
def test_no_text_becomes_markup(text: str) -> None:
    """Rendered as Markdown, it is one paragraph of plain text."""
    from markdown_it import MarkdownIt

    shown = names.plain(text)
    tokens = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"]).parse(shown)
    kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or []}
    assert kinds <= {"paragraph_open", "inline", "paragraph_close", "text", "text_special"}, (shown, kinds)


@pytest.mark.parametrize(
    "text",
    ["<img src=x onerror=alert(1)>", "[here](https://evil.example)", "![](https://evil.example/x.png)", "a | b", "1. x",
     "https://evil.example", "`code`", "# big", "- list", "a\n\n# b", "&lt;b&gt;", "    indented"],
)  # fmt: skip
def test_the_usual_ways_in_are_closed(text: str) -> None:
    shown = names.plain(text)
    assert "\n" not in shown
    assert "<" not in shown
    assert "](" not in shown
    assert not re.search(r"(?<!\\)://", shown)


@pytest.mark.parametrize(
    "text",
    ["[here](https://evil.example)", "![](https://evil.example/x.png)", "<img src=x>", "**big**", "`code`", "~~a~~"],
)
def test_no_cell_of_the_table_of_missed_rows_becomes_markup(text: str) -> None:
    """Prefect's page renders each of them as Markdown."""
    from markdown_it import MarkdownIt

    row: Any = SimpleNamespace(name=text, line=2)
    result: Any = SimpleNamespace(status="failed", error_code="rejected", error=text, prediction_id=text)
    (shown,) = pages._table([(row, result)])
    for cell in ("row", "what to do", "prediction"):
        tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(str(shown[cell]))
        kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or []}
        assert kinds <= {"paragraph_open", "inline", "paragraph_close", "text"}, shown


def test_an_address_to_copy_keeps_nothing_that_signs_it() -> None:
    told = names.code("https://clips.example/a.mp4?X-Amz-Signature=abc&X-Amz-Credential=def`")
    assert told == "`https://clips.example/a.mp4`"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("s3://bucket/manifests/spring%20launch.csv", "spring launch.csv"),
        ("https://files.example/x/spring.csv?X-Amz-Signature=abc", "spring.csv"),
        ("/home/me/spring.csv", "spring.csv"),
        ("s3://bucket/reels/", "reels"),
        ("https://user:password@files.example", "https://files.example"),
    ],
)
def test_a_manifest_is_called_by_its_last_part_without_secrets(address: str, name: str) -> None:
    assert names.short(address) == name


def test_few_campaigns_are_tags_and_many_are_none() -> None:
    def manifest(*cells: str) -> Any:
        return SimpleNamespace(columns=("Campaign",), table=pd.DataFrame({"Campaign": cells}, dtype="str"))

    assert names.campaigns(manifest("spring", "spring", "", "autumn")) == ["spring", "autumn"]
    assert names.campaigns(manifest("a", "b", "c", "d")) == []


def test_only_amazons_own_store_has_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        pages.console_link("s3://my-bucket/a b/gallery.html")
        == "https://console.aws.amazon.com/s3/object/my-bucket?prefix=a%20b/gallery.html"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")
    assert pages.console_link("s3://my-bucket/a b/gallery.html") == ""


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would be emitted."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(reported, "emit_event", lambda **event: sent.append(event))
    monkeypatch.setattr(progress, "INTERVAL_S", 0.1)
    return sent


@pytest.mark.usefixtures("prefect", "ledger_url")
async def test_a_run_leaves_tags_a_summary_a_table_of_what_is_missing_and_an_event(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str, events: list[dict[str, Any]]
) -> None:
    manifest = sheet("a", "b", campaign="spring", more="<b>nowhere</b>,x,spring\n")
    summary = await generate_videos(manifest, destination)
    async with get_client() as client:
        flow_run = await client.read_flow_run(uuid.UUID(summary["flow_run_id"]))
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run.id]))
        artifacts = {artifact.key: artifact for artifact in await client.read_artifacts(artifact_filter=wanted)}
    assert flow_run.name == f"spring.csv → {destination}"
    assert flow_run.tags == ["campaign:spring", "manifest:spring.csv", f"run:{summary['run_id']}"]
    assert set(artifacts) == {"results-spring", "not-delivered-spring"}, "no bar for so few rows"
    assert "| succeeded | 2 |" in str(artifacts["results-spring"].data)
    assert "**\\$1\\.08**" in str(artifacts["results-spring"].data)
    assert "invalid_row" in str(artifacts["not-delivered-spring"].data)
    (finished,) = events
    assert finished["event"] == "reelsheet.run.finished"
    assert finished["resource"]["prefect.resource.id"] == f"reelsheet.run.{summary['run_id']}"
    assert finished["payload"] == summary | {"destination": destination}


@pytest.mark.usefixtures("prefect", "ledger_url")
async def test_a_cap_that_is_nearly_used_up_is_told_once(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str, events: list[dict[str, Any]]
) -> None:
    sandbox.settings(latency=1.0)
    await generate_videos(sheet("a", "b", "c", "d"), destination, max_cost_usd=1.7)
    warned = [event for event in events if event["event"] == "reelsheet.budget.warning"]
    assert [event["payload"] for event in warned] == [{"cap": "run", "spent_usd": 1.62, "cap_usd": 1.7}]
