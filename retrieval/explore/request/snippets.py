"""A request as one would write it: with our client, with tritonclient, and as the JSON of Triton's HTTP endpoint."""

from __future__ import annotations

import json

import numpy as np

from ensemble.client.filters import Filter
from ensemble.client.tensors import Query, Signature, tensors

HERE = "127.0.0.1:8001"


def snippets(signature: Signature, query: Query, address: str = HERE) -> dict[str, str]:
    """Return the request in each language, by what it is called."""
    return {
        "Python": python(query, address, signature.model),
        "tritonclient": tritonclient(signature, query, address),
        "JSON over HTTP": over_http(signature, query),
    }


def python(query: Query, address: str, model: str) -> str:
    """Return the request with `ensemble.client`."""
    arguments = {
        "top_k": query.top_k,
        "exclude_item_ids": query.exclude_item_ids,
        "include_seen": query.include_seen or None,
        "columns": query.columns or None,
        "timestamps": query.timestamps,
        "history": query.history,
        "filters": [each.text() if isinstance(each, Filter) else each for each in query.filters or ()] or None,
    }
    named = "".join(f"        {name}={value!r},\n" for name, value in arguments.items() if value is not None)
    return (
        "from ensemble.client import RetrievalClient\n\n"
        f"with RetrievalClient({address!r}, {model!r}) as client:\n"
        f"    [answer] = client.recommend(\n        {list(query.user_ids)!r},\n{named}    )\n"
        "print(answer.item_ids, answer.scores)\n"
    )


def tritonclient(signature: Signature, query: Query, address: str) -> str:
    """Return the request with `tritonclient`."""
    rows = "".join(
        f"    ({name!r}, {signature.inputs[name]!r}, {_array(array)}),\n"
        for name, array in tensors(signature, query).items()
    )
    return (
        "import numpy as np\nimport tritonclient.grpc as grpc\n\n"
        f"values = [\n{rows}]\n"
        "inputs = []\n"
        "for name, data_type, array in values:\n"
        "    inputs.append(grpc.InferInput(name, array.shape, data_type))\n"
        "    inputs[-1].set_data_from_numpy(array)\n"
        f"answer = grpc.InferenceServerClient({address!r}).infer({signature.model!r}, inputs)\n"
        'print(answer.as_numpy("item_id"), answer.as_numpy("score"))\n'
    )


def over_http(signature: Signature, query: Query) -> str:
    """Return the body of `POST /v2/models/NAME/infer`."""
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": signature.inputs[name], "data": array.ravel().tolist()}
        for name, array in tensors(signature, query).items()
    ]
    lines = ",\n  ".join(json.dumps(tensor, ensure_ascii=False) for tensor in inputs)
    return f'{{"inputs": [\n  {lines}\n]}}\n'


def _array(array: np.ndarray) -> str:
    made = f"np.array({array.tolist()!r}" if array.size else f"np.empty({array.shape}"
    name = array.dtype.name
    return f"{made}, dtype={name if name in ('object', 'bool') else f'np.{name}'})"
