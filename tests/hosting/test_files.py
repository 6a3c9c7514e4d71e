"""The files that hosts read: Procfile, Dockerfile, docker-compose.yml, .env.example and what docs/deploy.md shows."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from events.settings import Settings, variable
from tests.console.command import Place
from tests.documents import blocks_of
from tests.programs import compose, hadolint

ROOT = Path(__file__).resolve().parents[2]
OURS = {variable(field.name) for field in fields(Settings)}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BUILT = [name for name, service in SERVICES.items() if "build" in service]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def last_stage() -> list[tuple[str, str]]:
    every = instructions()
    return every[max(number for number, (word, _) in enumerate(every) if word == "FROM") :]


def kubernetes() -> list[dict[str, Any]]:
    text = (ROOT / "docs" / "deploy.md").read_text()
    blocks = [block.code for block in blocks_of(text, "docs/deploy.md") if block.language == "yaml"]
    return [part for block in blocks for part in yaml.safe_load_all(block)]


def commands() -> list[list[str]]:
    """Every `eventbus` that a host is told to run."""
    found = [line.split(": ", 1)[1] for line in (ROOT / "Procfile").read_text().splitlines()]
    found += [SERVICES[name]["command"] for name in BUILT]
    words = [shlex.split(line) for line in found]
    words += [json.loads(rest) for word, rest in last_stage() if word == "CMD"]
    return words + [container["args"] for part in kubernetes() for container in containers(part)]


def containers(part: dict[str, Any]) -> list[dict[str, Any]]:
    return part["spec"]["template"]["spec"]["containers"] if part.get("kind") == "Deployment" else []


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_that_a_host_runs_is_there_with_its_options(place: Place, words: list[str]) -> None:
    assert words[0] == "eventbus"
    command = [word for word in words[1:2] if not word.startswith("-")]

    shown = place.run(*command, "--help")

    assert shown.code == 0, shown.err
    assert all(word in shown.out for word in words if word.startswith("--"))


def test_every_variable_that_a_host_sets_is_one_that_is_read() -> None:
    named = set()
    for path in ("docker-compose.yml", "docs/deploy.md", ".env.example", "Dockerfile"):
        named |= set(re.findall(r"\bEVENTBUS_[A-Z_]+[A-Z]\b", (ROOT / path).read_text()))

    assert named <= OURS


def test_the_example_of_an_environment_has_every_variable() -> None:
    text = (ROOT / ".env.example").read_text()

    assert {name for name in re.findall(r"^# ([A-Z_]+)=", text, re.MULTILINE)} == OURS


def test_the_services_that_run_the_bus_wait_for_the_migration_and_are_looked_after() -> None:
    assert {"web", "worker", "archiver", "release", "valkey", "postgres"} == SERVICES.keys()
    for name in ("web", "worker", "archiver"):
        service = SERVICES[name]
        assert service["depends_on"]["release"] == {"condition": "service_completed_successfully"}
        assert service["depends_on"]["valkey"] == {"condition": "service_healthy"}
        assert service["healthcheck"]["test"] and service["restart"] == "unless-stopped"
        assert {"REDIS_URL", "DATABASE_URL", "EVENTBUS_APP"} <= service["environment"].keys()
    assert SERVICES["release"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert "/readyz" in SERVICES["web"]["healthcheck"]["test"][-1]
    assert ":?" in SERVICES["web"]["environment"]["EVENTBUS_WEB_TOKEN"], "it does not start without a token"
    mounted = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert mounted == COMPOSE["volumes"].keys()
    assert "noeviction" in SERVICES["valkey"]["command"] and "--appendonly yes" in SERVICES["valkey"]["command"]


def test_what_is_stopped_gets_longer_than_it_takes() -> None:
    from console.web.serving import GRACE_S
    from workers.orders import KILL_AFTER_S

    grace_s = {name: int(service["stop_grace_period"].rstrip("s")) for name, service in SERVICES.items()
               if "stop_grace_period" in service}  # fmt: skip
    assert grace_s["worker"] > Settings().grace_s + KILL_AFTER_S
    assert grace_s["web"] > GRACE_S
    for part in kubernetes():
        for container in containers(part):
            given = part["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            assert given >= grace_s["web" if "web" in container["args"] else "worker"]


def test_the_image_is_built_in_stages_and_runs_as_nobody_special() -> None:
    stages = [rest for word, rest in instructions() if word == "FROM"]
    last = last_stage()

    assert len(stages) == 2 and all(stage.startswith("python:3.12-slim") for stage in stages)
    users = [rest for word, rest in last if word == "USER"]
    assert users and users[-1].isdigit() and int(users[-1]) > 0, "Kubernetes believes numbers alone"
    assert any(word == "HEALTHCHECK" for word, _ in last)
    assert not any(word == "RUN" and "pip" in rest for word, rest in last)


def test_what_the_image_copies_is_there_and_is_let_into_the_build() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest]

    for name in (name for names in copied for name in names):
        assert (ROOT / name).exists() and name in let_in


def test_hadolint_finds_nothing() -> None:
    found = subprocess.run([hadolint(), str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60)

    assert found.returncode == 0, found.stdout + found.stderr


def test_docker_compose_reads_the_file_and_asks_for_what_it_needs() -> None:
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    secrets = {"POSTGRES_PASSWORD": "a" * 8, "EVENTBUS_WEB_TOKEN": "b" * 16}
    command = [*compose(), "-f", str(ROOT / "docker-compose.yml"), "config"]

    def run(given: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**environment, **given})

    read = run(secrets)

    assert read.returncode == 0, read.stderr
    services = yaml.safe_load(read.stdout)["services"]
    assert services.keys() == SERVICES.keys()
    assert "a" * 8 in services["worker"]["environment"]["DATABASE_URL"]
    for name in secrets:
        refused = run({other: value for other, value in secrets.items() if other != name})
        assert refused.returncode != 0 and name in refused.stderr


def test_the_scaler_asks_the_api_and_scales_what_is_there() -> None:
    [scaled] = [part for part in kubernetes() if part.get("kind") == "ScaledObject"]
    [trigger] = scaled["spec"]["triggers"]
    names = {
        part["metadata"]["name"] for part in kubernetes() if part.get("kind") in ("Deployment", "TriggerAuthentication")
    }

    assert trigger["metadata"]["url"].endswith("/api/v1/lag")
    assert {scaled["spec"]["scaleTargetRef"]["name"], trigger["authenticationRef"]["name"]} <= names
