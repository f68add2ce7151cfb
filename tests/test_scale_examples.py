"""The files of examples/scale: that they parse, fit each other, and name what plait has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from plait.settings import from_env
from tests.command import plait

FOLDER = Path(__file__).parents[1] / "examples" / "scale"


def read(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def test_compose_waits_for_the_database_and_nginx_finds_the_replicas() -> None:
    (found,) = read("compose.yaml")
    services = found["services"]
    replica = services["plait"]
    assert replica["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert replica["deploy"]["replicas"] > 1
    database = services["postgres"]["environment"]
    names = {"POSTGRES_PASSWORD": "p"}
    dsn = re.sub(r"\$\{(\w+)\}", lambda found: names[found[1]], replica["environment"]["PLAIT_STORE"])
    assert dsn == f"postgresql://{database['POSTGRES_USER']}:p@postgres/{database['POSTGRES_DB']}"
    assert from_env({"PLAIT_STORE": dsn}).store == dsn
    proxy = (FOLDER / "nginx.conf").read_text()
    assert "set $replicas plait;" in proxy
    assert "$replicas:8123;" in proxy
    assert "127.0.0.1:8123/ok" in replica["healthcheck"]["test"][-1]


def test_the_ray_job_has_one_version_of_ray_and_what_it_names() -> None:
    job, settings = read("ray-job.yaml")
    cluster = job["spec"]["rayClusterSpec"]
    image = (FOLDER / "Dockerfile.ray").read_text()
    assert f"rayproject/ray:{cluster['rayVersion']}-" in image
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [each for group in groups for each in group["template"]["spec"]["containers"]]
    assert len({pod["image"] for pod in pods}) == 1
    assert pods[0]["envFrom"][0]["configMapRef"]["name"] == settings["metadata"]["name"]
    assert from_env(settings["data"]).model == settings["data"]["PLAIT_MODEL"]


@pytest.mark.parametrize(
    "words",
    [
        read("compose.yaml")[0]["services"]["plait"]["command"],
        read("ray-job.yaml")[0]["spec"]["entrypoint"].split(),
    ],
    ids=["compose", "ray"],
)
def test_commands_are_ones_that_plait_has(words: list[str]) -> None:
    told = plait(words[1], "--help").out
    for flag in (word for word in words if word.startswith("--")):
        assert flag in told, flag
