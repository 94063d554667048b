"""Named values as one text of JSON and blobs, and back: what `-i` and `-o` carry.

In: values by name. Out: the text and, in a folder, the blobs; and back. What changed on the way
is told by name.

Runs on both sides; needs Python 3.9.
"""

from __future__ import annotations

import json
from typing import Any, Iterable

from agentbay_kernel.sandbox.exchange.arrays import ARRAY_DECODERS, encode_array
from agentbay_kernel.sandbox.exchange.decoding import Decoder
from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.tables import TABLE_DECODERS, encode_table
from agentbay_kernel.sandbox.exchange.values import MALFORMED, Refused, parse

ENCODERS = (encode_array, encode_table)
DECODERS = {**ARRAY_DECODERS, **TABLE_DECODERS}
# What is not the same on the other side: name and text.
Notes = list[Any]


def encode_named(values: Iterable[tuple[str, Any]], encoder: Encoder) -> tuple[bytes, Notes]:
    """The text of values by name, and what changes.

    Raises:
        Refused: one can't be transferred.
    """
    nodes, notes = {}, []
    for name, value in values:
        try:
            nodes[name] = encoder.encode(value)
        except Refused as refusal:
            raise refusal.below(name) from None
        notes += [[name, text] for text in encoder.notes]
        encoder.notes.clear()
    text = json.dumps(nodes, allow_nan=False, separators=(",", ":")).encode("ascii")
    return text, notes


def decode_named(text: bytes | str, decoder: Decoder) -> tuple[dict[str, Any], Notes]:
    """The values by name of a text, and what changed.

    Raises:
        Refused: one is not what it claims to be.
    """
    nodes = parse(text)
    if type(nodes) is not dict:
        raise Refused(MALFORMED, "what arrived are no values by name")
    values, notes = {}, []
    for name, node in nodes.items():
        try:
            values[name] = decoder.decode(node)
        except Refused as refusal:
            raise refusal.below(name) from None
        notes += [[name, told] for told in decoder.notes]
        decoder.notes.clear()
    return values, notes
