"""The server: who may ask, the queue and its limits, errors, and the routes. Models are stand-ins
without a network, which wait for events."""

import contextlib
import io
import re
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import read_pixels
from PIL import Image
from serving import (
    LIMITS, PAGE, can_connect, draw_image, invert, read_answer, run_server, send_head, stand_in,
    wait_until)

from tools.lib.server import HEADERS, TOKEN_COOKIE, Access
from tools.lib.stored import png_chunk

IMAGE = draw_image(1)
TOKEN = "abc-DEF_123"
WITH_TOKEN = Access(frozenset(["localhost", "127.0.0.1", "board.local"]), True, TOKEN)
EXAMPLES = [draw_image(2), draw_image(3)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of one model, in a folder with nothing in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        model = stand_in()
        model.current = model.current._replace(examples=EXAMPLES)
        with run_server(model) as running:
            yield running


@pytest.fixture(scope="module")
def guarded(server):
    """One that asks for a token."""
    with run_server(*server.models.values(), access=WITH_TOKEN) as running:
        yield running


class Gate:
    """A stand-in's network that notes what it begins with, and then waits until it may end."""

    def __init__(self):
        """Closed."""
        self.begun, self.opened = [], threading.Event()

    def generate(self, contents):
        """One image."""
        self.begun.append(contents)
        assert self.opened.wait(60)
        return invert(contents)


@pytest.fixture
def gate(in_empty_folder):
    """A closed Gate, which is opened at the end."""
    gate = Gate()
    yield gate
    gate.opened.set()


@contextlib.contextmanager
def run_gated(gate, **limits):
    """A server of the Gate's model, which computes one image at a time, and threads to ask it."""
    limits = LIMITS._replace(**{"parallel": 1, **limits})
    with run_server(stand_in(generate=gate.generate), limits=limits) as running, \
            ThreadPoolExecutor(8) as threads:
        try:
            yield running, lambda number: threads.submit(running.post, "/inverts",
                                                         draw_image(number))
        finally:
            gate.opened.set()


# ---- who may ask


@pytest.mark.parametrize("host", ["localhost", "LocalHost:80", "127.0.0.1:8000", "[::1]:8000"])
def test_the_server_answers_to_its_own_names(server, host):
    assert server.ask("GET", "/healthz", headers={"Host": host}).json == {"status": "ok"}


@pytest.mark.parametrize("host", [
    "evil.example", "evil.example:8000", "localhost.evil.example", "localhost.", "127.0.0.1.",
    "127.0.0.1.nip.io", "192.168.0.9", "[::2]:80", "[::1", "", "127.1"])
def test_it_answers_to_no_other_name(server, host):
    """A name that DNS leads here is how another page reaches a server on this machine."""
    for method, path in (("GET", "/"), ("GET", "/healthz"), ("POST", "/inverts")):
        answer = server.ask(method, path, body=IMAGE if method == "POST" else None,
                            headers={"Host": host})
        assert answer.status == 403 and "--allow_host" in answer.error


@pytest.mark.parametrize("host, status", [
    ("board.local:80", 200), ("BOARD.local", 200), ("192.168.0.9:8000", 200), ("[fe80::1]", 200),
    ("evil.example", 403), ("192.168.0.9.nip.io", 403)])
def test_beyond_loopback_it_answers_to_addresses_and_its_names(guarded, host, status):
    answer = guarded.ask("GET", "/healthz", headers={
        "Host": host, "Authorization": f"Bearer {TOKEN}"})
    assert answer.status == status


@pytest.mark.parametrize("headers", [
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:1"},
    {"Origin": "http://localhost"}, {"Origin": "file://"}, {"Origin": ""},
    {"Origin": "http://localhost:8000.evil.example"}, {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}])
def test_pages_of_other_origins_may_not_ask(server, headers):
    answer = server.post("/inverts", IMAGE, headers={"Host": "localhost:8000", **headers})
    assert answer.status == 403 and "other origins" in answer.error


@pytest.mark.parametrize("headers", [
    {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"}, {}])
def test_its_own_page_and_programs_may(server, headers):
    answer = server.post("/inverts", IMAGE, headers={"Host": "localhost:8000", **headers})
    assert answer.status == 200


def test_a_link_on_another_page_opens_this_one(server):
    answer = server.ask("GET", "/", headers={"Sec-Fetch-Site": "cross-site",
                                             "Sec-Fetch-Mode": "navigate"})
    assert (answer.status, answer.body) == (200, PAGE)


def test_a_form_on_another_page_may_not_post(server):
    answer = server.post("/inverts", IMAGE, headers={"Sec-Fetch-Site": "cross-site",
                                                     "Sec-Fetch-Mode": "navigate"})
    assert answer.status == 403


@pytest.mark.parametrize("headers, query", [
    ({}, ""), ({}, "?token="), ({}, "?token=wrong"), ({"Authorization": f"Basic {TOKEN}"}, ""),
    ({"Authorization": "Bearer wrong"}, ""), ({"Authorization": f"Bearer {TOKEN}x"}, ""),
    ({"Cookie": f"{TOKEN_COOKIE}=wrong"}, ""), ({"Cookie": f"other={TOKEN}"}, ""),
    ({"Authorization": "Bearer \xe9"}, ""), ({}, "?token=%ff"),
    ({"Authorization": "Bearer wrong"}, f"?token={TOKEN}")])
def test_without_the_token_nothing_is_told(guarded, headers, query):
    for path in ("/", "/healthz", "/openapi.json", "/v1/models", "/v1/models/inverts", "/nowhere"):
        answer = guarded.ask("GET", path + query, headers=headers)
        assert answer.status == 401 and "token" in answer.error
    assert guarded.post(f"/inverts{query}", IMAGE, headers=headers).status == 401


@pytest.mark.parametrize("headers, query", [
    ({"Authorization": f"Bearer {TOKEN}"}, ""), ({"Authorization": f"token {TOKEN}"}, ""),
    ({"Cookie": f"a=b; {TOKEN_COOKIE}={TOKEN}"}, ""), ({}, f"?token={TOKEN}")])
def test_the_token_opens_all(guarded, headers, query):
    assert guarded.ask("GET", f"/healthz{query}", headers=headers).status == 200
    assert guarded.post(f"/inverts{query}", IMAGE, headers=headers).body == invert(IMAGE)


def test_the_page_remembers_the_token_in_a_cookie_and_shows_it_nowhere(guarded):
    first = guarded.ask("GET", f"/?token={TOKEN}")
    cookie, *settings = first.headers["set-cookie"].split("; ")
    assert (first.status, first.headers["location"], first.body) == (303, "./", b"")
    assert cookie == f"{TOKEN_COOKIE}={TOKEN}"
    assert {"HttpOnly", "SameSite=lax"} <= {*settings}
    for method, path in (("GET", "/"), ("GET", "/v1/models"), ("GET", f"/healthz?token={TOKEN}"),
                         ("GET", "/nowhere"), ("GET", "/openapi.json"), ("POST", "/inverts")):
        answer = guarded.ask(method, path, headers={"Cookie": cookie})
        assert answer.status in (200, 400, 404)
        assert TOKEN not in f"{answer.headers}" and TOKEN.encode() not in answer.body


def test_a_token_in_the_address_replaces_that_of_an_earlier_server(guarded):
    """Whose cookie the browser still sends."""
    old = {"Cookie": f"{TOKEN_COOKIE}=of-yesterday"}
    assert guarded.ask("GET", f"/?token={TOKEN}", headers=old).status == 303
    assert guarded.ask("GET", "/?token=wrong",
                       headers={"Cookie": f"{TOKEN_COOKIE}={TOKEN}"}).status == 401


@pytest.mark.parametrize("method, path, headers", [
    ("GET", "/", {}), ("HEAD", "/", {}), ("POST", "/inverts", {}), ("GET", "/openapi.json", {}),
    ("GET", "/nowhere", {}), ("GET", "/inverts", {}), ("POST", "/healthz", {}),
    ("GET", "/healthz", {"Host": "evil.example"}), ("GET", "/v1/models/inverts/examples/0", {}),
    ("GET", "/v1/models/inverts/examples/x", {}), ("POST", "/v1/models/inverts:predict", {})])
def test_every_answer_has_the_headers_that_keep_it_here(server, method, path, headers):
    answer = server.ask(method, path, headers=headers)
    for name, value in HEADERS:
        assert answer.headers.get_all(name.decode()) == [value.decode()]
    assert answer.headers["server"] is None
    if (path, answer.status) == ("/", 200):
        assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"


# ---- addresses


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/nowhere", 404), ("POST", "/nowhere", 404), ("GET", "/v1/models/nowhere", 404),
    ("POST", "/v1/models/nowhere:predict", 404), ("GET", "/v1/models/inverts/nowhere", 404),
    ("GET", "/a/b/c", 404), ("POST", "/a/b/c", 404), ("DELETE", "/nowhere", 404),
    ("GET", "/docs", 404), ("GET", "/redoc", 404), ("GET", "/favicon.ico", 404),
    ("GET", "/inverts", 405), ("DELETE", "/inverts", 405), ("PUT", "/healthz", 405),
    ("POST", "/healthz", 404), ("POST", "/", 405), ("POST", "/v1/models/inverts", 405),
    ("POST", "/openapi.json", 404), ("GET", "/v1/models/inverts:predict", 404),
    ("OPTIONS", "/inverts", 405), ("HEAD", "/nowhere", 404), ("HEAD", "/inverts", 405)])
def test_other_addresses_and_methods_are_errors_in_json(server, method, path, status):
    answer = server.ask(method, path)
    assert answer.status == status
    if method != "HEAD":
        assert answer.error
    if status == 405:
        assert answer.headers["allow"] in ("GET", "GET, HEAD", "HEAD, GET", "POST")


@pytest.mark.parametrize("path", [
    "/", "/healthz", "/v1/models", "/v1/models/inverts", "/v1/models/inverts/metadata",
    "/v1/models/inverts/examples/1", "/openapi.json"])
def test_head_is_get_without_a_body(server, path):
    head, get = (server.ask(method, path) for method in ("HEAD", "GET"))
    assert (head.status, head.body) == (200, b"") and get.body
    assert head.headers["content-length"] == str(len(get.body))
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("name", [
    "../inverts", "..%2finverts", "%2e%2e/%2e%2e/etc/passwd", "%2e%2e%2fetc%2fpasswd", "..",
    "%2e%2e", "inverts%00", "%00", "%ff", "inverts%0a", "%20", "%3Cscript%3E", "x" * 9000,
    "inverts%2f..%2finverts", "C:%5Cinverts", "~root", "."])
def test_no_name_leads_to_a_file(server, name):
    """The folder that the server works in has none; what there is is known by name alone."""
    for method, path in (("POST", f"/{name}"), ("GET", f"/v1/models/{name}"),
                         ("GET", f"/v1/models/{name}/examples/0"),
                         ("POST", f"/v1/models/{name}:predict")):
        answer = server.ask(method, path, IMAGE if method == "POST" else None)
        assert answer.status in (404, 405) and answer.error
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("number, status", [
    ("0", 200), ("1", 200), ("2", 404), ("-1", 404), ("9" * 40, 404), ("1.5", 400), ("x", 400),
    ("%2e%2e", 400), ("0%00", 400), ("..%2f0", 404), ("0/", 404), ("", 404), ("9" * 5000, 400)])
def test_examples_are_counted_from_0(server, number, status):
    answer = server.ask("GET", f"/v1/models/inverts/examples/{number}")
    assert answer.status == status, answer
    if status == 200:
        assert answer.body == EXAMPLES[int(number)]
        assert answer.headers["content-type"] == "image/png"
        assert server.post("/inverts", answer.body).status == 200
        shown = server.ask("GET", f"/v1/models/inverts/examples/{number}?show=input")
        np.testing.assert_array_equal(read_pixels(shown.body), read_pixels(answer.body))
    else:
        assert answer.error


@pytest.mark.parametrize("method, path", [("POST", "/inverts"),
                                          ("GET", "/v1/models/inverts/examples/0")])
def test_show_is_input_or_output(server, method, path):
    answer = server.ask(method, f"{path}?show=all", IMAGE if method == "POST" else None)
    assert (answer.status, "show" in answer.error) == (400, True)


def test_html_in_names_and_labels_comes_back_as_json_alone(in_empty_folder):
    text = "<img src=x onerror=alert(1)>"
    model = stand_in(text)
    model.current.description["inputs"]["palette"] = [{"name": text, "color": [1, 2, 3]}]
    with run_server(model) as running:
        answers = [running.ask("GET", "/v1/models"), running.ask("GET", "/openapi.json"),
                   running.post("/%3Cscript%3E"), running.ask("GET", "/v1/models/%3Cb%3E")]
        assert running.ask("GET", "/").body == PAGE
    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert answers[0].json["models"][0]["name"] == text


# ---- OpenAPI


def list_references(value):
    """All "$ref" in a document."""
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) \
            else []:
        yield from list_references(part)


def test_openapi_describes_every_route_and_every_error(server):
    """By the rules of OpenAPI 3.1 that a document of this kind can break."""
    document = server.ask("GET", "/openapi.json").json
    assert document["openapi"].startswith("3.1.") and {*document["info"]} >= {"title", "version"}
    assert {(path, method) for path, item in document["paths"].items() for method in item} == {
        ("/healthz", "get"), ("/v1/models", "get"), ("/v1/models/{name}", "get"),
        ("/v1/models/{name}/metadata", "get"), ("/v1/models/{name}/examples/{number}", "get"),
        ("/v1/models/{name}/versions/{version}", "get"),
        ("/v1/models/{name}/versions/{version}/metadata", "get"),
        ("/v1/models/{name}/versions/{version}:predict", "post"),
        ("/v1/models/{name}:predict", "post"), ("/{name}", "post")}
    ids = set()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            ids.add(operation["operationId"])
            parameters = operation.get("parameters", [])
            in_path = [row["name"] for row in parameters if row["in"] == "path"]
            assert sorted(in_path) == sorted(re.findall(r"\{(\w+)\}", path))
            assert all(row["required"] for row in parameters if row["in"] == "path")
            assert ("requestBody" in operation) == (method == "post")
            assert {*operation["responses"]} == {"200", "4XX", "5XX"}
            for status in ("4XX", "5XX"):
                schema = operation["responses"][status]["content"]["application/json"]["schema"]
                assert schema["required"] == ["error"]
                assert schema["properties"]["error"]["type"] == "string"
            assert all(row["description"] for row in operation["responses"].values())
            assert operation["summary"] and operation["description"]
    assert len(ids) == 10
    for reference in list_references(document):
        part = document
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


# ---- images in and out


def test_bytes_in_bytes_out_with_step_and_times(server):
    answer = server.post("/inverts", IMAGE, headers={"Content-Type": "image/png"})
    assert answer.body == invert(IMAGE) and answer.headers["content-type"] == "image/png"
    assert re.fullmatch(r"queue;dur=\d+\.\d, model;dur=\d+\.\d", answer.headers["server-timing"])
    assert answer.headers["x-model-step"] is None  # a model that does not say
    assert server.post("/inverts?show=output", IMAGE).body == invert(IMAGE)
    assert server.post("/inverts?show=input", IMAGE).body == IMAGE


@pytest.mark.parametrize("body, part", [
    (b"", "empty"), (b"no image", "not a JPEG, PNG"),
    (b"\x93NUMPY", "cannot be translated"), (b"P6 9 9 255\n", "truncated"),
    (b"<!doctype html>", "not a JPEG, PNG"), (b"II*\0" + bytes(30), "cannot be translated")])
def test_what_is_no_image_is_refused_in_one_line(server, body, part):
    answer = server.post("/inverts", body)
    assert answer.status == 400 and part in answer.error


def test_a_fault_of_a_model_is_one_line_and_the_server_lives(in_empty_folder, caplog):
    def generate(_contents):
        raise KeyError("a fault")
    with run_server(stand_in(generate=generate)) as running:
        answer = running.post("/inverts", IMAGE)
        assert (answer.status, "fault" in answer.error) == (500, True)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert running.ask("GET", "/healthz").status == 200
    assert "KeyError: 'a fault'" in caplog.text


# ---- the queue


def test_beyond_the_queue_it_is_503_until_there_is_room(gate):
    with run_gated(gate, queue_size=2) as (running, post):
        waiting = [post(number) for number in range(3)]
        wait_until(lambda: running.work.unfinished == 3)
        answer = running.post("/inverts", draw_image(9))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.error.startswith("3 requests are waiting")
        assert running.ask("GET", "/healthz").status == 200  # it needs no queue
        assert running.post("/nowhere", IMAGE).status == 404
        gate.opened.set()
        assert [future.result().status for future in waiting] == [200] * 3
        assert running.post("/inverts", draw_image(9)).body == invert(draw_image(9))


def test_a_body_is_not_read_where_the_queue_is_full(gate):
    with run_gated(gate, queue_size=1) as (running, post):
        waiting = [post(number) for number in range(2)]
        wait_until(lambda: running.work.unfinished == 2)
        with send_head(running.port, "/inverts", "Content-Length: 1000") as client:
            assert read_answer(client).status == 503
        gate.opened.set()
        assert [future.result().status for future in waiting] == [200] * 2


def test_bodies_that_are_still_coming_count_as_waiting(in_empty_folder):
    """So the memory that they take is bounded too."""
    limits = LIMITS._replace(parallel=1, queue_size=1)
    head = "/inverts", f"Content-Length: {len(IMAGE)}"
    with run_server(stand_in(), limits=limits) as running, \
            send_head(running.port, *head) as first, send_head(running.port, *head) as second:
        wait_until(lambda: running.work.unfinished == 2)
        assert running.post("/inverts", IMAGE).status == 503
        for client in (first, second):
            client.sendall(IMAGE)
            assert read_answer(client).body == invert(IMAGE)
        assert running.post("/inverts", IMAGE).status == 200


def test_beyond_the_time_limit_it_is_504(gate):
    """What has begun is finished, what has not never begins."""
    with run_gated(gate, seconds=1) as (running, post):
        answers = [future.result() for future in [post(1), post(2)]]
        assert [answer.status for answer in answers] == [504, 504]
        assert all("1 seconds" in answer.error for answer in answers)
        wait_until(lambda: running.work.unfinished == 1)
        gate.opened.set()
        wait_until(lambda: running.work.unfinished == 0)
        running.work.limits = running.work.limits._replace(seconds=60)
        assert running.post("/inverts", draw_image(3)).status == 200
    assert len(gate.begun) == 2 and gate.begun[1] == draw_image(3)


def test_a_slow_body_is_408_and_the_connection_ends(in_empty_folder):
    with run_server(stand_in(), limits=LIMITS._replace(seconds=0.2)) as running, \
            send_head(running.port, "/inverts", "Content-Length: 1000") as client:
        client.sendall(IMAGE[:10])
        answer = read_answer(client)
        assert answer.status == 408 and "too slowly" in answer.error
        assert answer.headers["connection"] == "close" and client.recv(1) == b""


def test_a_large_body_is_413(in_empty_folder):
    """By its length before any of it has come, and by what has come where none is given."""
    with run_server(stand_in(), limits=LIMITS._replace(num_bytes=1000)) as running:
        with send_head(running.port, "/inverts", "Content-Length: 1001") as client:
            answer = read_answer(client)
            assert answer.status == 413 and "1000 bytes" in answer.error
        with send_head(running.port, "/inverts", "Transfer-Encoding: chunked") as client:
            for _ in range(3):
                client.sendall(b"190\r\n" + bytes(0x190) + b"\r\n")
            assert read_answer(client).status == 413
        with send_head(running.port, "/v1/models/inverts:predict", f"Content-Length: {10**18}") \
                as client:
            assert read_answer(client).status == 413
        assert running.post("/inverts", bytes(1001)).status == 413
        assert running.post("/inverts", IMAGE).status == 200


def write_bomb(width, height):
    """A valid PNG file of one colour, a thousandth of its pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">2I5B", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) \
        + png_chunk(b"IEND", b"")


def write_header(name, width, height):
    """The head of a large image of a format, and nothing of its pixels."""
    if name == "npy":
        contents = io.BytesIO()
        np.save(contents, np.broadcast_to(np.uint8(0), (2, 2, 3)))
        head = contents.getvalue()[:128].replace(
            b"(2, 2, 3)", f"({height}, {width}, 3)".encode())
        return head
    if name == "ppm":
        return f"P6 {width} {height} 255\n".encode()
    contents = io.BytesIO()
    Image.new("RGB", (8, 8)).save(contents, name)
    small = contents.getvalue()
    if name == "bmp":
        return small[:18] + struct.pack("<2i", width, height) + small[26:]
    if name == "gif":
        return small[:6] + struct.pack("<2H", width, height) + small[10:]
    place = small.index(b"\xff\xc0") + 5
    return small[:place] + struct.pack(">2H", height, width) + small[place + 4:]


@pytest.mark.parametrize("body", [
    write_bomb(30000, 30000), write_bomb(4097, 4097), write_header("bmp", 30000, 30000),
    write_header("gif", 30000, 30000), write_header("jpeg", 30000, 30000),
    write_header("ppm", 30000, 30000), write_header("npy", 30000, 30000)],
    ids=["png", "little", "bmp", "gif", "jpeg", "ppm", "npy"])
def test_many_pixels_are_413_before_they_are_decoded(server, body):
    assert len(body) < 200_000
    for answer in (server.post("/inverts", body), server.post("/inverts?show=input", body)):
        assert answer.status == 413 and "pixels" in answer.error


def test_own_sizes_are_limited_by_memory(in_empty_folder):
    """Where the network takes an image at its own size, also one of an array file."""
    model = stand_in(network_shape=lambda shape: shape, bytes_per_pixel=10**6)
    array = io.BytesIO()
    np.save(array, np.zeros((80, 80, 3), np.uint8))
    with run_server(model) as running:
        for body in (draw_image(1, (80, 80)), array.getvalue(), b"P6 80 80 255\n" + bytes(19200)):
            answer = running.post("/inverts", body)
            assert answer.status == 413 and "80x80 pixels" in answer.error
        assert running.post("/inverts", draw_image(1, (60, 60))).status == 200


def test_who_leaves_while_waiting_is_never_computed(gate):
    with run_gated(gate) as (running, post):
        first = post(1)
        wait_until(lambda: gate.begun)
        for number in (2, 3, 4):
            with send_head(running.port, "/inverts", f"Content-Length: {len(IMAGE)}") as client:
                client.sendall(IMAGE)
                wait_until(lambda: running.work.unfinished == 2)
            wait_until(lambda: running.work.unfinished == 1)
        gate.opened.set()
        assert first.result().status == 200
        assert running.post("/inverts", draw_image(5)).status == 200
    assert gate.begun == [draw_image(1), draw_image(5)]


def test_who_leaves_in_the_middle_of_a_body_leaves_no_trace(gate, caplog, capfd):
    gate.opened.set()
    with run_gated(gate) as (running, _):
        for _ in range(3):
            with send_head(running.port, "/inverts", f"Content-Length: {len(IMAGE)}") as client:
                client.sendall(IMAGE[:-1])
                # the server has read what came before: it answers others in order
                assert running.ask("GET", "/healthz").status == 200
        assert running.post("/inverts", draw_image(5)).status == 200
        assert running.work.unfinished == 0
    assert gate.begun == [draw_image(5)]
    assert caplog.text == "" and capfd.readouterr().err == ""


def test_as_many_at_once_as_parallel_says(in_empty_folder):
    """Two that meet inside the network, which one at a time would never do."""
    barrier = threading.Barrier(2, timeout=30)

    def generate(contents):
        barrier.wait()
        return contents
    with run_server(stand_in(generate=generate)) as running, ThreadPoolExecutor(2) as threads:
        answers = [*threads.map(lambda number: running.post("/inverts", draw_image(number)),
                                (1, 2))]
    assert [answer.body for answer in answers] == [draw_image(1), draw_image(2)]


def test_many_at_once_each_get_their_own(server):
    with ThreadPoolExecutor(32) as threads:
        answers = [*threads.map(lambda number: server.post("/inverts", draw_image(number)),
                                range(96))]
    assert [answer.body for answer in answers] == [invert(draw_image(n)) for n in range(96)]
    assert server.work.unfinished == 0


def test_what_is_in_flight_is_answered_when_the_server_ends(gate):
    """And nothing new is taken on meanwhile."""
    def open_later():
        """Once the server takes on nothing new."""
        wait_until(lambda: not can_connect(running.port))
        gate.opened.set()
    limits = LIMITS._replace(parallel=1)
    with ThreadPoolExecutor(3) as threads:
        with run_server(stand_in(generate=gate.generate), limits=limits) as running:
            waiting = [threads.submit(running.post, "/inverts", draw_image(n)) for n in (1, 2)]
            wait_until(lambda: running.work.unfinished == 2)
            opener = threads.submit(open_later)
        opener.result()
    assert sorted(future.result().body for future in waiting) == \
        sorted(invert(draw_image(n)) for n in (1, 2))
