"""The sandbox's side of an exchange: does one job in the process that has the user's variables.

In: BASE.job, a file of JSON that says what to do, and BASE.p-OFFSET, the pieces of what was sent.
Out: BASE.report, a file of JSON, and BASE.pack, what is to be fetched. Nothing is printed and
nothing raised: what went wrong stands in the report.

Runs inside a sandbox, with Python 3.9 or newer.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from typing import Any

from agentbay_kernel.sandbox.exchange.arrow import has_pyarrow
from agentbay_kernel.sandbox.exchange.decoding import Decoder
from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.files import begin_upload, finish_upload, list_files
from agentbay_kernel.sandbox.exchange.named import DECODERS, ENCODERS, decode_named, encode_named
from agentbay_kernel.sandbox.exchange.pieces import joined, unpack
from agentbay_kernel.sandbox.exchange.values import (
    ARROW_LACKS_HERE,
    ARROW_LACKS_THERE,
    MISSING,
    TOO_LARGE,
    Refused,
    parse,
)

# Values that fit into a report need no further file.
_MOST_REPORTED = 24_000
_COPIED = 1024 * 1024


def serve(namespace: dict[str, Any], base: str) -> None:
    """Do the job of that base."""
    try:
        with open(base + ".job", encoding="ascii") as file:
            job = parse(file.read())
        if job["do"] == "joined":
            # Too long for one call, so it came as a stream of its own.
            job = parse(b"".join(joined(base + ".j")))
        report = _JOBS[job["do"]](namespace, base, job)
    except Refused as refusal:
        report = {"refused": [refusal.kind, refusal.text, refusal.where]}
    except BaseException as failure:
        text = "%s: %s" % (type(failure).__name__, str(failure)[:1000])
        report = {"refused": ["failed", text, ""]}
    shutil.rmtree(base + ".d", ignore_errors=True)
    for path in glob.glob(glob.escape(base) + ".*p-*"):
        os.unlink(path)
    with open(base + ".new", "w", encoding="ascii") as file:
        json.dump(report, file)
    os.replace(base + ".new", base + ".report")


def _probe(namespace: dict[str, Any], base: str, job: dict[str, Any]) -> dict[str, Any]:
    return {"pyarrow": has_pyarrow()}


def _load(namespace: dict[str, Any], base: str, job: dict[str, Any]) -> dict[str, Any]:
    """Set variables. The stream that was sent is the text of their values, then the blobs."""
    text = job["text"]
    blobs = 0
    if text is None:
        os.mkdir(base + ".d", 0o700)
        text = unpack(joined(base), base + ".d", job["sizes"], job["sha256"])
        blobs = len(job["sizes"]) - 1
    decoder = Decoder(base + ".d", blobs, job["limit"], DECODERS)
    values, notes = decode_named(text, decoder)
    namespace.update(values)
    return {"notes": notes}


def _store(namespace: dict[str, Any], base: str, job: dict[str, Any]) -> dict[str, Any]:
    """Write down variables: in the report if they are small, else in a pack."""
    missing = [name for name in job["names"] if name not in namespace]
    if missing:
        raise Refused(MISSING, "there is no variable %s" % ", ".join(missing))
    os.mkdir(base + ".d", 0o700)
    lacking = "" if has_pyarrow() else ARROW_LACKS_THERE
    lacking = lacking if job["arrow"] else ARROW_LACKS_HERE
    encoder = Encoder(base + ".d", job["limit"], lambda: lacking, ENCODERS)
    text, notes = encode_named([(name, namespace[name]) for name in job["names"]], encoder)
    if len(text) > job["limit"]:
        told = "has more than %s bytes" % format(job["limit"], ",")
        raise Refused(TOO_LARGE, told, ", ".join(job["names"]))
    if not encoder.blobs and len(text) <= _MOST_REPORTED:
        return {"notes": notes, "text": text.decode("ascii")}
    digest = hashlib.sha256(text)
    sizes = [len(text)]
    with open(base + ".pack", "wb") as pack:
        pack.write(text)
        for path in encoder.blobs:
            sizes.append(os.path.getsize(path))
            with open(path, "rb") as blob:
                while True:
                    piece = blob.read(_COPIED)
                    if not piece:
                        break
                    digest.update(piece)
                    pack.write(piece)
            # Not twice on the disk.
            os.unlink(path)
    return {"notes": notes, "text": None, "sizes": sizes, "sha256": digest.hexdigest()}


def _begin_upload(namespace: dict[str, Any], base: str, job: dict[str, Any]) -> dict[str, Any]:
    return begin_upload(job)


def _finish_upload(namespace: dict[str, Any], base: str, job: dict[str, Any]) -> dict[str, Any]:
    return finish_upload(job)


def _list_files(namespace: dict[str, Any], base: str, job: dict[str, Any]) -> dict[str, Any]:
    return list_files(job, base + ".pack")


_JOBS = {
    "probe": _probe,
    "load": _load,
    "store": _store,
    "begin_upload": _begin_upload,
    "finish_upload": _finish_upload,
    "list_files": _list_files,
}
