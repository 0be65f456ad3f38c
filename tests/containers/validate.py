"""Run in `.venv-tools`: validate Kubernetes objects, JSON on stdin, and print what is wrong with them, a line each.

With `--promql` stdin is a JSON list of PromQL expressions, and the lines are those that do not parse.
"""

import json
import sys

KUBERNETES = "1.33"
CUSTOM = "monitoring.coreos.com/v1"


def problem(manifest: dict) -> str:
    """Return what is wrong with an object; empty where nothing is. Unknown keys are."""
    import kubernetes_validate

    try:
        if manifest["apiVersion"] != CUSTOM:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
            return ""
        from cloudcoil.models.prometheus_operator import v1  # takes seconds

        model = getattr(v1, manifest["kind"]).model_validate(manifest)
        known = json.loads(model.model_dump_json(by_alias=True, exclude_unset=True))
        return "" if known == manifest else f"unknown keys: {json.dumps(manifest)} is read as {json.dumps(known)}"
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
    findings = [(entry, look(entry)) for entry in json.load(sys.stdin)]
    for entry, complaint in findings:
        if complaint:
            name = entry if isinstance(entry, str) else f"{entry['kind']} {entry['metadata']['name']}"
            sys.stdout.write(f"{name}: {complaint}\n")
