"""The payloads of TensorFlow Serving's REST API: predict, status and metadata.

https://www.tensorflow.org/tfx/serving/api_rest: rows ("instances" -> "predictions") or columns
("inputs" -> "outputs"), bytes as {"b64": text}. The signatures are those of an export.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import NamedTuple

import numpy as np

from tools.lib.models import SIGNATURES

FLOATS, FILES = SIGNATURES["floats"], SIGNATURES["files"]
ENDS = {name: (first, last) for name, first, last in (FLOATS, FILES)}  # signature -> its tensors
MAX_IMAGES = 64  # in one request
MAX_SHOWN = 99  # characters of a request in messages
LAYOUTS = {"instances": "predictions", "inputs": "outputs"}  # of a request -> of its answer


class PredictRequest(NamedTuple):
    """Images to translate."""

    signature: str
    layout: str  # of LAYOUTS
    images: list  # of `encoded` bytes of image files, otherwise floats [height, width, channels]


def decode_json(body):
    """The object that a request's body holds. Raises ValueError."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("the body is not a JSON object")
    return value


def read_bytes(value):
    """Those of {"b64": text}. Raises ValueError."""
    text = value.get("b64") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(text, str):
        raise ValueError('an image file is {"b64": "its bytes in base64"}')
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("b64 is not base64") from None


def read_floats(value):
    """float32 [height, width, channels] of nested lists of numbers. Raises ValueError."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":
            raise ValueError
        with np.errstate(over="ignore"):
            floats = array.astype(np.float32)
    except (ValueError, TypeError, OverflowError):
        floats = np.zeros([])
    if floats.ndim != 3 or floats.size == 0:
        raise ValueError("an image is a list of rows of pixels of numbers, one for each channel")
    return floats


def take_input(value, name):
    """What a row or column gives for the input: by its name, or alone. Raises ValueError."""
    if not isinstance(value, dict) or "b64" in value and name not in value:
        return value
    if {*value} != {name}:
        names = ", ".join(value)
        raise ValueError(f"the signature's input is {name}, not {names[:MAX_SHOWN]}")
    return value[name]


def read_request(body):
    """The PredictRequest of a body. Raises ValueError."""
    request = decode_json(body)
    signature = request.get("signature_name") or FLOATS[0]
    if signature not in [*ENDS]:  # of any type
        raise ValueError(f"signature_name is {' or '.join(ENDS)}")
    layouts = [layout for layout in LAYOUTS if layout in request]
    if len(layouts) != 1:
        raise ValueError("the body has instances or inputs, one of them")
    layout, name = layouts[0], ENDS[signature][0]
    values = request[layout]
    if layout == "inputs":
        values = take_input(values, name)
    if not isinstance(values, list) or not values:
        raise ValueError(f"{layout} is a list of images")
    if len(values) > MAX_IMAGES:
        raise ValueError(f"{layout} has {len(values)} images: send at most {MAX_IMAGES}")
    if layout == "instances":
        values = [take_input(value, name) for value in values]
    read = read_bytes if signature == FILES[0] else read_floats
    return PredictRequest(signature, layout, [read(value) for value in values])


def write_answer(request, results):
    """The body of the answer. results: as `PredictRequest.images`; the one output has no name of
    its own there."""
    values = [{"b64": base64.b64encode(result).decode()} for result in results] \
        if request.signature == FILES[0] else [result.tolist() for result in results]
    return json.dumps({LAYOUTS[request.layout]: values}).encode()


def write_status(version):
    """A model's status: it is loaded."""
    return {"model_version_status": [
        {"version": version, "state": "AVAILABLE",
         "status": {"error_code": "OK", "error_message": ""}}]}


def describe_tensor(name, dtype, sizes):
    """A tensor of a signature. sizes: of its dimensions, -1 for any."""
    return {"dtype": dtype, "name": f"{name}:0", "tensor_shape": {
        "dim": [{"size": str(size), "name": ""} for size in sizes], "unknown_rank": False}}


def write_metadata(name, version, channels):
    """A model's signatures. channels: of the floats that it takes and gives; None: it has no
    signature of floats."""
    def describe(signature, dtype, *shapes):
        """One signature."""
        first, last = ENDS[signature]
        return {"inputs": {first: describe_tensor(first, dtype, shapes[0])},
                "outputs": {last: describe_tensor(last, dtype, shapes[1])},
                "method_name": "tensorflow/serving/predict"}
    signatures = {FILES[0]: describe(FILES[0], "DT_STRING", [-1], [-1])}
    if channels is not None:
        signatures[FLOATS[0]] = describe(
            FLOATS[0], "DT_FLOAT", *([-1, -1, -1, count] for count in channels))
    return {"model_spec": {"name": name, "signature_name": "", "version": version},
            "metadata": {"signature_def": {"signature_def": signatures}}}
