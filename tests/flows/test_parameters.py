"""The forms in Prefect's UI: every parameter is described, bounded, and checked by the server."""

import inspect
from typing import Any

import jsonschema
import pytest
from prefect.utilities.callables import parameter_schema

from flows.generate_shard import generate_shard
from flows.generate_videos import generate_videos
from flows.reprocess_failed import reprocess_failed

SHARED = [
    "destination", "max_cost_usd", "limit", "where", "prompt", "pictures", "encoding", "concurrency", "fresh", "retry_unknown",
    "new_run", "preflight", "include_hidden", "sheet",
    "image_column", "prompt_column", "id_column", "name", "deadline_seconds", "shard_size", "approve_above_usd",
]  # fmt: skip
FLOWS = {"generate-videos": generate_videos, "reprocess-failed": reprocess_failed, "generate-shard": generate_shard}


def schema(flow: Any) -> dict[str, Any]:
    return dict(parameter_schema(flow).model_dump())


def test_flows_are_named_like_their_functions_and_files() -> None:
    for name, flow in FLOWS.items():
        assert flow.name == name
        assert flow.fn.__name__ == name.replace("-", "_")
        assert inspect.getmodule(flow.fn).__name__ == f"flows.{flow.fn.__name__}"  # type: ignore[union-attr]


def test_parameters_are_those_of_the_command_line() -> None:
    assert list(schema(generate_videos)["properties"]) == ["manifest", *SHARED]
    assert list(schema(reprocess_failed)["properties"]) == ["results", *SHARED]
    assert schema(generate_videos)["required"] == ["manifest", "destination"]
    assert schema(reprocess_failed)["required"] == ["results"]


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_every_parameter_has_a_sentence(flow: Any) -> None:
    for name, told in schema(flow)["properties"].items():
        assert told.get("description", "").endswith("."), name


@pytest.mark.parametrize(
    "wrong",
    [{"max_cost_usd": -1}, {"limit": 0}, {"concurrency": 0}, {"deadline_seconds": -5}, {"shard_size": 0},
     {"approve_above_usd": -0.01}, {"manifest": ""}, {"fresh": "perhaps"}],
)  # fmt: skip
def test_the_server_refuses_what_cannot_be_meant(wrong: dict[str, Any]) -> None:
    right = {"manifest": "s3://bucket/m.csv", "destination": "s3://bucket/reels"}
    jsonschema.validate(right, schema(generate_videos))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(right | wrong, schema(generate_videos))
