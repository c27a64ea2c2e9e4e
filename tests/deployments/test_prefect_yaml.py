"""prefect.yaml and automations.yaml: every key is one that Prefect reads, for Prefect itself passes over the others."""

import importlib
import re
import zoneinfo
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml
from prefect.cli.deploy import _models as prefect_yaml
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import actions
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.server.utilities.user_templates import render_user_template_sync, validate_user_template
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]
TOLD = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
RULES = yaml.safe_load((ROOT / "deployments" / "automations.yaml").read_text(encoding="utf-8"))["automations"]
DEPLOYMENTS = {
    f"{one['entrypoint'].rpartition('.')[2].replace('_', '-')}/{one['name']}": one for one in TOLD["deployments"]
}
ACTIONS = {
    model.model_fields["type"].default: model
    for model in vars(actions).values()
    if isinstance(model, type) and issubclass(model, BaseModel) and "type" in model.model_fields
}


def names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def strangers(told: Mapping[str, Any], known: set[str], at: str) -> Iterator[str]:
    yield from (f"{at}.{key}" for key in told if key not in known)


def unknown_keys(told: Mapping[str, Any]) -> list[str]:
    """Every key of a prefect.yaml that nothing reads."""
    found = list(strangers(told, names(prefect_yaml.PrefectYamlModel) | {"definitions"}, ""))
    for one in told.get("deployments", []):
        at = f"deployments.{one.get('name')}"
        found += strangers(one, names(prefect_yaml.DeploymentConfig), at)
        found += strangers(one.get("work_pool", {}), names(prefect_yaml.WorkPoolConfig), f"{at}.work_pool")
        found += strangers(one.get("work_pool", {}).get("job_variables", {}), {"env", "image"}, f"{at}.job_variables")
        for schedule in one.get("schedules", []):
            found += strangers(schedule, names(prefect_yaml.RawScheduleConfig), f"{at}.schedules")
        for trigger in one.get("triggers", []):
            found += strangers(trigger, names(DeploymentEventTrigger), f"{at}.triggers")
    return found


def unknown_in_automation(rule: Mapping[str, Any]) -> list[str]:
    found = list(strangers(rule, names(AutomationCore), rule["name"]))
    found += strangers(rule["trigger"], names(EventTrigger), f"{rule['name']}.trigger")
    for action in rule["actions"]:
        extra = {"block"} if action["type"] == "send-notification" else set()
        found += strangers(action, names(ACTIONS[action["type"]]) | extra, f"{rule['name']}.actions")
    return found


def test_prefect_reads_every_key_of_prefect_yaml() -> None:
    assert unknown_keys(TOLD) == []
    prefect_yaml.PrefectYamlModel.model_validate(TOLD)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("parameters", "paramaters"), ("schedules", "shedules"),
     ("work_pool", "workpool"), ("entrypoint", "entry_point"), ("timezone", "timezon"), ("triggers", "trigger"),
     ("job_variables", "job_variable"), ("match", "matches"),
     ("description", "descripton"), ("env", "environment")],
)  # fmt: skip
def test_a_misspelt_key_is_caught(right: str, wrong: str) -> None:
    def misspell(told: Any) -> Any:
        if isinstance(told, dict):
            return {wrong if key == right else key: misspell(value) for key, value in told.items()}
        return [misspell(one) for one in told] if isinstance(told, list) else told

    told = misspell(deepcopy(TOLD))
    assert any(found.endswith(f".{wrong}") for found in unknown_keys(told))


def test_the_deployments_are_those_that_people_look_for_in_alphabetical_order() -> None:
    assert list(DEPLOYMENTS) == [
        "generate-shard/worker", "generate-videos/nightly", "generate-videos/on-demand",
        "reprocess-failed/morning-after", "reprocess-failed/on-demand",
    ]  # fmt: skip
    assert list(DEPLOYMENTS) == sorted(DEPLOYMENTS)
    assert {one["work_pool"]["name"] for one in DEPLOYMENTS.values()} == {"reelsheet"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_fits_its_flow(name: str) -> None:
    one = DEPLOYMENTS[name]
    module, _, function = one["entrypoint"].rpartition(".")
    flow = getattr(importlib.import_module(module), function)
    assert name.startswith(f"{flow.name}/")
    schema = dict(parameter_schema(flow).model_dump())
    given = one.get("parameters", {})
    assert set(given) <= set(schema["properties"])
    partly = schema | {"required": []}
    jsonschema.validate(given, partly)


def test_schedules_say_when_and_where() -> None:
    for name in ("generate-videos/nightly", "reprocess-failed/morning-after"):
        (schedule,) = DEPLOYMENTS[name]["schedules"]
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        assert schedule["timezone"] in zoneinfo.available_timezones()
    assert DEPLOYMENTS["generate-videos/nightly"]["parameters"]["manifest"].startswith("s3://")


def test_no_deployment_has_a_limit_whose_lease_could_end_its_run() -> None:
    """Prefect ends a run as Crashed where its server does not answer when the lease of its place is renewed."""
    assert not any("concurrency_limit" in one for one in DEPLOYMENTS.values())


def test_a_schedule_that_could_spend_is_off_until_somebody_names_a_bucket() -> None:
    for name in ("generate-videos/nightly", "reprocess-failed/morning-after"):
        told = str(DEPLOYMENTS[name]["parameters"])
        assert ("YOUR-BUCKET" in told) == (not DEPLOYMENTS[name]["schedules"][0]["active"])
        assert DEPLOYMENTS[name]["parameters"]["max_cost_usd"] > 0


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
def test_prefect_reads_every_key_of_an_automation(rule: dict[str, Any]) -> None:
    assert unknown_in_automation(rule) == []
    told = deepcopy(rule)
    for action in told["actions"]:
        if action.pop("block", None):
            action["block_document_id"] = "00000000-0000-0000-0000-000000000001"
    automation = AutomationCore.model_validate(told)
    assert all(not isinstance(action, actions.UnknownAction) for action in automation.actions)


@pytest.mark.parametrize("text", ["<!channel> see <https://evil.test|the results>", "@everyone", "ok\n<@U123>", None])
def test_no_word_of_others_becomes_a_mention_or_a_link_in_an_alert(text: str | None) -> None:
    """A file's name, a header cell, a provider's or a storage's own words."""
    state = SimpleNamespace(name="NotStarted", message=text)
    run = SimpleNamespace(id="0", name=text or "m.csv", state=state)
    alerts = [action for rule in RULES for action in rule["actions"] if action["type"] == "send-notification"]
    assert len(alerts) == 2
    for alert in alerts:
        for template in (alert["subject"], alert["body"]):
            validate_user_template(template)
            shown = render_user_template_sync(
                template.replace("{{ flow_run|ui_url }}", ""), {"flow_run": run, "event": {}}
            )
            assert not re.search(r"[<>]|@(?!\u2060)|None", shown)
            assert "{" not in shown


def test_a_run_that_ended_under_any_of_our_names_is_not_taken_for_a_crashed_one() -> None:
    """The rule about heartbeats must know every name that a state of ours can have, or it would crash what is done."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "flows").rglob("*.py"))
    ours = set(re.findall(r'name ?= ?"([A-Z]\w+)"', source))
    assert {"Incomplete", "Stopped", "NotStarted", "NotApproved", "Refused", "Elsewhere", "Skipped"} <= ours
    rule = next(rule for rule in RULES if "heartbeat" in rule["name"])
    ends = {"Completed", "Failed", "Crashed", "Cancelled", "TimedOut", "Paused", "Suspended"}
    ends |= {"AwaitingRetry", "Scheduled", "Late"}  # it was put back
    assert {f"prefect.flow-run.{name}" for name in ours | ends} <= set(rule["trigger"]["expect"])
