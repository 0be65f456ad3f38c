"""The canary: an inference with a known answer, the only reliable sign of health of a Triton with python models.

Triton reports itself healthy when a model's process is dead, and not ready while a release is being swapped. Question
and answer are in the model's configuration. This file needs the standard library alone, so that it can be run as a
probe of a server with HTTP on the same machine: `python3 canary.py --url http://127.0.0.1:8000`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

PARAMETER = "canary"
"""Of the model's configuration, JSON: the request's `inputs` as Triton's HTTP takes them, `items` and `scores`."""
OUTPUTS = ("item_id", "score", "count", "release")
MODELS = ("retrieval", "retrieval_chained")
TOLERANCE = 1e-4
"""By how much scores may differ between machines; relative to the largest of them where that is above 1."""
_FULL = ("maximum queue size", "too many rows wait")
_LATE = ("timeout expired", "timed out", "deadline exceeded")
_PROGRESS_SECONDS = 2.0
"""Longer than any batch of right requests takes, where a core is free for it."""
_LOOK_SECONDS = 0.25
_SWAPS = 3
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens addresses without the proxies that the environment names."""


class Result(NamedTuple):
    """The result of a canary."""

    state: str
    """`healthy`; `wrong`: it answers, and wrongly; `failed`; `late`; `busy`: late or refused while others are answered;
    `unreachable`: nobody listens, or the model is not there; `unasked`: its configuration states no canary."""
    reason: str
    """What is wrong, on one line; empty if nothing is."""
    model: str
    release: str
    """The release that answered, if any."""
    version: str
    seconds: float

    @property
    def healthy(self) -> bool:
        """Return whether the answer came and was right."""
        return self.state == "healthy"

    @property
    def alive(self) -> bool:
        """Return whether a restart would not help: healthy, busy, or without a canary."""
        return self.state in ("healthy", "busy", "unasked")


class Trouble(Exception):
    """The server did not answer the canary."""

    def __init__(self, state: str, reason: str) -> None:
        """Take a `Result`'s state and reason."""
        super().__init__(reason)
        self.state, self.reason = state, " ".join(reason.split())[:300]


class Answer(NamedTuple):
    """The first row of an answer."""

    items: Sequence[Any]
    scores: Sequence[float]
    count: int  # type: ignore[assignment]  # the wire's word; `tuple.count` is not missed
    release: str
    version: str


class Server(Protocol):
    """The protocol for asking a server. Each method raises Trouble."""

    def config(self, model: str) -> Mapping[str, Any]:
        """Return the model's configuration as JSON has it."""

    def infer(self, model: str, inputs: Sequence[Mapping[str, Any]]) -> Answer:
        """Return the answer to a request, which asks for `OUTPUTS`."""

    def answered(self, model: str) -> int:
        """Return how many requests the model has answered since it was loaded."""


def check(server: Server, model: str | None = None) -> Result:
    """Send the canary of a model, by default of the one of ours that the server has, and judge the answer."""
    start, asked = time.monotonic(), model or MODELS[0]
    try:
        asked, stated = _stated(server, [model] if model else MODELS)
        answer = server.infer(asked, stated["inputs"])
        for _ in range(_SWAPS):
            if _same_release(answer, stated):
                break
            # Between the two questions another release went live.
            asked, stated = _stated(server, [asked])
            answer = server.infer(asked, stated["inputs"])
        reason = difference(answer, stated)
        state = "wrong" if reason else "healthy"
        return Result(state, reason, asked, answer.release, answer.version, time.monotonic() - start)
    except Trouble as trouble:
        state = "busy" if trouble.state == "late" and _progresses(server, asked) else trouble.state
        return Result(state, trouble.reason, asked, "", "", time.monotonic() - start)


def difference(answer: Answer, stated: Mapping[str, Any]) -> str:
    """Return how an answer differs from the known one; empty if it does not.

    Items with equal scores may change places. After changes of a live catalogue (`RELEASE+N`) the answer is not known,
    so it is only checked for finite, descending scores and distinct items.
    """
    count, scores = answer.count, answer.scores[: answer.count]
    if not all(math.isfinite(score) for score in scores) or any(a < b for a, b in pairwise(scores)):
        return f"scores {_shown(scores)}: expected finite ones, the best first"
    if len(set(answer.items[:count])) != count:
        return f"items {_shown(answer.items[:count])}: one of them twice"
    if "+" in answer.release or not _same_release(answer, stated):
        return ""
    stated_scores = stated["scores"]
    if count != len(stated_scores):
        return f"{count} items, expected {len(stated_scores)}"
    slack = TOLERANCE * max([1.0, *map(abs, stated_scores)])
    for place, (score, expected) in enumerate(zip(scores, stated_scores, strict=True)):
        if abs(score - expected) > slack:
            return f"score {score:.6g} in place {place}, expected {expected:.6g}"
    for place, (item, expected) in enumerate(zip(answer.items, stated["items"], strict=False)):
        if item != expected and _stands_alone(stated_scores, place, slack):
            return f"item {item!r} in place {place}, expected {expected!r}"
    return ""


def _stated(server: Server, models: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the first of the models that the server has, and its canary."""
    for model in models:
        try:
            parameters = server.config(model).get("parameters", {})
        except Trouble as trouble:
            if trouble.state != "unreachable" or model == models[-1]:
                raise
            continue
        if PARAMETER not in parameters:
            raise Trouble("unasked", f"model '{model}' states no canary: release the run again with this version")
        stated = json.loads(parameters[PARAMETER]["string_value"])
        return model, {**stated, "release": parameters["release"]["string_value"]}
    raise Trouble("unreachable", "no model was named")


def _same_release(answer: Answer, stated: Mapping[str, Any]) -> bool:
    return answer.release.partition("+")[0] == stated["release"]


def _stands_alone(scores: Sequence[float], place: int, slack: float) -> bool:
    """Return whether only one item can be in a place; an item past the end may tie with the last one."""
    if place + 1 >= len(scores):
        return False
    return scores[place] - scores[place + 1] > slack and (not place or scores[place - 1] - scores[place] > slack)


def _progresses(server: Server, model: str) -> bool:
    """Return whether a server that is late answers other requests meanwhile."""
    deadline = time.monotonic() + _PROGRESS_SECONDS
    try:
        before = server.answered(model)
        while time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            if server.answered(model) > before:
                return True
    except Trouble:
        pass
    return False


def _shown(values: Sequence[Any]) -> str:
    return ", ".join(str(value)[:20] for value in values[:5]) + (", ..." if len(values) > 5 else "")


def state_of(message: str) -> str:
    """Return the state that a server's error `message` implies."""
    if any(text in message for text in _FULL):
        return "busy"
    if any(text in message.lower() for text in _LATE):
        return "late"
    return "unreachable" if "unknown model" in message or "no available versions" in message else "failed"


class OverHttp:
    """A server asked over HTTP, with the standard library."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Take `http://HOST:PORT`."""
        self._url, self._timeout = url.rstrip("/"), timeout_s

    def config(self, model: str) -> Mapping[str, Any]:
        """See `Server`."""
        config: Mapping[str, Any] = self._ask(f"/v2/models/{model}/config")
        return config

    def infer(self, model: str, inputs: Sequence[Mapping[str, Any]]) -> Answer:
        """See `Server`."""
        body = {"id": PARAMETER, "inputs": list(inputs), "outputs": [{"name": name} for name in OUTPUTS]}
        response = self._ask(f"/v2/models/{model}/infer", body)
        outputs = {output["name"]: output["data"] for output in response["outputs"]}
        count, release = int(outputs["count"][0]), str(outputs["release"][0])
        return Answer(outputs["item_id"], outputs["score"], count, release, str(response["model_version"]))

    def answered(self, model: str) -> int:
        """See `Server`."""
        stats = self._ask(f"/v2/models/{model}/stats")["model_stats"]
        return sum(int(version["inference_stats"]["success"]["count"]) for version in stats)

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})
        try:
            with _DIRECTLY.open(request, timeout=self._timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            message = error.read(2000).decode("utf-8", "replace")
            raise Trouble(state_of(message), message) from None
        except (OSError, ValueError) as error:
            late = isinstance(error, TimeoutError) or "timed out" in str(error)
            raise Trouble("late" if late else "unreachable", f"{self._url}: {error}") from None


def main() -> int:
    """Return the exit status of the probe."""
    parser = argparse.ArgumentParser(description="Ask a served model what it must know; exit with 0 where it does.")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="Triton's HTTP address")
    parser.add_argument("--model", choices=MODELS, help="default: whichever is there")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds for each question")
    parser.add_argument("--live", action="store_true", help="a full queue, and being late with it, is no failure")
    options = parser.parse_args()
    result = check(OverHttp(options.url, options.timeout), options.model)
    sys.stderr.write(json.dumps({**result._asdict(), "seconds": round(result.seconds, 4)}) + "\n")
    return 0 if result.healthy or (options.live and result.alive) else 1


if __name__ == "__main__":
    sys.exit(main())
