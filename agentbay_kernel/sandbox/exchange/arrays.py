"""NumPy arrays and scalars as `.npy` without pickle, and back.

In: an array. Out: a node of JSON with the bytes of a `.npy` file, or that file as a blob; and
back. A header is read as a literal and held against the size of the file before memory is taken.

Runs on both sides; needs Python 3.9, and NumPy only for what is NumPy's.
"""

from __future__ import annotations

import ast
import base64
import io
import math
import struct
import sys
import warnings
from typing import Any

from agentbay_kernel.sandbox.exchange.decoding import Decoder
from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.values import (
    MALFORMED,
    TAG,
    UNSUPPORTED,
    Refused,
    need,
    whole,
)

# Arrays with more bytes than this are files of their own.
_MOST_INLINE = 4096
_MOST_HEADER = 10_000
# More axes than any NumPy has.
_MOST_AXES = 64
# Bytes of an item of an array that has none.
_MOST_UNUSED = 1_000_000
_MAGIC = b"\x93NUMPY"
_PLAIN = "biufcSUmMV"
# Bytes that are written at a time of an array that has to be copied for that.
_PIECE = 4 * 1024 * 1024


def encode_array(encoder: Encoder, value: Any, depth: int) -> Any:
    """The node of an array or a scalar of NumPy; None for what is neither."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.dtype):
        if value.hasobject or value.kind not in _PLAIN:
            raise Refused(UNSUPPORTED, "is the dtype %s, which can't be transferred" % value)
        return {TAG: "npdtype", "v": _npy(encoder, numpy.empty(0, value))}
    if isinstance(value, numpy.generic):
        if value.dtype.hasobject:
            raise Refused(
                UNSUPPORTED, "is a NumPy scalar of Python objects, which can't be transferred"
            )
        # The array of a void scalar of no fields would be an array of its bytes.
        return {TAG: "npscalar", "v": _npy(encoder, numpy.array(value, dtype=value.dtype))}
    if not isinstance(value, numpy.ndarray):
        return None
    kind = type(value)
    if isinstance(value, numpy.ma.MaskedArray):
        return {
            TAG: "masked",
            "v": encode_array(encoder, numpy.ma.getdata(value), depth),
            "mask": encode_array(encoder, numpy.ma.getmaskarray(value), depth),
            "fill": encoder.encode(value.fill_value, depth + 1),
        }
    if kind is not numpy.ndarray:
        if kind is not numpy.memmap:
            encoder.note("a %s arrives as a plain array" % kind.__name__)
        value = value.view(numpy.ndarray)
        if value.dtype.type is numpy.record:
            value = value.view(numpy.dtype((numpy.void, value.dtype)))
    if value.dtype.kind == "T":
        encoder.note("an array of StringDType arrives as one of objects")
        value = value.astype(object)
    if value.dtype == object:
        items = encoder.items(value.ravel().tolist() if value.ndim else [value[()]], depth)
        return {TAG: "objects", "shape": list(value.shape), "v": items}
    return _npy(encoder, value)


def _npy(encoder: Encoder, value: Any) -> dict[str, Any]:
    import numpy

    dtype = value.dtype
    known = dtype.kind in _PLAIN and not dtype.hasobject
    with warnings.catch_warnings():
        # NumPy warns of what would not come back, and writes it.
        warnings.simplefilter("error")
        try:
            header = numpy.lib.format.header_data_from_array_1_0(value)
            same = known and numpy.lib.format.descr_to_dtype(header["descr"]) == dtype
        except Exception:
            same = False
    if not same:
        raise Refused(UNSUPPORTED, "is an array of %s, which can't be transferred" % dtype)
    if value.nbytes <= _MOST_INLINE:
        buffer = io.BytesIO()
        _write(buffer, value)
        return {TAG: "npy", "v": base64.b64encode(buffer.getvalue()).decode()}
    number, path = encoder.blob()
    if value.nbytes > encoder.limit:
        raise Refused("too large", "has more than %s bytes" % format(encoder.limit, ","))
    with open(path, "wb") as file:
        _write(file, value)
    encoder.check(number)
    return {TAG: "npy", "blob": number}


def _write(file: Any, value: Any) -> None:
    import numpy

    with warnings.catch_warnings():
        # Of names of fields that are not Latin: every NumPy of today reads them.
        warnings.simplefilter("ignore")
        numpy.lib.format.write_array(file, value, allow_pickle=False)


def _decode_npy(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    need("numpy", "a NumPy array")
    if "blob" in node:
        with open(decoder.path(node["blob"]), "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            return read_npy(file, size)
    data = base64.b64decode(node["v"], validate=True)
    return read_npy(io.BytesIO(data), len(data))


def read_npy(file: Any, size: int) -> Any:
    """The array of a `.npy` file of that size; nothing in it is ever unpickled.

    Raises:
        Refused: it is no such file, holds objects, or has not the size that it claims.
    """
    import numpy

    magic = file.read(8)
    if magic[:6] != _MAGIC or len(magic) != 8 or magic[6] not in (1, 2, 3):
        raise Refused(MALFORMED, "claims to be an array and is no .npy file")
    form, text = (
        ("<H", "latin1") if magic[6] == 1 else ("<I", "utf-8" if magic[6] == 3 else "latin1")
    )
    (length,) = struct.unpack(form, file.read(struct.calcsize(form)))
    if length > _MOST_HEADER:
        raise Refused(MALFORMED, "its .npy header has %d bytes" % length)
    try:
        header = ast.literal_eval(file.read(length).decode(text))
        shape, fortran, descr = header["shape"], header["fortran_order"], header["descr"]
        dtype = numpy.lib.format.descr_to_dtype(descr)
    except Exception as failure:
        raise Refused(MALFORMED, "its .npy header is invalid") from failure
    if dtype.hasobject:
        raise Refused(MALFORMED, "is an array of Python objects, which only pickle could read")
    if (
        type(shape) is not tuple
        or len(shape) > _MOST_AXES
        or any(type(n) is not int or n < 0 for n in shape)
    ):
        raise Refused(MALFORMED, "the shape of its array is invalid")
    count = math.prod(shape)
    here = size - file.tell()
    nothing = count == 0 or dtype.itemsize == 0
    if count * dtype.itemsize != here or (nothing and max(count, dtype.itemsize) > _MOST_UNUSED):
        raise Refused(
            MALFORMED,
            "claims to be an array of %s bytes and has %s"
            % (format(count * dtype.itemsize, ","), format(here, ",")),
        )
    if nothing:
        return numpy.zeros(shape, dtype, order="F" if fortran else "C")
    if isinstance(file, io.BytesIO):
        array = numpy.frombuffer(file.read(), dtype, count).copy()
    else:
        array = numpy.fromfile(file, dtype, count)
    if fortran:
        return array.reshape(shape[::-1]).transpose()
    return array.reshape(shape)


def _decode_scalar(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    array = _decode_npy(decoder, node["v"], depth)
    if array.shape != ():
        raise Refused(MALFORMED, "claims to be a scalar and is an array")
    return array[()]


def _decode_dtype(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    return _decode_npy(decoder, node["v"], depth).dtype


def _decode_objects(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    need("numpy", "a NumPy array")
    import numpy

    shape = tuple(whole(length) for length in node["shape"])
    values = decoder.items(node["v"], depth)
    if len(shape) > _MOST_AXES or math.prod(shape) != len(values):
        raise Refused(MALFORMED, "the shape of its array does not fit its items")
    array = numpy.empty(len(values), object)
    for number, value in enumerate(values):
        array[number] = value
    return array.reshape(shape)


def _decode_masked(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    data = decoder.decode(node["v"], depth + 1)
    mask = decoder.decode(node["mask"], depth + 1)
    fill = decoder.decode(node["fill"], depth + 1)
    import numpy

    if not isinstance(data, numpy.ndarray) or mask.shape != data.shape or mask.dtype != bool:
        raise Refused(MALFORMED, "claims to be a masked array and is not one")
    return numpy.ma.MaskedArray(data, mask, fill_value=fill)


ARRAY_DECODERS = {
    "npy": _decode_npy,
    "npscalar": _decode_scalar,
    "npdtype": _decode_dtype,
    "objects": _decode_objects,
    "masked": _decode_masked,
}
