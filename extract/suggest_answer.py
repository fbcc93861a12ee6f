"""Turns an answer, which is untrusted text, into the texts of single rules: from rules, from JSON, or from prose around them.

Nothing in an answer is evaluated, and no path in it is opened: what is not the text of a rule is dropped.
"""

import json
import re
from typing import Any, Final, cast

MAX_ANSWER: Final = 64 * 1024
"""Characters of an answer that are read."""
MAX_RULES: Final = 40
"""Rules of one answer that are judged."""
MAX_RULE: Final = 600
"""Characters of one rule."""
SCHEMA: Final[dict[str, Any]] = {
    "name": "rules",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {
            "rules": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"rule": {"type": "string"}, "why": {"type": "string"}},
                    "required": ["rule", "why"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["rules"],
        "additionalProperties": False,
    },
}
"""What a server with structured output is asked for."""

_START: Final = re.compile(r"^[\s>*+\-•`]*(?:\d+[.)]\s*)?[*`]*\s*rule\s+([A-Za-z_]\w*)\s*[`*]*\s*:")
_BARE: Final = re.compile(r"^[\s>]*(?:[-*+•]|\d+[.)])\s*`([^`]+<?=>[^`]+)`")
_MORE: Final = re.compile(r"^\s+\S|^\s*(?:<?=>|(?:on|if|needs)\b)")
_FENCE: Final = re.compile(r"^\s*(?:```|~~~)")


def rule_texts(answer: str) -> tuple[str, ...]:
    """The texts of an answer's rules, one line each, in order.

    >>> rule_texts("Sure! Here is one:\\n- `rule twice: x + x => x * 2.0`\\nIt saves an add.")
    ('rule twice: x + x => x * 2.0',)
    >>> rule_texts('{"rules": [{"rule": "rule twice: x + x => x * 2.0", "why": "one op"}]}')
    ('rule twice: x + x => x * 2.0',)
    """
    answer = answer[:MAX_ANSWER]
    found = _from_json(answer)
    texts = [t for text in found for t in _from_lines(text)] if found is not None else _from_lines(answer)
    return tuple(dict.fromkeys(texts))[:MAX_RULES]


def _from_json(answer: str) -> list[str] | None:
    """The strings under `rules`, of JSON that is the whole answer or stands in a fence; None where there is none."""
    body = "\n".join(line for line in answer.splitlines() if not _FENCE.match(line)).strip()
    if not body.startswith(("{", "[")):
        return None
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    rules = cast("dict[str, Any]", value).get("rules") if isinstance(value, dict) else value
    if not isinstance(rules, list):
        return []
    given = cast("list[Any]", rules)
    items: list[Any] = [cast("dict[str, Any]", item).get("rule") if isinstance(item, dict) else item for item in given]
    return [item if "rule " in item else f"rule suggested_{n}: {item}" for n, item in enumerate(items, 1) if isinstance(item, str)]


def _from_lines(text: str) -> list[str]:
    """Rules in lines of text: each begins with `rule NAME:` and goes on over indented lines and clauses."""
    found: list[str] = []
    open_ = False
    for line in text.splitlines():
        line = line.partition("#")[0] if not line.lstrip().startswith("#") else ""
        if start := _START.match(line):
            # Prose says "this rule is: …" as well: a name and a colon, and an arrow later, make it one.
            found.append(_clean(f"rule {start[1]}: {line[start.end() :].lstrip(' *`')}"))
            open_ = True
        elif bare := _BARE.match(line):
            found.append(_clean(f"rule suggested_{len(found) + 1}: {bare[1]}"))
            open_ = False
        elif open_ and _MORE.match(line) and not _FENCE.match(line):
            found[-1] = _clean(f"{found[-1]} {line}")
        else:
            open_ = False
    return [rule for rule in found if "=>" in rule]


def _clean(line: str) -> str:
    """One line without the marks of Markdown at its end; of a code span, what is inside."""
    line = re.sub(r"\s+", " ", line).strip()
    line = line.partition("`")[0] if "`" in line else line
    return re.sub(r"(?:\*\*|[.;,\s])+$", "", line)
