"""Parsers for what clients send: forms, and JSON whose cost is in proportion to its bytes.

Python's own parser accepts documents that no client of the service sends (NaN, the same key twice,
an integer of 4,000 digits), and a small document of many small parts fills the memory. So documents
are checked, and their parts counted, before anything is built.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any
from urllib.parse import parse_qsl

from agentbay_kernel.local.refusals import invalid_parameter

# No client sends deeper documents, or more parts outside strings.
DEPTH_LIMIT = 50
PARTS_LIMIT = 100_000
FIELDS_LIMIT = 100
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1, ",": 0}


def read_json(data: str | bytes) -> Any:
    """Return the value of a JSON document.

    Raises:
        ValueError: it is not JSON in UTF-8, has the same key twice in an object, a number that is
            too large, too many parts, or too many levels.
    """
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    _count_parts(text)
    return json.loads(
        text,
        object_pairs_hook=_object,
        parse_int=_integer,
        parse_float=_float,
        parse_constant=_constant,
    )


def read_object(data: str | bytes) -> dict[str, Any]:
    """Return the value of a JSON document that must be an object.

    Raises:
        ValueError: it is not an object, or as in `read_json`.
    """
    value = read_json(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def read_form(text: str) -> dict[str, str]:
    """Return the fields of a form or of a query.

    Raises:
        ValueError: it is not percent-encoded UTF-8, has the same field twice, or too many fields.
    """
    if not text.isascii():
        raise ValueError("not UTF-8, percent-encoded")
    try:
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELDS_LIMIT,
        )
    except UnicodeDecodeError:
        raise ValueError("not UTF-8, percent-encoded") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("the same field twice")
    return fields


def integer_field(
    fields: dict[str, str], name: str, default: int, lowest: int, highest: int = 10**9
) -> int:
    """Return the integer in a field, the default if it is empty or missing.

    Raises:
        Refusal: it is not an integer between `lowest` and `highest`.
    """
    text = fields.get(name, "")
    if not text:
        return default
    value = int(text) if _INTEGER.fullmatch(text) else None
    if value is None or not lowest <= value <= highest:
        raise invalid_parameter(f"{name} must be an integer between {lowest} and {highest}.")
    return value


def number_field(fields: dict[str, str], name: str) -> str:
    """Return the number in a field as a string, empty if it is empty or missing.

    Raises:
        Refusal: it is not a number of at most nine digits before the point.
    """
    text = fields.get(name, "")
    if text and not _NUMBER.fullmatch(text):
        raise invalid_parameter(f"{name} must be a number, not negative.")
    return text


def json_field(fields: dict[str, str], name: str, default: str) -> Any:
    """Return the JSON value in a field, the default's if it is empty or missing.

    Raises:
        Refusal: `read_json` does not accept it.
    """
    try:
        return read_json(fields.get(name) or default)
    except ValueError as failure:
        raise invalid_parameter(f"{name} must be JSON: {failure}.") from None


def _count_parts(text: str) -> None:
    depth = parts = 0
    for character in _STRING.sub("", text):
        step = _STEPS.get(character)
        if step is None:
            continue
        depth += step
        parts += 1
        if depth > DEPTH_LIMIT:
            raise ValueError(f"more than {DEPTH_LIMIT} levels deep")
        if parts > PARTS_LIMIT:
            raise ValueError(f"more than {PARTS_LIMIT:,} parts")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("the same key twice in an object")
    return value


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError("an integer of more than 15 digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that is too large")
    return value


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
