"""The API's reference as one page, made from its OpenAPI description; needs nothing from elsewhere."""

import json
from typing import Any, Final

from jinja2 import Environment

PAGE: Final = Environment(autoescape=True).from_string("""\
<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ info.title }}</title><style>
:root { color-scheme: light dark } body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem } section { border: 1px solid #8884; border-radius: 10px; padding: 0 1.2rem; margin: 1rem 0 }
code, pre { font: 13.5px/1.5 ui-monospace, monospace } pre { background: #8882; padding: .8rem; overflow-x: auto }
</style>
<h1>{{ info.title }}</h1><p>{{ info.summary }} <a href="/openapi.json">OpenAPI</a></p>
{% for path, operations in paths.items() %}{% for method, operation in operations.items() %}
<section><h3><code>{{ method.upper() }} {{ path }}</code></h3><p>{{ operation.description }}</p>
{% set body = (operation.requestBody or {}).get("content", {}).get("application/json", {}).get("schema") %}
<pre>curl -X {{ method.upper() }} "{{ origin }}{{ path }}"
{%- if operation.security %} -H "Authorization: Bearer $VIBEDREAM_API_KEY"{% endif %}
{%- if body %} -H "Content-Type: application/json" -d '{{ example(body) }}'{% endif %}</pre>
<ul>{% for name, field in fields(body).items() %}
<li><code>{{ name }}</code>: {{ field.description }}</li>{% endfor %}
{% for status, answer in operation.responses.items() %}
<li>{{ status }}: {{ answer.description }}</li>{% endfor %}</ul></section>
{% endfor %}{% endfor %}
""")


def page(schema: dict[str, Any], origin: str) -> str:
    """HTML of every operation: what it is for, what it takes, what it answers, and a command to try it."""

    def resolved(body: dict[str, Any]) -> dict[str, Any]:
        name = body.get("$ref", "").rpartition("/")[2]
        return schema["components"]["schemas"][name] if name else body

    return PAGE.render(
        info=schema["info"],
        paths=schema["paths"],
        origin=origin,
        example=lambda body: json.dumps(resolved(body).get("example", {})),
        fields=lambda body: resolved(body).get("properties", {}) if body else {},
    )
