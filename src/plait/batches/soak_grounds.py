"""What a soak stands on: an environment in which every model is the simulator's, and rows when nobody has any."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from plait.errors import InputError, SettingsError
from plait.flow.calls import Call
from plait.flow.gate import Gate
from plait.flow.lanes import Lane
from plait.flow.retries import RetryPolicy
from plait.inputs import check_inputs, input_fields, input_json_schemas
from plait.runs import Graph
from plait.settings import Bounds, Settings
from plait.simulator import Simulator
from plait.simulator.instances import instance

DUMMY_KEY = "sk-soak"
MODEL = "openai:simulated"


class FencedGate(Gate):
    """A gate that lets nothing out but to the simulator at `origin`: a soak must never be somebody's bill."""

    def __init__(self, settings: Settings, origin: str) -> None:
        super().__init__(settings)
        self._origin = origin

    def lane(self, call: Call) -> tuple[Lane, RetryPolicy]:
        """As every gate's. Raises SettingsError for a call to anywhere else."""
        if call.endpoint != self._origin and not call.endpoint.startswith(f"{self._origin}/"):
            raise SettingsError(
                f"a soak calls the simulator only, and a call for {call.endpoint} was stopped: let its client take its "
                "URL from OPENAI_BASE_URL or ANTHROPIC_BASE_URL, or the model from plait.models.chat_model"
            )
        return super().lane(call)


def soaked(settings: Settings, simulator: Simulator, home: Path) -> Settings:
    """The settings with every endpoint at the simulator, without keys, limits and anything that is kept."""
    key = simulator.profile.require_key or DUMMY_KEY
    endpoints = {
        name: replace(
            endpoint, base_url=simulator.base_url, api_key=key, headers={}, ca_file=None, bounds=Bounds(), models={}
        )
        for name, endpoint in settings.endpoints.items()
        if name != "local"
    }
    model = settings.model
    if model is None or model.partition(":")[0] not in {*endpoints, "anthropic"}:
        model = MODEL
    return replace(settings, model=model, endpoints=endpoints, proxies={}, home=home, share=False, embedded=False)


@contextmanager
def soaked_environment(settings: Settings, simulator: Simulator) -> Iterator[None]:
    """The variables that clients read, for graphs that make their own; as they were when the block ends."""
    key = simulator.profile.require_key or DUMMY_KEY
    variables: dict[str, str | None] = {
        "OPENAI_BASE_URL": simulator.base_url,
        "OPENAI_API_BASE": simulator.base_url,
        "ANTHROPIC_BASE_URL": simulator.origin,
        "ANTHROPIC_API_URL": simulator.origin,
        "LANGSMITH_TRACING": "false",
        "LANGCHAIN_TRACING_V2": "false",
        "ANTHROPIC_AUTH_TOKEN": None,
    }
    variables |= {"OPENAI_API_KEY": key, "ANTHROPIC_API_KEY": key}
    variables |= {endpoint.api_key_env: key for endpoint in settings.endpoints.values() if endpoint.api_key_env}
    if any(name.lower().endswith("_proxy") for name in os.environ):
        variables |= {"NO_PROXY": "*", "no_proxy": "*"}
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def made_inputs(graph: Graph, name: str, count: int) -> list[dict[str, object]]:
    """So many different inputs of the graph's input schema: what it requires, or all it takes where nothing is.

    Raises InputError where the schema does not say enough.
    """
    found = input_fields(graph)
    wanted = [each for each in found if each.required] or found
    if not wanted:
        raise InputError(
            f"{name} does not say what its inputs are: expected DATA with rows to soak it with, found none"
        )
    schemas = input_json_schemas(graph)
    rows: list[dict[str, object]] = []
    for number in range(count):
        text = f"soak {number}"
        rows.append(
            {
                each.name: [{"role": "user", "content": text}]
                if "message" in each.type.lower()
                else instance(schemas.get(each.name, {}), text)
                for each in wanted
            }
        )
    try:
        check_inputs(graph, rows[0], workflow=name)
    except InputError as error:
        raise InputError(f"no inputs could be made for {name}: give DATA with rows to soak it with\n{error}") from error
    return rows
