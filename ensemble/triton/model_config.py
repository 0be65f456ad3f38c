"""Complete Triton configurations of the models, so that Triton need not ask a model to complete its own.

The schema is Triton's `model_config.proto` (https://github.com/triton-inference-server/common).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ensemble.layouts import CHAINED, FUSED, RANK, SEARCH, TOWER, TRANSFORM
from ensemble.serving.files.release import Release
from ensemble.serving.names import CANDIDATES, LEAST, RELEASE, USER_ROW, check_distinct
from ensemble.serving.selftest import SelfTest
from ensemble.serving.triton.canary import PARAMETER
from ensemble.serving.triton.steps import Step, Steps, steps_of
from ensemble.serving.triton.tensors import Tensor, output_tensors

_RELEASE = Tensor(RELEASE, "BYTES", 1)
_BETWEEN = "step:"
"""Begins the names of what goes from step to step; no column's name has a colon."""


def model_configs(release: Release, models: Iterable[str], version: int) -> dict[str, str]:
    """Return the `config.pbtxt` of each model, by name, for serving the release as `version`.

    Raise InvalidRelease if a tensor has a reserved name, or two have the same.
    """
    steps, serving = steps_of(release), release.manifest["serving"]
    whole = Step(steps.request, [*output_tensors(release.manifest["id_dtype"]), _RELEASE])
    search = Step(steps.search.inputs, [*steps.search.outputs, _RELEASE])
    first = Step(_all_optional(steps.transform.inputs), steps.transform.outputs)
    stated = parameters({RELEASE: release.manifest["release"]})  # which the model compares with the one beside it
    configs = {
        FUSED: [*_python(FUSED, whole, serving, "instances"), *_facts(release, "fused", whole)],
        TRANSFORM: [*_python(TRANSFORM, first, serving, "transform_instances"), *stated],
        TOWER: [*_tower(steps.tower, serving), *stated],
        SEARCH: [*_python(SEARCH, search, serving, "search_instances"), *stated],
        CHAINED: [*_ensemble(steps, search, whole, serving, version), *_facts(release, "chained", whole)],
    }
    if steps.rank is not None:
        configs[RANK] = [*_python(RANK, steps.rank, serving, "rank_instances"), *stated]
    return {name: "\n".join([*configs[name], served((version,))]) + "\n" for name in models}


def served(versions: Sequence[int]) -> str:
    """Return the line of a configuration that names the versions to load."""
    return f"version_policy {{ specific {{ versions: [ {', '.join(map(str, versions))} ] }} }}"


def parameters(facts: Mapping[str, object]) -> list[str]:
    """Return the lines of a configuration that state facts of the release."""
    # As JSON writes strings, so does the text format, as long as it is ASCII.
    return [
        f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(str(value))} }} }}'
        for key, value in facts.items()
    ]


def _facts(release: Release, layout: str, whole: Step) -> list[str]:
    serving = release.manifest["serving"]
    canary = SelfTest.load(release).canary({tensor.name for tensor in whole.inputs})
    limits = {name: serving[name] for name in ("top_k", "max_top_k", "max_exclude_item_ids")}
    return parameters({RELEASE: release.manifest["release"], "layout": layout, **limits, PARAMETER: json.dumps(canary)})


def _python(name: str, step: Step, serving: Mapping[str, Any], instances: str) -> list[str]:
    return [
        *_head(name, 'backend: "python"', step, serving),
        dynamic_batching(serving),
        instance_group(serving[instances] or serving["instances"], "KIND_CPU"),
    ]


def _tower(step: Step, serving: Mapping[str, Any]) -> list[str]:
    if serving["tower_platform"] == "python":
        return _python(TOWER, step, serving, "tower_instances")
    return [
        *_head(
            TOWER,
            'backend: "onnxruntime"\nplatform: "onnxruntime_onnx"',
            step,
            serving,
            scalar="reshape { shape: [ ] }",
        ),
        dynamic_batching(serving),
        instance_group(serving["tower_instances"] or serving["instances"], f"KIND_{serving['tower_device'].upper()}"),
        *parameters({"intra_op_thread_count": serving["threads"], "inter_op_thread_count": 1}),
    ]


def _ensemble(steps: Steps, search: Step, whole: Step, serving: Mapping[str, Any], version: int) -> list[str]:
    features, vector = ({tensor.name for tensor in step.outputs} for step in (steps.transform, steps.tower))
    retrieved = {CANDIDATES, LEAST} if steps.rank else set()
    # Of each model the inputs and the outputs that go between models.
    chain: list[tuple[str, Step, set[str], set[str]]] = [
        (TRANSFORM, steps.transform, set(), features),
        (TOWER, steps.tower, features, vector),
        (SEARCH, search, {*vector, USER_ROW}, retrieved),
    ]
    if steps.rank:
        chain.append((RANK, steps.rank, features | vector | retrieved, set()))
    links = ",\n".join(
        # The version is pinned: whatever else is loaded meanwhile, the steps of an answer are of one release.
        f'{{ model_name: "{name}" model_version: {version}\n  {_maps(step, taken_tensors, given_tensors)} }}'
        for name, step, taken_tensors, given_tensors in chain
    )
    # Where Triton joins the steps, inputs and outputs have one name space.
    check_distinct((tensor.name for tensor in (*whole.inputs, *whole.outputs)), f"{CHAINED}: tensors")
    head = _head(CHAINED, 'platform: "ensemble"', Step(_all_optional(whole.inputs), whole.outputs), serving)
    return [*head, f"ensemble_scheduling {{ step [\n{links}\n] }}"]


def _all_optional(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Make all inputs optional: for a missing one Triton would speak of a deadlock, while the first model names it."""
    return [tensor._replace(optional=True) for tensor in tensors]


def _maps(step: Step, taken_tensors: set[str], given_tensors: set[str]) -> str:
    """Return the input and output maps of a step; tensors between steps get names of their own, since a column may be
    called like a feature.
    """
    lines = []
    for direction, tensors, between in (("input", step.inputs, taken_tensors), ("output", step.outputs, given_tensors)):
        for tensor in tensors:
            value = f"{_BETWEEN}{tensor.name}" if tensor.name in between else tensor.name
            lines.append(f"{direction}_map {{ key: {_text(tensor.name)} value: {_text(value)} }}")
    return "\n  ".join(lines)


def _head(name: str, kind: str, step: Step, serving: Mapping[str, Any], scalar: str = "") -> list[str]:
    for direction, tensors in (("inputs", step.inputs), ("outputs", step.outputs)):
        check_distinct((tensor.name for tensor in tensors), f"{name}: {direction}")
    return [
        f'name: "{name}"\n{kind}\nmax_batch_size: {serving["max_batch_size"]}',
        *(_tensor("input", tensor, scalar if tensor.dims == 1 else "") for tensor in step.inputs),
        *(_tensor("output", tensor) for tensor in step.outputs),
    ]


def dynamic_batching(serving: Mapping[str, Any]) -> str:
    """Return how Triton joins requests, and how long they may wait."""
    rows, timeout = serving["max_queue_rows"], serving["default_timeout_microseconds"]
    lines = [f"max_queue_delay_microseconds: {serving['max_queue_delay_microseconds']}"]
    # Only for a time-out, which Triton alone can hold: with any queue policy Triton 2.51 lets requests wait for half a
    # second now and then (docs/serving.md). A limit alone the model holds itself (serving/triton/backlog.py). Triton
    # counts requests, which are of one row and more.
    if timeout:
        lines.append(
            f"default_queue_policy {{ timeout_action: REJECT default_timeout_microseconds: {timeout} "
            f"allow_timeout_override: true max_queue_size: {rows} }}"
        )
    return "dynamic_batching {\n  " + "\n  ".join(lines) + "\n}"


def instance_group(count: int, kind: str) -> str:
    """Return how many instances of a model there are, and on what."""
    return f"instance_group [ {{ count: {count} kind: {kind} }} ]"


def _tensor(direction: str, tensor: Tensor, more: str = "") -> str:
    # Ragged: requests whose lists differ in length still share a batch.
    options = (" optional: true" if tensor.optional else "") + (" allow_ragged_batch: true" if tensor.ragged else "")
    kind = "TYPE_STRING" if tensor.dtype == "BYTES" else f"TYPE_{tensor.dtype}"
    return f"{direction} {{ name: {_text(tensor.name)} data_type: {kind} dims: [ {tensor.dims} ]{options}{more} }}"


def _text(name: str) -> str:
    """Return a string of the text format, which escapes as JSON does; column names come from users."""
    return json.dumps(name, ensure_ascii=False)
