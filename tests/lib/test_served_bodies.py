"""Bodies of all kinds, broken in every way, for a server of a real model; and its memory."""

import base64
import http.client
import io
import json
import os

import numpy as np
import pytest
from helpers import draw, to_jpeg
from PIL import Image
from serving import draw_image, run_server

import pix2pix
from tools.lib.served_models import ServedModel

PIECES = (b"", b"\0", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x93NUMPY", b"IHDR", b"-1", b"1e999",
          b"NaN", b"\xff" * 8, b"}", b"[" * 50, b"null", b'"', b"II*\0", b"\x7f\xff\xff\xff")


def save_as(name, **settings):
    """An image file of a format of Pillow's."""
    pixels = np.uint8(128 + 100 * draw(3, 20, 24, 3))
    contents = io.BytesIO()
    Image.fromarray(pixels).save(contents, name, **settings)
    return contents.getvalue()


def save_array(array):
    """A .npy file."""
    contents = io.BytesIO()
    np.save(contents, array)
    return contents.getvalue()


def write_json(layout, signature, *values):
    """A request of TensorFlow Serving's API."""
    return json.dumps({"signature_name": signature, layout: values}).encode()


def list_bodies():
    """(path, valid body) of every kind."""
    png, floats = draw_image(4, (20, 24)), np.abs(draw(5, 8, 8, 3)).round(2)
    files = [png, to_jpeg(np.uint8(128 + 100 * draw(3, 20, 24, 3))), save_as("WEBP"),
             save_as("BMP"), save_as("GIF"), save_as("TIFF"), save_as("TIFF", compression="jpeg"),
             save_as("PPM"), save_array(np.uint8(128 + 100 * draw(3, 20, 24, 3))),
             save_array(np.full((20, 24), 40_000, np.uint16))]
    encoded = [{"b64": base64.b64encode(file).decode()} for file in files[:2]]
    return [*(("/whole", file) for file in files), ("/whole?show=input", files[2]),
            ("/whole?show=output", png),
            ("/v1/models/whole:predict", write_json("instances", "serving_default",
                                                    floats.tolist())),
            ("/v1/models/whole:predict", write_json("instances", "encoded", *encoded)),
            ("/v1/models/whole:predict",
             json.dumps({"inputs": {"input": [floats.tolist()]}}).encode())]


def mutate(body, rng):
    """A body that is broken at one place or a few: bytes that are changed, removed, repeated or put
    in, mostly where a file says what it is."""
    body = bytearray(body)
    for _ in range(rng.integers(1, 5)):
        start = int(rng.integers(0, min(len(body), 64) + 1 if rng.random() < 0.6
                                 else len(body) + 1))
        end = start + int(rng.integers(0, 9))
        how = rng.integers(0, 5)
        if how == 0:
            body[start:end] = rng.bytes(end - start)
        elif how == 1:
            body[start:end] = PIECES[rng.integers(0, len(PIECES))]
        elif how == 2:
            del body[start:end]
        elif how == 3:
            del body[start:]
        else:
            body[start:start] = body[start:end] * int(rng.integers(1, 40))
    return bytes(body)


@pytest.fixture(scope="module")
def server(tiny):
    """A server of a small model."""
    model = ServedModel("whole", str(tiny / "whole"), "newest",
                        lambda path: pix2pix.load_model(path, with_floats=True))
    with run_server(model) as running:
        yield running


def post(client, path, body):
    """Status, headers and body of the answer, over a connection that stays."""
    client.request("POST", path, body)
    response = client.getresponse()
    return response.status, response.headers, response.read()


@pytest.fixture
def client(server):
    """A connection to the server."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    yield client
    client.close()


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_broken_bodies_are_errors_of_one_line(server, client, caplog, count):
    """No other answer than a result or a line that says what is wrong, and no fault is logged."""
    bodies, rng, statuses = list_bodies(), np.random.default_rng(count), []
    for path, body in bodies:
        status, _, answer = post(client, path, body)
        assert status == 200, (path, answer)
    for number in range(count):
        path, body = bodies[number % len(bodies)]
        body = mutate(body, rng)
        status, headers, answer = post(client, path, body)
        statuses.append(status)
        if status != 200:
            assert status in (400, 413), (path, body[:200], answer)
            (key, text), = json.loads(answer).items()
            assert key == "error" and text.isprintable() and len(text) < 500, answer
            assert headers["content-type"] == "application/json"
    assert count * 0.1 < statuses.count(200) < count * 0.7
    assert server.work.unfinished == 0
    assert [row for row in caplog.records if row.name.startswith(("uvicorn", "asyncio"))] == []
    assert post(client, *bodies[0])[0] == 200


def resident_memory():
    """Of this process, in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
def test_memory_is_flat_over_ten_thousand_requests(client):
    """Of images, results that are shown, floats, and errors, of many sizes."""
    kinds, memory = list_bodies(), []
    images = [("/whole", draw_image(n, (16 + n, 60 - n))) for n in range(40)]
    wrong = [(path, body[:len(body) // 2]) for path, body in kinds]
    for number in range(10_000):
        rows = (images, kinds, wrong)[number % 3]
        post(client, *rows[number // 3 % len(rows)])
        if number + 1 in (2000, 10_000):
            memory.append(resident_memory())
    print(f"{memory[0]:.0f} MB after 2,000 requests, {memory[1]:.0f} MB after 10,000")
    assert memory[1] - memory[0] < 8
