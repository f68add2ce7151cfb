"""Reads the experiments that an app declares, in eval/experiments.toml."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from plait.app import App
from plait.datasets.examples import Example
from plait.errors import InputError
from plait.experiments.thresholds import parse_threshold

if TYPE_CHECKING:
    # Importing LangGraph takes seconds, and declarations need none of it.
    from plait.batches import Rows
    from plait.experiments.evaluators import Evaluator
    from plait.runs import Graph

    AnyEvaluator = str | Mapping[str, object] | Callable[..., object] | Evaluator

__all__ = ["EVALUATOR_TIMEOUT_S", "Definition", "find_definition", "in_split", "load_definitions"]

FILE_NAME = "eval/experiments.toml"
"""Below the app's folder; `"experiments"` in the plait section of langgraph.json names another."""

EXAMPLE = """\
[my-experiment]
workflow = "story"
dataset = "datasets/topics.jsonl"
evaluators = ["eval.evaluators:mentions_topic"]"""

EVALUATOR_TIMEOUT_S = 600.0

_SPLIT_KEYS = ("split", "splits", "dataset_split")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """An experiment as it is declared, in a file or in Python."""

    name: str
    workflow: str | Graph
    """A name in langgraph.json; in Python also a compiled graph."""
    dataset: Rows
    """What `open_dataset` takes; of a file's, the whole path or `langsmith:NAME`."""
    evaluators: tuple[AnyEvaluator, ...]
    """In a file: `exact`, `package.module:function`, or `{"use": one of those, ...}` with `key`, `node`,
    `lower_is_better` and what the evaluator takes."""
    summary_evaluators: tuple[AnyEvaluator, ...] = ()
    """They score the experiment as a whole."""
    repetitions: int = 1
    """How often each example is run."""
    model: str | None = None
    context: Mapping[str, JsonValue] = field(default_factory=dict)
    thresholds: Mapping[str, str] = field(default_factory=dict)
    """By score's key (or `errors`), what CI demands: `>= 0.8`, or a number alone."""
    node: str | None = None
    """Run this node alone."""
    split: str | None = None
    """Only examples of this split."""
    cluster: str | None = None
    """The metadata key whose equal values mark examples that belong together."""
    limit: int | None = None
    """Only the first so many examples."""
    timeout_s: float | None = None
    """Seconds for one run."""
    evaluator_timeout_s: float = EVALUATOR_TIMEOUT_S
    """Seconds for one evaluator of one run, in which its model calls may wait for a permit."""
    row_attempts: int = 1
    max_concurrency: int | None = None

    folder: Path | None = None
    """Of the file that declares it."""

    @property
    def dataset_name(self) -> str:
        """As the file says it; `rows` for objects of Python."""
        if not isinstance(self.dataset, str | Path):
            return "rows"
        path = Path(self.dataset)
        inside = self.folder is not None and path.is_relative_to(self.folder)
        return str(path.relative_to(self.folder)) if inside and self.folder else str(self.dataset)


def load_definitions(app: App) -> dict[str, Definition]:
    """The app's experiments by name, in the order of the file; none where there is no file.

    Reads one file and imports nothing: whether datasets, evaluators and nodes are there shows when they are used.
    Raises InputError with one line for each mistake: file, experiment, key, what was expected and found.
    """
    file = definitions_file(app)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file}: expected TOML, found a mistake: {_begun_small(str(error))}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: expected a UTF-8 file that can be read, found {error}") from error
    mistakes: list[str] = []
    found: dict[str, Definition] = {}
    for name, table in content.items():
        wrong = []
        try:
            found[name] = _definition(name, table, file.parent)
        except ValidationError as error:
            wrong = list(dict.fromkeys(_line(problem) for problem in error.errors()))
        if isinstance(table, dict) and isinstance(workflow := table.get("workflow"), str) and workflow:
            wrong += _unknown_workflow(workflow, app)
        mistakes += [f"{file}: [{name}]{line}" for line in wrong]
    if mistakes:
        raise InputError("\n".join(mistakes))
    return found


def find_definition(app: App, name: str) -> Definition:
    """The app's experiment of that name. Raises InputError with those there are, and as `load_definitions` does."""
    found = load_definitions(app)
    if name in found:
        return found[name]
    file = definitions_file(app)
    if not found:
        what = "found none in it" if file.is_file() else "found no such file"
        raise InputError(
            f"expected the experiment {name!r} in {file}, {what}: declare it there, for instance\n{EXAMPLE}"
        )
    near = difflib.get_close_matches(name, found, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"expected an experiment of {file}, found {name!r}: {hint}experiments: {', '.join(found)}")


def definitions_file(app: App) -> Path:
    """Where the app's experiments are declared, whether or not there is such a file."""
    named = app.section.get("experiments")
    return app.root / (named if isinstance(named, str) and named else FILE_NAME)


def in_split(example: Example, split: str) -> bool:
    """Whether the example's metadata name that split: as `split` or `splits`, or as LangSmith does, `dataset_split`."""
    for key in _SPLIT_KEYS:
        value = (example.metadata or {}).get(key)
        if value == split or (isinstance(value, list | tuple) and split in value):
            return True
    return False


def _evaluator(value: object) -> object:
    if isinstance(value, str):
        _check_name(value)
        return value
    if not isinstance(value, dict):
        raise ValueError(f"expected an evaluator's name or {{use = ...}}, found {_shown(value)}")
    used = value.get("use")
    if not isinstance(used, str):
        near = difflib.get_close_matches("use", value, n=1, cutoff=0.5)
        hint = f"; did you mean use where it says {near[0]}?" if near and used is None else ""
        raise ValueError(f'expected {{use = "an evaluator", ...}}, found {_shown(value)}{hint}')
    _check_name(used)
    for key in ("key", "node"):
        if key in value and (not isinstance(value[key], str) or not value[key]):
            raise ValueError(f"{key}: expected text, found {_shown(value[key])}")
    if not isinstance(value.get("lower_is_better", False), bool):
        raise ValueError(f"lower_is_better: expected true or false, found {_shown(value['lower_is_better'])}")
    return value


_NAME = re.compile(r"[\w-]+|[^\s:][^:]*:[\w.]+")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"expected a built-in evaluator such as exact, or package.module:function, found {name!r}")


def _thresholds(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {key: _threshold(key, demanded) for key, demanded in value.items()}


def _threshold(key: str, value: object) -> str:
    try:
        parse_threshold(key, cast("str | float", value))
    except InputError as error:
        raise ValueError(str(error).removeprefix("threshold ")) from None
    return str(value)


_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=1)]
_Spec = Annotated[str | dict[str, JsonValue], BeforeValidator(_evaluator)]


class _Table(BaseModel):
    """What a table of the file may hold; the description of a field is what is expected of it."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    workflow: Annotated[_Text, Field(description='a workflow of langgraph.json, as in "story"')]
    dataset: Annotated[_Text, Field(description='a file beside this one, as in "datasets/topics.jsonl"')]
    evaluators: Annotated[list[_Spec], Field(min_length=1, description='a list of evaluators, as in ["exact"]')]
    summary_evaluators: Annotated[list[_Spec], Field(description='a list of evaluators, as in ["my.module:f1"]')] = []
    repetitions: Annotated[_Count, Field(description="a whole number of 1 or more")] = 1
    model: Annotated[_Text | None, Field(description='a model, as in "openai:gpt-5.4-mini"')] = None
    context: Annotated[dict[str, JsonValue], Field(description="a table of texts, numbers, lists and tables")] = {}
    thresholds: Annotated[
        dict[str, str],
        BeforeValidator(_thresholds),
        Field(description='a table of comparisons, as in {errors = 0, exact = ">= 0.8"}'),
    ] = {}
    node: Annotated[_Text | None, Field(description='a node\'s name, as in "write" or "research/search"')] = None
    split: Annotated[_Text | None, Field(description="a split's name")] = None
    cluster: Annotated[_Text | None, Field(description="a key of the examples' metadata")] = None
    limit: Annotated[_Count | None, Field(description="a whole number of 1 or more")] = None
    timeout_s: Annotated[float | None, Field(gt=0, description="seconds above 0")] = None
    evaluator_timeout_s: Annotated[float, Field(gt=0, description="seconds above 0")] = EVALUATOR_TIMEOUT_S
    row_attempts: Annotated[_Count, Field(description="a whole number of 1 or more")] = 1
    max_concurrency: Annotated[_Count | None, Field(description="a whole number of 1 or more")] = None


def _definition(name: str, table: object, folder: Path) -> Definition:
    read = _Table.model_validate(table)
    return Definition(
        name=name,
        folder=folder,
        workflow=read.workflow,
        dataset=read.dataset if read.dataset.startswith("langsmith:") else str(folder / read.dataset),
        evaluators=tuple(read.evaluators),
        summary_evaluators=tuple(read.summary_evaluators),
        repetitions=read.repetitions,
        model=read.model,
        context=read.context,
        thresholds=read.thresholds,
        node=read.node,
        split=read.split,
        cluster=read.cluster,
        limit=read.limit,
        timeout_s=read.timeout_s,
        evaluator_timeout_s=read.evaluator_timeout_s,
        row_attempts=read.row_attempts,
        max_concurrency=read.max_concurrency,
    )


def _line(problem: Mapping[str, object]) -> str:
    """What stands behind the experiment's name: ` key: expected ..., found ...`."""
    place = problem["loc"]
    if not isinstance(place, tuple) or not place:
        return f": expected a table with {', '.join(_required())}, found {_shown(problem['input'])}"
    key = str(place[0])
    if problem["type"] == "extra_forbidden":
        return f" {key}: no such key; {_known(key, problem['input'])}"
    inner = place[1] if len(place) > 1 else None
    where = f"{key}[{inner}]" if isinstance(inner, int) else key if inner is None else f"{key}.{inner}"
    if problem["type"] == "value_error":
        context = problem.get("ctx")
        return f" {where}: {context.get('error') if isinstance(context, Mapping) else problem['msg']}"
    expected = _Table.model_fields[key].description
    found = "nothing" if problem["type"] == "missing" else _shown(problem["input"])
    return f" {where}: expected {expected}, found {found}"


def _known(key: str, value: object) -> str:
    near = difflib.get_close_matches(key, _Table.model_fields, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    if isinstance(value, dict):
        return f'a name with dots is written in quotes, as in ["a.{key}"]'
    return f"known: {', '.join(_Table.model_fields)}"


def _required() -> Iterable[str]:
    return (name for name, part in _Table.model_fields.items() if part.is_required())


def _unknown_workflow(name: str, app: App) -> list[str]:
    if name in app.workflows:
        return []
    near = difflib.get_close_matches(name, app.workflows, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"workflows: {', '.join(app.workflows)}"
    return [f" workflow: expected a workflow of {app.file}, found {name!r}; {hint}"]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _begun_small(text: str) -> str:
    return text[:1].lower() + text[1:]
