"""The API's reference as one page, made from its OpenAPI description; needs nothing from elsewhere."""

import json
from html import escape
from typing import Any, Final

Schema = dict[str, Any]

STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #b5553f }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2.5rem auto; padding: 0 1.25rem }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { margin-top: 2.6rem } h3 { font-size: 1.05rem; margin: 0 }
section { border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.2rem; margin: 1rem 0 }
code, pre { font: 13.5px/1.5 ui-monospace, monospace } pre { background: var(--soft); padding: .8rem 1rem;
  border-radius: 8px; overflow-x: auto } .verb { color: #fff; background: var(--accent); border-radius: 5px;
  padding: .1rem .5rem; margin-right: .5rem } table { border-collapse: collapse; width: 100% }
td { border-top: 1px solid var(--line); padding: .35rem .6rem .35rem 0; vertical-align: top }
td:first-child { white-space: nowrap } summary { cursor: pointer; margin: .5rem 0 } small { opacity: .7 }
"""
TITLES: Final = {"provider": "The provider", "sandbox": "For tests"}


def page(schema: Schema, origin: str) -> str:
    """HTML of every operation: what it is for, what it takes, what it answers, and a command to try it."""
    groups: dict[str, list[str]] = {}
    for path, operations in schema["paths"].items():
        for verb, operation in operations.items():
            shown = _operation(schema, origin, path, verb.upper(), operation)
            groups.setdefault(operation.get("tags", ["other"])[0], []).append(shown)
    body = "".join(f"<h2>{escape(TITLES.get(tag, tag))}</h2>{''.join(shown)}" for tag, shown in groups.items())
    info = schema["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<h1>{escape(info['title'])}</h1><p>{escape(info.get('summary', ''))} "
        f'<a href="/openapi.json">OpenAPI</a></p>{body}</html>'
    )


def _operation(schema: Schema, origin: str, path: str, verb: str, operation: Schema) -> str:
    parts = [
        f'<section><h3><span class="verb">{verb}</span><code>{escape(path)}</code></h3>',
        f"<p>{escape(str(operation.get('description') or operation.get('summary')))}</p>",
    ]
    parameters = operation.get("parameters", [])
    if parameters:
        rows = [(item["name"], item.get("description", "")) for item in parameters]
        parts.append(_table(rows))
    asked = _content(operation.get("requestBody", {}))
    if asked:
        parts.append(f"<details open><summary>Body</summary>{_fields(schema, asked)}</details>")
    example = _resolved(schema, asked).get("example", {}) if asked else None
    secured = bool(operation.get("security"))
    parts.append(f"<pre>{escape(_command(f'{origin}{path}', verb, example, secured=secured))}</pre>")
    for status, answer in operation.get("responses", {}).items():
        told = f"{status} <small>{escape(answer.get('description', ''))}</small>"
        fields = _fields(schema, _content(answer))
        parts.append(f"<details><summary>{told}</summary>{fields}</details>" if fields else f"<p>{told}</p>")
    return "".join([*parts, "</section>"])


def _command(address: str, verb: str, example: Any, *, secured: bool) -> str:
    lines = [f'curl -X {verb} "{address}"']
    if secured:
        lines.append('-H "Authorization: Bearer $VIBEDREAM_API_KEY"')
    if example is not None:
        lines += ['-H "Content-Type: application/json"', f"-d '{json.dumps(example)}'"]
    return " \\\n  ".join(lines)


def _content(part: Schema) -> Schema:
    found: Schema = part.get("content", {}).get("application/json", {}).get("schema", {})
    return found


def _fields(schema: Schema, asked: Schema) -> str:
    resolved = _resolved(schema, asked)
    rows = []
    for name, field in resolved.get("properties", {}).items():
        mark = "" if name in resolved.get("required", []) else ", optional"
        inner = _fields(schema, field)
        rows.append((f"{name}", f"{_kind(schema, field)}{mark}. {field.get('description', '')}", inner))
    return _table(rows)


def _kind(schema: Schema, field: Schema) -> str:
    if "anyOf" in field:
        return " or ".join(_kind(schema, option) for option in field["anyOf"])
    if "const" in field or "enum" in field:
        return " or ".join(f'"{value}"' for value in field.get("enum", [field.get("const")]))
    return str(_resolved(schema, field).get("type", "any JSON"))


def _resolved(schema: Schema, part: Schema) -> Schema:
    reference = part.get("$ref")
    if reference is None:
        objects = [option for option in part.get("anyOf", []) if "$ref" in option]
        return _resolved(schema, objects[0]) if objects else part
    found: Any = schema
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)


def _table(rows: list[Any]) -> str:
    if not rows:
        return ""
    lines = [f"<tr><td><code>{escape(name)}</code><td>{escape(told)}{''.join(inner)}" for name, told, *inner in rows]
    return f"<table>{''.join(lines)}</table>"
