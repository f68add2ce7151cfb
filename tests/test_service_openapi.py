"""Every operation of the service's OpenAPI, asked by schemathesis: no 5xx, no status or type that is not documented."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from plait.service import ServiceOptions, create_app
from tests.serving import listening, settings_in

APP = Path(__file__).parent / "apps" / "service_app"
# Graphs that end by themselves, whatever they are given: what a graph raises is a 500 by right.
GRAPHS = ("steps", "approve", "parent")
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
EXAMPLES = {GenerationMode.POSITIVE: 6, GenerationMode.NEGATIVE: 2}
PATIENCE_S = 30.0
# Left out: a run that begins in a year is not answered before, and one that may take no time is a 504 by right.
SPANS = ("after_seconds", "timeout_s")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("openapi")
    options = ServiceOptions(max_queued=100_000, timeout_s=5.0)
    with listening(create_app(APP, settings=settings_in(home), options=options)) as found:
        yield found.url


@pytest.fixture(scope="module")
def schema(service: str) -> Any:
    config = SchemathesisConfig.from_dict({"reports": {}, "output": {"sanitization": {"enabled": False}}})
    return schemathesis.openapi.from_url(f"{service}/openapi.json", config=config)


def known(client: httpx.Client) -> dict[str, str]:
    """A thread with a run and a checkpoint, an assistant and a cron of its own: ids that mean something."""
    thread = str(uuid4())
    body = {"assistant_id": "steps", "input": {"topic": "cats"}, "if_not_exists": "create"}
    client.post(f"/threads/{thread}/runs/wait", json=body).raise_for_status()
    run = client.get(f"/threads/{thread}/runs").json()[0]["run_id"]
    checkpoint = client.get(f"/threads/{thread}/state").json()["checkpoint"]["checkpoint_id"]
    assistant = client.post("/assistants", json={"graph_id": "steps"}).json()["assistant_id"]
    cron = client.post("/runs/crons", json={"assistant_id": "steps", "schedule": "0 0 1 1 *", "input": {}}).json()
    return {
        "thread_id": thread,
        "run_id": run,
        "checkpoint_id": checkpoint,
        "assistant_id": assistant,
        "cron_id": cron["cron_id"],
        "model": "steps",
        "namespace": "child",
    }


def meant(case: Any, ids: Mapping[str, str], data: st.DataObject) -> None:
    """Put what exists in the place of ids and names that chance would never find."""
    for name in list(case.path_parameters or {}):
        if name in ids and data.draw(st.integers(0, 3)):
            case.path_parameters[name] = ids[name]
    body = case.body
    for part in body if isinstance(body, list) else [body]:
        if not isinstance(part, dict):
            continue
        for name in SPANS:
            part.pop(name, None)
        for name in ("assistant_id", "graph_id", "workflow", "model"):
            if isinstance(part.get(name), str) and data.draw(st.integers(0, 3)):
                part[name] = data.draw(st.sampled_from(GRAPHS))
        for name in ("thread_id", "run_id", "checkpoint_id"):
            if isinstance(part.get(name), str) and data.draw(st.booleans()):
                part[name] = ids[name]


def faults_of(operation: Any, mode: GenerationMode, ids: Mapping[str, str]) -> list[str]:
    """What schemathesis finds fault with; asks as often as EXAMPLES says, always the same."""

    @settings(
        max_examples=EXAMPLES[mode],
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def ask(case: Any, data: st.DataObject) -> None:
        meant(case, ids, data)
        case.call_and_validate(checks=CHECKS, timeout=PATIENCE_S)

    try:
        ask()
    except FailureGroup as group:
        return [f"{operation.label}: {group}"]
    except Unsatisfiable:  # there is nothing that could be wrong with a request without parameters
        assert mode == GenerationMode.NEGATIVE
    return []


@pytest.mark.timeout(240)
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize("mode", list(EXAMPLES), ids=lambda mode: mode.value)
def test_no_operation_answers_with_a_5xx_or_what_is_not_documented(
    service: str, schema: Any, mode: GenerationMode, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[str] = []
    with httpx.Client(base_url=service, timeout=PATIENCE_S) as client:
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) > 60
        ids = known(client)
        for operation in operations:
            faults += faults_of(operation, mode, ids)
            if operation.method.upper() == "DELETE" or "prune" in operation.path:
                ids = known(client)
    assert not faults, "\n\n".join(faults)
    assert [record for record in caplog.records if record.levelno > logging.WARNING] == []
