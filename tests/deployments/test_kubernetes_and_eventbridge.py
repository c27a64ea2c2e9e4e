"""Kubernetes' own schemas of our objects, and botocore's model of EventBridge for the example of the documentation."""

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from botocore.exceptions import ParamValidationError
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import validate_parameters
from prefect.events import Event

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deployments" / "kubernetes"
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "kubernetes.json").read_text(encoding="utf-8"))
KINDS = {"Namespace": "io.k8s.api.core.v1", "ServiceAccount": "io.k8s.api.core.v1", "Job": "io.k8s.api.batch.v1"}
OBJECTS = list(yaml.safe_load_all((KUBERNETES / "setup.yaml").read_text(encoding="utf-8")))
GUIDE = (ROOT / "docs" / "unattended.md").read_text(encoding="utf-8")


def check(one: dict[str, Any]) -> None:
    kind = one["kind"]
    schema = SCHEMA | {"$ref": f"#/$defs/{KINDS[kind]}.{kind}"}
    jsonschema.validate(one, schema, jsonschema.Draft202012Validator)


def job_of_template() -> dict[str, Any]:
    """The job that Prefect makes of the pool's template and its defaults."""
    template = json.loads((KUBERNETES / "base-job-template.json").read_text(encoding="utf-8"))
    defaults = {name: told.get("default") for name, told in template["variables"]["properties"].items()}
    given = defaults | {"name": "a-run", "env": [{"name": "A", "value": "b"}], "labels": {}, "cpu_limit": "2"}

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner) for inner in value]
        if isinstance(value, str) and (whole := re.fullmatch(r"\{\{ (\w+) \}\}", value)):
            return given[whole[1]]
        return re.sub(r"\{\{ (\w+) \}\}", lambda name: str(given[name[1]]), value) if isinstance(value, str) else value

    job: dict[str, Any] = walk(template["job_configuration"]["job_manifest"])
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["args"] = [container["args"]] if isinstance(container.get("args"), str) else container.get("args")
    return job


@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: one["kind"])
def test_kubernetes_knows_every_key_of_our_objects(one: dict[str, Any]) -> None:
    check(one)


def test_kubernetes_knows_every_key_of_the_job_that_the_template_makes() -> None:
    check(job_of_template())


@pytest.mark.parametrize("misspelt", ["terminationGracePeriod", "serviceAccount_name", "container"])
def test_a_misspelt_key_is_caught(misspelt: str) -> None:
    job = deepcopy(OBJECTS[2])
    job["spec"]["template"]["spec"][misspelt] = "x"
    with pytest.raises(jsonschema.ValidationError, match=misspelt):
        check(job)


def transformer() -> dict[str, Any]:
    (block,) = re.findall(r"```json\n(\{\"InputPathsMap.*?)```", GUIDE, re.DOTALL)
    found: dict[str, Any] = json.loads(block)
    return found


def problems(params: dict[str, Any]) -> str:
    model = ServiceModel(Loader().load_service_model("events", "service-2", "2015-10-07"))
    try:
        validate_parameters(params, model.shape_for("InputTransformer"))
    except ParamValidationError as error:
        return str(error)
    return ""


def test_eventbridge_takes_the_input_transformer_of_the_guide() -> None:
    assert problems(transformer()) == ""
    assert "paths" in problems({"paths": {}, "template": ""}), "the check sees keys that it does not know"


def test_what_eventbridge_sends_is_an_event_of_prefect_that_starts_a_run() -> None:
    words = transformer()
    notification = {
        "id": "17793124-05d4-b198-2fde-7ededc63b103", "time": "2026-01-15T12:00:00Z",
        "detail": {"bucket": {"name": "my-bucket"}, "object": {"key": "manifests/spring.csv"}},
    }  # fmt: skip

    def found(path: str) -> str:
        value: Any = notification
        for name in path.removeprefix("$.").split("."):
            value = value[name]
        return str(value)

    values = {name: found(path) for name, path in words["InputPathsMap"].items()}
    body = re.sub(r"<(\w+)>", lambda name: values[name[1]], words["InputTemplate"])
    (event,) = [Event.model_validate(one) for one in json.loads(body)]
    assert event.event == "reelsheet.manifest.arrived"
    assert event.resource.id == "s3://my-bucket/manifests/spring.csv"
    assert event.payload["destination"] == "s3://my-bucket/reels"
