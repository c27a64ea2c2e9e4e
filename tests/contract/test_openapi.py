"""The sandbox keeps to its own OpenAPI description, whatever it is sent."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def described(sandbox):
    """The description as the running sandbox gives it."""
    with httpx.Client(trust_env=False) as client:
        return schemathesis.openapi.from_dict(client.get(f"{sandbox.api}/openapi.json").json())


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_operation_answers_as_described(case, sandbox):
    """No 500, no undocumented status or type, no body that is not as described, no key no service."""
    sandbox.reset()
    case.call_and_validate(
        base_url=sandbox.api, headers={"Authorization": f"Bearer {sandbox.key}"}, timeout=10
    )
