"""Image, compose file and Kubernetes files, as far as they can be checked without a container engine."""

import fnmatch
import json
import re
import stat
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import prefect
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prefect.settings import Settings
from prefect.settings.legacy import _get_settings_fields

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "deployments"
DOCKERFILE = (HERE / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((HERE / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
TEMPLATE = json.loads((HERE / "kubernetes" / "base-job-template.json").read_text(encoding="utf-8"))
SERVER = yaml.safe_load((HERE / "kubernetes" / "prefect-server.values.yaml").read_text(encoding="utf-8"))
WORKER = yaml.safe_load((HERE / "kubernetes" / "prefect-worker.values.yaml").read_text(encoding="utf-8"))


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of every line of the Dockerfile, continued lines joined, comments left out."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#")))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def test_the_image_is_built_in_two_stages_from_a_pinned_base() -> None:
    stages = [rest for word, rest in instructions() if word == "FROM"]
    assert len(stages) == 2
    assert all("${PYTHON}" in stage for stage in stages)
    assert "ARG PYTHON=3.11-slim-bookworm" in DOCKERFILE
    assert not any(word == "ADD" for word, _ in instructions())


def test_everything_in_the_image_comes_from_the_lock_with_hashes() -> None:
    runs = [rest for word, rest in instructions() if word == "RUN"]
    commands = [command.strip() for rest in runs for command in re.split("&&", rest) if "install " in command]
    pip, dependencies, project = [command for command in commands if re.match("(uv )?pip install", command)]
    assert pip.startswith("pip install --require-hashes --no-deps --only-binary :all:")
    assert "--no-build --constraints requirements.lock" in dependencies
    assert "--no-deps --build-constraints requirements.lock" in project
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if re.match(r"[a-z0-9]", line)]
    assert all("==" in pin for pin in pins)
    assert text.count("--hash=sha256:") >= len(pins)


def needed(requirement: Requirement, seen: set[tuple[str, str]]) -> None:
    """Adds (name, extra) of all that a requirement brings, as it is installed here."""
    for extra in ("", *requirement.extras):
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in requires(name) or ():
            child = Requirement(line)
            if child.marker is None or child.marker.evaluate({"extra": extra}):
                needed(child, seen)


def test_no_video_encoder_is_in_the_image() -> None:
    extras = ",".join(re.findall(r"--extra (\w+)", DOCKERFILE))
    assert extras == "postgres,redis"
    seen: set[tuple[str, str]] = set()
    needed(Requirement(f"reelsheet[{extras}]"), seen)
    names = {name for name, _ in seen}
    assert {"prefect", "asyncpg", "prefect-redis"} <= names
    assert names.isdisjoint({"av", "imageio-ffmpeg", "opencv-python", "opencv-python-headless", "moviepy", "x264"})


def test_the_image_runs_as_nobody_special_and_is_healthy_by_doctor() -> None:
    final = DOCKERFILE.rpartition("FROM ")[2]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert final.index("USER 10001") < final.index("CMD [")
    assert re.search(r'^HEALTHCHECK .* CMD \["reelsheet", "doctor"\]$', final, re.MULTILINE)


def test_what_the_image_copies_is_there_and_is_let_through() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    for word, rest in instructions():
        if word != "COPY" or "--from=" in rest:
            continue
        for source in [part for part in rest.split() if not part.startswith("--")][:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source.removeprefix("./"), rule[1:]) for rule in rules if rule[0] == "!"), source


def test_all_that_the_wheel_is_made_of_is_copied() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = {rest.split()[0] for word, rest in instructions() if word == "COPY"}
    assert {*wheel["packages"], *wheel.get("force-include", {})} <= copied


def test_programs_that_are_started_can_be() -> None:
    for path in (HERE / "bootstrap", HERE / "postgres" / "10-databases.sh"):
        assert path.stat().st_mode & stat.S_IXUSR
    compile((HERE / "bootstrap").read_text(encoding="utf-8"), "bootstrap", "exec")


def test_the_stack_comes_up_in_the_right_order() -> None:
    assert set(SERVICES) == {"postgres", "redis", "migrate", "server", "services", "bootstrap", "worker"}
    needs = {name: one.get("depends_on", {}) for name, one in SERVICES.items()}
    assert needs["migrate"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("server", "services"):
        assert needs[name]["migrate"] == {"condition": "service_completed_successfully"}
        assert needs[name]["redis"] == {"condition": "service_healthy"}
    assert needs["bootstrap"] == {"server": {"condition": "service_healthy"}}
    assert needs["worker"] == {"bootstrap": {"condition": "service_completed_successfully"}}
    assert "python -m reelsheet.ledger" in SERVICES["migrate"]["command"][-1]


def test_two_workers_with_time_to_end_and_nothing_open_to_the_world() -> None:
    worker = SERVICES["worker"]
    assert worker["deploy"]["replicas"] == 2
    assert int(worker["stop_grace_period"].removesuffix("s")) >= 60
    assert [port for one in SERVICES.values() for port in one.get("ports", [])] == ["127.0.0.1:4200:4200"]
    assert all(one.get("cap_drop") == ["ALL"] and one.get("read_only") for one in SERVICES.values() if "build" in one)


def test_no_secret_stands_in_a_file() -> None:
    for name, one in SERVICES.items():
        for variable, value in one.get("environment", {}).items():
            if re.search(r"PASSWORD|KEY|SECRET|WEBHOOK|NOTIFY", variable):
                assert re.fullmatch(r"\$\{\w+(:\?|:-)\}", str(value)), f"{name}: {variable}"
            assert not re.search(r"://[^/:]+:(?!\$\{)[^@]+@", str(value)), f"{name}: {variable}"
    example = (HERE / "compose.env.example").read_text(encoding="utf-8")
    wanted = set(re.findall(r"\$\{(\w+):\?\}", (HERE / "compose.yaml").read_text(encoding="utf-8")))
    given = dict(line.split("=", 1) for line in example.splitlines() if "=" in line and not line.startswith("#"))
    assert wanted <= set(given)
    assert not any(value for name, value in given.items() if name in wanted)


def test_prefect_knows_every_setting_that_is_given_to_it() -> None:
    known = set(_get_settings_fields(Settings)) | {"PREFECT_DATABASE_PASSWORD", "PREFECT_REDIS_MESSAGING_URL"}
    given = {variable for one in SERVICES.values() for variable in one.get("environment", {})}
    given |= {one["name"] for one in SERVER["global"]["prefect"]["env"]}
    given |= set(re.findall(r"\bPREFECT_\w+", DOCKERFILE))
    given |= set(re.findall(r"\bPREFECT_\w+", (ROOT / "prefect.yaml").read_text()))
    assert {name for name in given if name.startswith("PREFECT_")} - known == set()


def test_every_value_that_the_job_template_uses_is_a_field_of_its_form() -> None:
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(TEMPLATE["job_configuration"])))
    assert used == set(TEMPLATE["variables"]["properties"])
    for name, told in TEMPLATE["variables"]["properties"].items():
        assert told.get("description"), name


def test_the_job_template_keeps_all_that_prefects_own_has() -> None:
    views = Path(prefect.__file__).parent / "server" / "api" / "collections_data" / "views"
    told = json.loads((views / "aggregate-worker-metadata.json").read_text(encoding="utf-8"))
    own = told["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]
    assert set(own["job_configuration"]) <= set(TEMPLATE["job_configuration"])
    assert set(own["variables"]["properties"]) <= set(TEMPLATE["variables"]["properties"])


def test_jobs_have_time_to_end_secrets_by_reference_and_no_rights() -> None:
    pod = TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    grace = TEMPLATE["variables"]["properties"]["termination_grace_period_seconds"]
    assert grace["default"] >= grace["minimum"] >= 60
    (job,) = pod["containers"]
    assert job["envFrom"] == [{"secretRef": {"name": "{{ secret_name }}"}}]
    assert job["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert TEMPLATE["job_configuration"]["job_manifest"]["spec"]["backoffLimit"] == 0, "Kubernetes repeats nothing"


def test_the_charts_take_their_secrets_by_reference() -> None:
    text = json.dumps([SERVER, WORKER])
    assert not re.search(r'"(password|authString|connectionString)": "[^"]+"', text)
    assert SERVER["server"]["basicAuth"]["existingSecret"]
    assert SERVER["externalDatabase"]["existingSecret"]
    assert SERVER["backgroundServices"]["messaging"]["docket"]["existingSecret"]
    assert WORKER["worker"]["selfHostedServerApiConfig"]["basicAuth"]["existingSecret"]
    assert WORKER["worker"]["config"]["workPool"] == "reelsheet"


def test_versions_agree_with_the_lock() -> None:
    locked = re.search(r"^prefect==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked is not None
    assert SERVER["global"]["prefect"]["image"]["prefectTag"].startswith(locked[1])
    assert WORKER["worker"]["image"]["prefectTag"].startswith(locked[1])
    assert yaml.safe_load((ROOT / "prefect.yaml").read_text())["prefect-version"] == locked[1]


def test_kubernetes_objects_are_whole() -> None:
    objects: list[dict[str, Any]] = list(
        yaml.safe_load_all((HERE / "kubernetes" / "setup.yaml").read_text(encoding="utf-8"))
    )
    assert [one["kind"] for one in objects] == ["Namespace", "ServiceAccount", "Job"]
    assert all(one["apiVersion"] and one["metadata"]["name"] for one in objects)
    assert objects[2]["spec"]["template"]["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": "reelsheet"}}]
