"""The drawing page, in a browser, beside a server of our own that answers late, wrongly or not at
all when a test says so."""

import contextlib
import http.server
import io
import json
import re
import threading
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from tools.lib.page import render_drawing

PALETTE = [("background", (0, 0, 170)), ("wall", (0, 0, 255)), ("door", (170, 0, 0)),
           ("window", (0, 85, 255))]
BLUE, WALL, DOOR, WINDOW = (color for _, color in PALETTE)


def to_png(pixels):
    """An array as a PNG file: bytes."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(file, "PNG")
    return file.getvalue()


def of_png(contents):
    """The pixels of an image file, as it stores them."""
    with Image.open(io.BytesIO(contents)) as image:
        return np.asarray(image)


def model_of(name="facades", *, step=400, width=48, height=32, **inputs):
    """What the server says about a model whose inputs are a palette's colours."""
    palette = [{"name": label, "color": [*color], "index": None} for label, color in PALETTE]
    return {"name": name, "step": step, "state": "AVAILABLE", "inputs": {
        "count": 1, "width": width, "height": height, "channels": 3, "kind": "images",
        "type": "uint8", "file": "png", "tool": "palette", "palette": palette, "indices": False,
        "background": [0, 0, 170], "ink": [0, 0, 0], "line_width": 1, **inputs},
        "outputs": {"channels": 3, "kind": "images", "type": "uint8", "file": "png",
                    "range": [0, 255], "legend": None}, "examples": 0}


def sketch_model(name="sketch", **inputs):
    """What the server says about a model of drawings in black and white."""
    return model_of(name, **{"tool": "brush", "palette": None, "background": [255, 255, 255],
                             **inputs})


def photo_model(name="photo", **inputs):
    """What the server says about a model of photos."""
    return model_of(name, **{"tool": "image", "palette": None, "background": [255, 255, 255],
                             **inputs})


class Server:
    """A server that speaks as tools/serve.py does. Its network inverts the image."""

    def __init__(self, models, examples=None):
        """Starts it. examples: name of a model -> files."""
        self.models, self.examples = models, examples or {}
        for model in models:
            model["examples"] = len(self.examples.get(model["name"], []))
        self.posts = []  # (address, content type, body) of those that ask for results
        self.failures = []  # (status, error, headers) of the next ones
        self.gate = threading.Event()  # closed: results are kept back
        self.gate.set()
        self.lock = threading.Lock()
        self.in_flight = self.most_in_flight = 0
        self.port = 0
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def start(self):
        """Listens, at the same port as before."""
        handler = type("Handler", (Handler,), {"server_of_test": self})
        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.httpd.daemon_threads = True
        self.port = self.httpd.server_port
        threading.Thread(target=self.httpd.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        """Answers nobody any more."""
        self.gate.set()
        self.httpd.shutdown()
        self.httpd.server_close()

    def close_gate(self):
        """Keeps results back until the gate opens."""
        self.gate.clear()

    def drawn(self, index=-1):
        """The pixels that were posted."""
        return of_png(self.posts[index][2])

    def answer(self, path, query, content_type, body):
        """(status, headers, body) of a request for a result or a shown input."""
        model = next((each for each in self.models if f"/{each['name']}" == path), None)
        if model is None:
            return 404, {}, {"error": f"no model {path}"}
        if query == "show=input":
            return 200, {}, show(body)
        with self.lock:
            self.posts.append((f"{path}?{query}" if query else path, content_type, body))
            failure = self.failures.pop(0) if self.failures else None
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            step = model["step"]
        self.gate.wait(20)
        with self.lock:
            self.in_flight -= 1
        if failure:
            status, error, headers = failure
            return status, headers, {"error": error}
        headers = {"Server-Timing": "queue;dur=0.1, model;dur=7.4"}
        if step is not None:
            headers["X-Model-Step"] = str(step)
        if model["inputs"]["file"] == "npy":
            result = 1 - np.load(io.BytesIO(body))
            file = io.BytesIO()
            np.save(file, result)
            if query != "show=output":
                return 200, headers, file.getvalue()
            return 200, headers, show(file.getvalue())
        return 200, headers, to_png(255 - of_png(body).astype(np.uint8))


def show(contents):
    """A file as people look at it."""
    if contents.startswith(b"\x93NUMPY"):
        return to_png(np.uint8(np.clip(np.load(io.BytesIO(contents)), 0, 1) * 255))
    with Image.open(io.BytesIO(contents)) as image:
        file = io.BytesIO()
        image.convert("RGB").save(file, "PNG")
    return file.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """A connection to a Server."""

    protocol_version = "HTTP/1.1"
    server_of_test = None

    def log_message(self, *_):
        """Is quiet."""

    def reply(self, status, headers, body):
        """Sends an answer; JSON where it is not bytes."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers = {"Content-Type": "application/json", **headers}
        self.send_response(status)
        for name, value in {"Content-Type": "image/png", **headers,
                            "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        with contextlib.suppress(ConnectionError):
            self.end_headers()
            self.wfile.write(body)

    def do_GET(self):  # noqa: N802
        """The page, the models and their examples."""
        server = self.server_of_test
        path, _, query = self.path.partition("?")
        found = re.fullmatch("/v1/models/(.*)/examples/([0-9]+)", path)
        if path == "/":
            page = render_drawing("Draw")
            self.reply(200, {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy":
                             "connect-src 'self'; frame-ancestors 'none'"}, page)
        elif path == "/v1/models":
            self.reply(200, {}, {"models": server.models})
        elif found:
            contents = server.examples[urllib.parse.unquote(found[1])][int(found[2])]
            is_png = contents.startswith(b"\x89PNG") or query
            self.reply(200, {} if is_png else {"Content-Type": "application/octet-stream"},
                       show(contents) if query else contents)
        else:
            self.reply(404, {}, {"error": f"nothing at {path}"})

    def do_POST(self):  # noqa: N802
        """A result."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path, _, query = self.path.partition("?")
        self.reply(*self.server_of_test.answer(
            urllib.parse.unquote(path), query, self.headers["Content-Type"], body))


@pytest.fixture
def serve():
    """Starts servers."""
    with contextlib.ExitStack() as stack:
        def start(*models, **examples):
            server = Server([*models], examples)
            stack.callback(server.stop)
            return server
        yield start


# ---- opening, drawing, waiting


def opened(browser, server, state="", **how):
    """Opens the page and waits for the first result, or for the model where there is none."""
    browser.open(server.url, state, **how)
    wait_until_done(browser)


def wait_until_done(browser):
    """Waits until the result is that of what is drawn."""
    browser.wait("document.getElementById('state').dataset.state === 'done'"
                 " && document.getElementById('result').ariaBusy === 'false'")


def state_of(browser):
    """The state in words."""
    return browser.one("#state").text


def wait_for_state(browser, kind):
    """Waits for a kind of state; returns its words."""
    browser.wait(f"document.getElementById('state').dataset.state === '{kind}'")
    return state_of(browser)


def screen_of(browser, x, y):
    """Where the middle of a pixel of the drawing lies in the window."""
    return browser.run("""
      const canvas = document.getElementById("canvas");
      const box = canvas.getBoundingClientRect();
      return [box.left + (arguments[0] + 0.5) * box.width / canvas.width,
        box.top + (arguments[1] + 0.5) * box.height / canvas.height];""", x, y)


def mouse(browser, kind, point, pointer="mouse", **more):
    """A mouse or pen event at a pixel of the drawing."""
    x, y = screen_of(browser, *point)
    browser.command("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, button="left",
                    buttons=0 if kind == "Released" else 1, clickCount=1, pointerType=pointer,
                    **more)


def touch(browser, kind, *points):
    """A touch event: where the fingers are now, in pixels of the drawing."""
    places = [screen_of(browser, *point) for point in points]
    browser.command("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=[
        {"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)])


def drag(browser, *points, pointer="mouse"):
    """A stroke through pixels of the drawing."""
    mouse(browser, "Moved", points[0], pointer)
    mouse(browser, "Pressed", points[0], pointer)
    for point in points[1:]:
        mouse(browser, "Moved", point, pointer)
    mouse(browser, "Released", points[-1], pointer)


def choose(browser, *, mode=None, label=None, size=None, kind=None):
    """Chooses tools by their controls."""
    if kind:
        browser.click(f'#kinds [data-value="{kind}"]')
    if mode:
        browser.click(f'#modes [data-value="{mode}"]')
    if label:
        names = [name for name, _ in PALETTE]
        browser.click("#palette label", names.index(label))
    if size:
        browser.run("""const range = document.getElementById("size");
          range.value = arguments[0]; range.dispatchEvent(new Event("input"));""", size)


def drawn(browser, server):
    """The pixels that were posted last, once their result is shown."""
    wait_until_done(browser)
    return server.drawn()


def drawn_image(width=48, height=32, color=BLUE):
    """A drawing of one colour: [height, width, 3]."""
    return np.full((height, width, 3), color, np.uint8)


def canvas_pixels(browser):
    """What the canvas shows: [height, width, 3]."""
    width, height, values = browser.run("""
      const canvas = document.getElementById("canvas");
      const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return [canvas.width, canvas.height, [...data]];""")
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def result_pixels(browser):
    """The result that is shown: [height, width, 3]."""
    width, height, data = browser.run("""
      const image = document.getElementById("output");
      const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
      return [width, height, [...data]];""")
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


# ---- strokes


def test_strokes_rectangles_and_fills_are_exact(browser, serve):
    """What is posted is, pixel by pixel, what arithmetic says; the result is its inverse."""
    server = serve(model_of())
    opened(browser, server)
    expected = drawn_image()
    np.testing.assert_array_equal(drawn(browser, server), expected)
    choose(browser, mode="rectangle", label="window")
    drag(browser, (10, 5), (30, 12), (20, 24))
    expected[5:25, 10:21] = WINDOW
    np.testing.assert_array_equal(drawn(browser, server), expected)
    choose(browser, mode="brush", label="door", size=1)
    drag(browser, (2, 2), (2, 20), (40, 20))
    expected[2:21, 2] = expected[20, 2:41] = DOOR
    np.testing.assert_array_equal(drawn(browser, server), expected)
    choose(browser, size=4)  # the pixels whose middle lies in the circle around its own
    drag(browser, (44, 28))
    for y, x in np.ndindex(4, 4):
        if (y - 1.5) ** 2 + (x - 1.5) ** 2 <= 4:
            expected[27 + y, 43 + x] = DOOR
    np.testing.assert_array_equal(drawn(browser, server), expected)
    choose(browser, mode="fill", label="wall")
    drag(browser, (12, 22))  # what is left of the window below the line
    expected[21:25, 10:21] = WALL
    np.testing.assert_array_equal(drawn(browser, server), expected)
    choose(browser, mode="eraser", size=3)
    drag(browser, (2, 10))
    expected[9:12, 1:4] = BLUE
    np.testing.assert_array_equal(drawn(browser, server), expected)
    np.testing.assert_array_equal(canvas_pixels(browser), expected)
    np.testing.assert_array_equal(result_pixels(browser), 255 - expected)
    assert server.posts[-1][:2] == ("/facades", "image/png")
    assert server.most_in_flight == 1
