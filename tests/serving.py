"""A server in the test's own process, models that need no network, and requests to it."""

import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from typing import NamedTuple

import numpy as np
import pytest
from helpers import ROOT, read_pixels

from tools import serve
from tools.lib.cli import Options
from tools.lib.image_types import choose_pair
from tools.lib.images import to_bytes
from tools.lib.models import LoadedModel
from tools.lib.served_models import ServedModel
from tools.lib.server import LOOPBACK_NAMES, Access, Limits, create_application

ANYONE_HERE = Access(frozenset(LOOPBACK_NAMES), False, None)
LIMITS = Limits(parallel=2, queue_size=64, seconds=60.0, num_bytes=2**20)
PAGE = b"<!doctype html><title>the page</title>"
PROGRAM = [sys.executable, ROOT / "tools/serve.py"]
READY = re.compile(r"draw at http://127\.0\.0\.1:(\d+)/")


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        """The body's value."""
        return json.loads(self.body)

    @property
    def error(self):
        """The text of an error, which is JSON and one line."""
        assert self.headers["content-type"] == "application/json", self
        (name, text), = self.json.items()
        assert name == "error" and text and text.isprintable(), self
        return text


def ask(port, method, path, body=None, headers=None):
    """The Answer to a request over a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        client.request(method, path, body, headers or {})
        response = client.getresponse()
        return Answer(response.status, response.headers, response.read())


def send_head(port, path, *lines):
    """A socket to which the head of a POST has been sent; its body is to follow."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = [f"POST {path} HTTP/1.1", "Host: localhost", *lines, "", ""]
    client.sendall("\r\n".join(head).encode())
    return client


def read_answer(client):
    """The Answer that comes to a socket."""
    response = http.client.HTTPResponse(client)
    response.begin()
    return Answer(response.status, response.headers, response.read())


def can_connect(port):
    """Whether anything listens at a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def wait_until(condition, seconds=30):
    """Returns once a condition holds; it fails the test where that takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def draw_image(number=0, size=(8, 8)):
    """The bytes of a PNG file, of another image for every number."""
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
    return to_bytes(pixels)


def invert(contents):
    """What the stand-in for a network makes of an image file."""
    return to_bytes((255 - read_pixels(contents)).astype(np.uint8))


def invert_floats(images):
    """Of floats 0..1."""
    return 1 - np.asarray(images)


def stand_in(name="inverts", generate=invert, **more):
    """A ServedModel without a network. more: of LoadedModel."""
    more = {"pair": choose_pair(False, "AtoB"), "generate_floats": invert_floats, **more}
    return ServedModel(name, name, "newest", lambda path: LoadedModel(path, generate, **more))


class Running(NamedTuple):
    """A server that runs."""

    port: int
    work: object  # server.Work
    models: dict

    def ask(self, *arguments, **more):
        """`ask` of it."""
        return ask(self.port, *arguments, **more)

    def post(self, path, body=b"", **more):
        """The Answer to a POST."""
        return ask(self.port, "POST", path, body, **more)


@contextlib.contextmanager
def run_server(*models, limits=LIMITS, access=ANYONE_HERE):
    """A Running of models, with the settings of tools/serve.py."""
    models = {model.name: model for model in models}
    application, work = create_application(models, limits, access, {"/": PAGE})
    listening = serve.open_socket(Options(host="127.0.0.1", port=0))
    server = serve.create_server(application, 10)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield Running(listening.getsockname()[1], work, models)
    finally:
        server.should_exit = True
        thread.join(30)
        work.threads.shutdown(wait=False, cancel_futures=True)
    assert not thread.is_alive()


def read_port(process):
    """The port that a server's process prints, once it serves."""
    for line in process.stdout:
        if found := READY.match(line):
            assert process.stdout.readline() == "Ctrl-C ends\n"
            return int(found[1])
    pytest.fail(f"it does not serve: {process.communicate()}")


@contextlib.contextmanager
def start_process(command, **more):
    """The process of a command such as PROGRAM that serves at 127.0.0.1, once it does, and its
    port. more: Popen's."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               **more)
    try:
        yield process, read_port(process)
    finally:
        process.kill()
        process.communicate()
