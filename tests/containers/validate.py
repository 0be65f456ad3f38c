"""Run in `.venv-tools`: validate Kubernetes objects, JSON on stdin, and print what is wrong with them, a line each.

With `--promql` stdin is a JSON list of PromQL expressions, and the lines are those that do not parse.
"""

import json
import sys

KUBERNETES = "1.33"
CUSTOM = "monitoring.coreos.com/v1"


def problem(thing: dict) -> str:
    """Return what is wrong with an object; empty where nothing is. Unknown keys are."""
    import kubernetes_validate

    try:
        if thing["apiVersion"] != CUSTOM:
            kubernetes_validate.validate(thing, KUBERNETES, strict=True)
            return ""
        from cloudcoil.models.prometheus_operator import v1  # takes seconds

        model = getattr(v1, thing["kind"]).model_validate(thing)
        known = json.loads(model.model_dump_json(by_alias=True, exclude_unset=True))
        return "" if known == thing else f"unknown keys: {json.dumps(thing)} is read as {json.dumps(known)}"
    except Exception as error:
        return str(error).replace("\n", " ")


def unparsable(expression: str) -> str:
    """Return why an expression is no PromQL; empty where it is."""
    import promql_parser

    try:
        promql_parser.parse(expression)
        return ""
    except ValueError as error:
        return f"{error}: {expression}"


if __name__ == "__main__":
    look = unparsable if "--promql" in sys.argv else problem
    found = [(one, look(one)) for one in json.load(sys.stdin)]
    for one, what in found:
        if what:
            name = one if isinstance(one, str) else f"{one['kind']} {one['metadata']['name']}"
            sys.stdout.write(f"{name}: {what}\n")
