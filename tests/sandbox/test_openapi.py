"""The sandbox keeps to its own OpenAPI description, whatever it is sent."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

OPERATIONS = (
    "POST /api/v1/models/{model}/generate",
    "GET /api/v1/predictions/{prediction_id}",
    "GET /assets/outputs/{prediction_id}/{name}.mp4",
    "GET /sandbox/activity",
    "GET /sandbox/settings",
    "POST /sandbox/settings",
    "POST /sandbox/reset",
)


@pytest.fixture(scope="module")
def description(sandbox_process):
    """As the running sandbox gives it."""
    with httpx.Client(trust_env=False) as client:
        return client.get(f"{sandbox_process.api}/openapi.json").json()


def test_the_operations_are_all_there_are(description):
    described = {f"{method.upper()} {path}" for path, methods in description["paths"].items() for method in methods}
    assert described == set(OPERATIONS)


# what has nothing to be sent has nothing wrong to be sent
NEGATIVE = ("POST /api/v1/models/{model}/generate", "GET /api/v1/predictions/{prediction_id}", "POST /sandbox/settings")


@pytest.mark.parametrize(
    ("operation", "mode"),
    [
        *((operation, GenerationMode.POSITIVE) for operation in OPERATIONS),
        *((operation, GenerationMode.NEGATIVE) for operation in NEGATIVE),
    ],
)
def test_an_operation_answers_as_described(operation, mode, description, sandbox):
    """No 500, no status, type or body that is not described; and no service without the key where one is wanted."""
    method, _, path = operation.partition(" ")
    schema = schemathesis.openapi.from_dict(description)
    found = schema[path][method]

    @given(case=found.as_strategy(generation_mode=mode))
    @settings(
        max_examples=10,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answers(case):
        sandbox.reset()
        case.call_and_validate(base_url=sandbox.api, headers={"Authorization": f"Bearer {sandbox.key}"}, timeout=10)

    answers()
