"""Reading what clients send: forms, and JSON whose cost is in proportion to its bytes.

Python's own reader accepts documents that no client of the service sends (NaN, the same key twice,
an integer of 4,000 digits), and a small document of many small parts fills the memory. Here, what
is accepted is listed, and counted before anything is built.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any
from urllib.parse import parse_qsl

from agentbay_kernel.local.refusals import invalid_parameter

# Nothing that clients send is deeper, or has more parts beside its strings.
DEPTH_LIMIT = 50
PARTS_LIMIT = 100_000
FIELDS_LIMIT = 100
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1, ",": 0}


def read_json(data: str | bytes) -> Any:
    """The value of a JSON document.

    Raises:
        ValueError: it is not JSON in UTF-8, has a key twice in one object, a number that is too
            large, too many parts, or parts that are too deep.
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
    """The value of a JSON document that is an object.

    Raises:
        ValueError: it is something else.
    """
    value = read_json(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def read_form(text: str) -> dict[str, str]:
    """The fields of a form or of a query.

    Raises:
        ValueError: it is not UTF-8, percent-encoded, or has a field twice, or too many.
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
    """The integer in a field; the default where it is empty or missing.

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
    """The number in a field, as it was written; nothing where it is empty or missing.

    Raises:
        Refusal: it is not a number from 0 to a thousand million.
    """
    text = fields.get(name, "")
    if text and not _NUMBER.fullmatch(text):
        raise invalid_parameter(f"{name} must be a number, not negative.")
    return text


def json_field(fields: dict[str, str], name: str, default: str) -> Any:
    """The JSON value in a field; the default's where it is empty or missing.

    Raises:
        Refusal: it is not JSON, or costs too much to read.
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
