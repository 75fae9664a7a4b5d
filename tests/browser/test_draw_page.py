"""The drawing page, in a browser, beside a server of our own that answers late, wrongly or not at
all when a test says so."""

import contextlib
import http.server
import io
import json
import re
import socket
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import PROGRAM, start_process

from tools.lib.page import render_drawing

PALETTE = [("background", (0, 0, 170)), ("wall", (0, 0, 255)), ("door", (170, 0, 0)),
           ("window", (0, 85, 255))]
BLUE, WALL, DOOR, WINDOW = (color for _, color in PALETTE)
WAIT = 20  # seconds for something that takes milliseconds


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


def blank_example(inputs):
    """An input on which nothing is drawn."""
    return to_png(drawn_image(inputs["count"] * inputs["width"], inputs["height"],
                              inputs["background"]))


def drawn_image(width=48, height=32, color=BLUE):
    """A drawing of one colour: [height, width, 3]."""
    return np.full((height, width, 3), color, np.uint8)


class Server:
    """A server that speaks as tools/serve.py does. Its network inverts the image. None gets the port
    of another: the browser would have a drawing of that one's."""

    used = set()  # ports

    def __init__(self, models, examples=None):
        """Starts it. examples: name of a model -> files; a blank one where there are none."""
        self.models, self.examples = models, examples or {}
        for model in models:
            files = self.examples.setdefault(model["name"], [blank_example(model["inputs"])])
            model["examples"] = len(files)
        self.posts = []  # (address, content type, body) of those that ask for results
        self.failures = []  # (status, error, headers) of the next ones
        self.gate = threading.Event()  # closed: results are kept back
        self.gate.set()
        self.lock = threading.Lock()
        self.in_flight = self.most_in_flight = 0
        self.port = 0
        self.connections = []
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def start(self):
        """Listens, at the same port as before."""
        handler = type("Handler", (Handler,), {"server_of_test": self})
        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        while not self.port and self.httpd.server_port in self.used:
            self.httpd.server_close()
            self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.used.add(self.httpd.server_port)
        self.httpd.daemon_threads = True
        self.port = self.httpd.server_port
        threading.Thread(target=self.httpd.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        """Answers nobody any more, not even those that are connected."""
        self.gate.set()
        self.httpd.shutdown()
        self.httpd.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

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

    def setup(self):
        """Notes the connection."""
        super().setup()
        self.server_of_test.connections.append(self.connection)

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
    """Starts servers. Comes before the fixture of a browser, whose page asks until it is closed."""
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
    """Waits until the result is that of what is drawn; nothing has none."""
    browser.wait("['done', 'ready'].includes(document.getElementById('state').dataset.state)"
                 " && !document.querySelector('[aria-busy=true]')")


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
    """The pixels that were posted last, once their result is shown; a blank drawing is not sent."""
    wait_until_done(browser)
    blank = browser.run("""const { width, height, data } = state.pixels;
      return isBlank() ? [height, width, [...data].map(unpackColor)] : null;""")
    return np.uint8(blank[2]).reshape(*blank[:2], 3) if blank else server.drawn()


def assert_drawn(browser, server, expected):
    """What is posted becomes what is expected: the browser passes touches on when it likes."""
    end = time.monotonic() + WAIT
    while not np.array_equal(drawn(browser, server), expected) and time.monotonic() < end:
        browser.settle()
    np.testing.assert_array_equal(drawn(browser, server), expected)


def save_by(browser, *buttons):
    """Name -> bytes of the files that a click on each of the buttons saves."""
    browser.run("window.saved = []; saveFile = async (blob, name) => "
                "window.saved.push([name, [...new Uint8Array(await blob.arrayBuffer())]]);")
    for button in buttons:
        browser.click(button)
    browser.wait("window.saved.length === arguments[0]", len(buttons))
    return {name: bytes(contents) for name, contents in browser.run("return window.saved")}


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


def test_strokes_rectangles_and_fills_are_exact(serve, browser):
    """What is posted is, pixel by pixel, what arithmetic says; the result is its inverse."""
    server = serve(model_of())
    opened(browser, server)
    expected = drawn_image()
    assert_drawn(browser, server, expected)
    choose(browser, mode="rectangle", label="window")
    drag(browser, (10, 5), (30, 12), (20, 24))
    expected[5:25, 10:21] = WINDOW
    assert_drawn(browser, server, expected)
    choose(browser, mode="brush", label="door", size=1)
    drag(browser, (2, 2), (2, 20), (40, 20))
    expected[2:21, 2] = expected[20, 2:41] = DOOR
    assert_drawn(browser, server, expected)
    choose(browser, size=4)  # the pixels whose middle lies in the circle around its own
    drag(browser, (44, 28))
    for y, x in np.ndindex(4, 4):
        if (y - 1.5) ** 2 + (x - 1.5) ** 2 <= 4:
            expected[27 + y, 43 + x] = DOOR
    assert_drawn(browser, server, expected)
    choose(browser, mode="fill", label="wall")
    drag(browser, (12, 22))  # what is left of the window below the line
    expected[21:25, 10:21] = WALL
    assert_drawn(browser, server, expected)
    choose(browser, mode="eraser", size=3)
    drag(browser, (2, 10))
    expected[9:12, 1:4] = BLUE
    assert_drawn(browser, server, expected)
    np.testing.assert_array_equal(canvas_pixels(browser), expected)
    np.testing.assert_array_equal(result_pixels(browser), 255 - expected)
    assert server.posts[-1][:2] == ("/facades", "image/png")
    assert server.most_in_flight == 1


def test_a_stroke_stays_inside_and_goes_on_outside(serve, browser):
    """A stroke that leaves the canvas and comes back elsewhere has no line along the edge."""
    server = serve(sketch_model())
    opened(browser, server)
    drag(browser, (40, 10), (60, 10), (60, 20), (40, 20))
    expected = drawn_image(color=(255, 255, 255))
    expected[10, 40:] = expected[20, 40:] = 0
    assert_drawn(browser, server, expected)


def test_undo_and_redo_go_step_by_step(serve, browser):
    from selenium.webdriver import Keys
    example = np.random.default_rng(1).integers(0, 256, (32, 48, 3), np.uint8)
    server = serve(sketch_model(), sketch=[to_png(example)])
    opened(browser, server)
    assert not browser.one("#undo").is_enabled() and not browser.one("#redo").is_enabled()
    states = [example]
    drag(browser, (5, 5), (20, 5))
    states.append(drawn(browser, server))
    choose(browser, mode="fill")
    drag(browser, (40, 30))
    states.append(drawn(browser, server))
    browser.click("#clear")
    states.append(drawn(browser, server))
    browser.click("#gallery button")
    assert_drawn(browser, server, example)
    assert (states[3] == 255).all() and (states[1][5, 5:21] == 0).all()
    for index in (3, 2, 1, 0):
        browser.press((Keys.CONTROL, "z"))
        assert_drawn(browser, server, states[index])
    assert not browser.one("#undo").is_enabled()
    browser.press((Keys.CONTROL, Keys.SHIFT, "z"))
    assert_drawn(browser, server, states[1])
    assert browser.texts("#spoken") == ["Redone: stroke."]
    browser.click("#redo")
    assert_drawn(browser, server, states[2])
    drag(browser, (0, 0))  # forgets what was undone
    assert not browser.one("#redo").is_enabled()
    np.testing.assert_array_equal(canvas_pixels(browser), drawn(browser, server))


def test_undo_forgets_the_oldest_changes(serve, browser):
    """Changes are kept up to a number of bytes, and the last one always."""
    opened(browser, serve(sketch_model()))
    kept = browser.run("""
      const history = new UndoHistory(100);
      const change = (what, count) => ({ what, before: { data: new Uint8Array(count) },
        after: { data: new Uint8Array(count) } });
      for (const name of ["a", "b", "c"]) history.add(change(name, 20));
      const first = history.past.map(({ what }) => what);
      history.add(change("d", 1000));
      return [first, history.past.map(({ what }) => what)];""")
    assert kept == [["b", "c"], ["d"]]


# ---- touch, pen, keyboard


@pytest.fixture
def own_browser(browser_of):
    """A browser for one test: touches of several fingers confuse chromium until it is restarted."""
    return browser_of(1)


def test_a_finger_draws_and_a_second_takes_the_stroke_back(serve, own_browser):
    browser = own_browser
    server = serve(sketch_model())
    opened(browser, server)
    blank = drawn_image(color=(255, 255, 255))
    touch(browser, "Start", (4, 4))
    touch(browser, "Move", (20, 4))
    touch(browser, "Move", (20, 16))
    touch(browser, "End")
    expected = blank.copy()
    expected[4, 4:21] = expected[4:17, 20] = 0
    assert_drawn(browser, server, expected)
    touch(browser, "Start", (30, 4))
    touch(browser, "Move", (40, 20))
    touch(browser, "Start", (40, 20), (6, 28))
    touch(browser, "Move", (44, 24), (10, 30))
    touch(browser, "End")
    assert_drawn(browser, server, expected)
    np.testing.assert_array_equal(canvas_pixels(browser), expected)
    touch(browser, "Start", (30, 4))  # a stroke that the system ends stays
    touch(browser, "Move", (30, 9))
    touch(browser, "Cancel")
    expected[4:10, 30] = 0
    assert_drawn(browser, server, expected)


def test_a_pen_shuts_fingers_out_until_they_are_let_in(serve, own_browser):
    browser = own_browser
    server = serve(sketch_model())
    opened(browser, server)
    drag(browser, (4, 4), (20, 4), pointer="pen")
    expected = drawn_image(color=(255, 255, 255))
    expected[4, 4:21] = 0
    assert_drawn(browser, server, expected)
    assert browser.one("#pen").text.startswith("Drawing by pen: fingers are ignored.")
    touch(browser, "Start", (4, 10))
    touch(browser, "Move", (20, 10))
    touch(browser, "End")
    assert_drawn(browser, server, expected)
    browser.click("#pen-off")
    touch(browser, "Start", (4, 20))
    touch(browser, "Move", (20, 20))
    touch(browser, "End")
    expected[20, 4:21] = 0
    assert_drawn(browser, server, expected)
    assert not browser.one("#pen").is_displayed()


def test_a_pen_that_is_turned_round_erases(serve, browser):
    server = serve(sketch_model())
    opened(browser, server)
    choose(browser, size=20)
    drag(browser, (24, 16))
    x, y = screen_of(browser, 24, 16)
    before = drawn(browser, server)
    browser.run("""
      const [clientX, clientY] = arguments;
      const canvas = document.getElementById("canvas");
      canvas.setPointerCapture = () => null;
      for (const [name, buttons] of [["pointerdown", 32], ["pointerup", 0]]) {
        canvas.dispatchEvent(new PointerEvent(name, { pointerId: 9, pointerType: "pen", button: 5,
          buttons, clientX, clientY, bubbles: true }));
      }""", x, y)
    after = drawn(browser, server)
    erased = np.argwhere((after != before).any(-1))
    assert erased.min(0).tolist() == [9, 17] and erased.max(0).tolist() == [23, 31]  # 15 pixels
    assert (after[16, 24] == 255).all() and (after[24, 24] == 0).all()


def test_all_samples_of_a_pointer_are_drawn(serve, browser):
    """An event holds those since the last one; older browsers have no such list."""
    server = serve(sketch_model())
    opened(browser, server)
    start = screen_of(browser, 4, 4)
    samples = [screen_of(browser, *point) for point in ((4, 20), (20, 20), (20, 4))]
    expected = drawn_image(color=(255, 255, 255))
    expected[4:21, 4] = expected[20, 4:21] = expected[4:21, 20] = 0
    browser.run("""
      const [start, samples] = arguments;
      const canvas = document.getElementById("canvas");
      canvas.setPointerCapture = () => null;
      const event = (name, [clientX, clientY]) => new PointerEvent(name, { pointerId: 7,
        pointerType: "mouse", button: 0, buttons: 1, clientX, clientY, bubbles: true,
        coalescedEvents: name === "pointermove"
          ? samples.map((sample) => new PointerEvent(name, { clientX: sample[0],
            clientY: sample[1] })) : [] });
      canvas.dispatchEvent(event("pointerdown", start));
      canvas.dispatchEvent(event("pointermove", samples[2]));
      canvas.dispatchEvent(event("pointerup", samples[2]));""", start, samples)
    assert_drawn(browser, server, expected)


def test_drawing_by_keyboard_alone(serve, browser):
    from selenium.webdriver import ActionChains, Keys
    server = serve(model_of())
    opened(browser, server)
    browser.run("document.getElementById('canvas').focus()")
    browser.press("f", "4", Keys.ARROW_LEFT, Keys.SPACE)  # from the middle, 24, 16
    assert_drawn(browser, server, drawn_image(color=WINDOW))
    assert browser.texts("#spoken") == ["painted: 23, 16 window"]
    browser.press("r", "3", Keys.SPACE, *[Keys.ARROW_RIGHT] * 4, (Keys.SHIFT, Keys.ARROW_DOWN),
                  Keys.SPACE)
    expected = drawn_image(color=WINDOW)
    expected[16:27, 23:28] = DOOR
    assert_drawn(browser, server, expected)
    assert browser.texts("#readout") == ["27, 26 door"]
    browser.press(Keys.SPACE, Keys.ARROW_LEFT, Keys.ESCAPE)  # a rectangle that is cancelled
    browser.press("b", *["["] * 10, "2")
    assert browser.texts("#size-text") == ["1 px"]
    actions = ActionChains(browser.driver, duration=0).key_down(Keys.SPACE)
    for _ in range(3):
        actions.send_keys(Keys.ARROW_UP)
    actions.key_up(Keys.SPACE).perform()
    expected[23:27, 26] = WALL
    assert_drawn(browser, server, expected)
    browser.press(Keys.DELETE)
    assert_drawn(browser, server, drawn_image())
    browser.press((Keys.CONTROL, "z"), (Keys.CONTROL, "z"))  # the clearing, and the whole line
    expected[23:27, 26] = DOOR
    assert_drawn(browser, server, expected)


def test_labels_are_a_group_of_named_radio_buttons(serve, browser):
    opened(browser, serve(model_of()))
    nodes = browser.command("Accessibility.getFullAXTree")["nodes"]
    named = [(node["role"]["value"], node["name"]["value"]) for node in nodes
             if not node["ignored"] and node["role"]["value"] in ("radio", "radiogroup")]
    assert named == [("radiogroup", "Labels"), *(("radio", name) for name, _ in PALETTE)]
    colors = browser.run("""return [...document.querySelectorAll("#palette .swatch")].map(
      (swatch) => getComputedStyle(swatch).backgroundColor)""")
    assert colors == [f"rgb({', '.join(map(str, color))})" for _, color in PALETTE]


def test_the_keyboards_cursor_is_shown_once_the_canvas_has_the_focus(serve, browser):
    from selenium.webdriver import Keys
    opened(browser, serve(model_of()))
    for _ in range(30):
        browser.press(Keys.TAB)
        if browser.run("return document.activeElement.id") == "canvas":
            break
    assert browser.one("#cursor").is_displayed()
    assert browser.texts("#spoken") == ["24, 16 background"]
    browser.press(Keys.TAB)
    assert not browser.one("#cursor").is_displayed()


def test_fill_with_shift_takes_all_of_a_colour(serve, browser):
    """One step to undo; by the keyboard too."""
    from selenium.webdriver import Keys
    example = drawn_image()
    example[3:9, 3:9] = example[3:9, 30:40] = example[20:25, 5:8] = WINDOW
    server = serve(model_of(), facades=[to_png(example)])
    opened(browser, server)
    choose(browser, mode="fill", label="door")
    mouse(browser, "Pressed", (4, 4), modifiers=8)
    mouse(browser, "Released", (4, 4), modifiers=8)
    filled = np.where((example == WINDOW).all(-1, keepdims=True), np.uint8(DOOR), example)
    assert_drawn(browser, server, filled)
    browser.press((Keys.CONTROL, "z"))
    assert_drawn(browser, server, example)
    browser.run("document.getElementById('canvas').focus()")
    browser.press((Keys.SHIFT, Keys.SPACE))  # in the middle, on the background
    filled = np.where((example == BLUE).all(-1, keepdims=True), np.uint8(DOOR), example)
    assert_drawn(browser, server, filled)


# ---- kinds of models


def test_a_grey_model_gets_a_grey_file(serve, browser):
    photo = np.random.default_rng(2).integers(0, 256, (32, 48, 3), np.uint8)
    server = serve(photo_model("grey", channels=1), grey=[to_png(photo)])
    opened(browser, server)
    expected = np.asarray(Image.fromarray(photo).convert("L"))
    assert_drawn(browser, server, expected)
    np.testing.assert_array_equal(canvas_pixels(browser), np.stack([expected] * 3, -1))


@pytest.mark.parametrize(("kind", "most"), [(np.uint8, 200), (np.uint16, 1000)])
def test_a_model_of_indices_gets_indices(serve, browser, kind, most):
    """Examples are drawn in the palette's colours; what is posted are their indices."""
    indices = [0, 7, most, 30]
    palette = [{"name": name, "color": [*color], "index": index}
               for (name, color), index in zip(PALETTE, indices, strict=True)]
    example = np.array(indices, kind)[np.random.default_rng(3).integers(0, 4, (32, 48))]
    server = serve(model_of("labels", kind="labels", channels=1, indices=True, palette=palette,
                            type=np.dtype(kind).name), labels=[to_png(example)])
    opened(browser, server)
    assert_drawn(browser, server, example)
    assert of_png(server.posts[-1][2]).dtype == kind
    colors = np.array([color for _, color in PALETTE], np.uint8)
    places = np.searchsorted(np.sort(indices), example)
    np.testing.assert_array_equal(canvas_pixels(browser), colors[np.argsort(indices)][places])
    choose(browser, mode="rectangle", label="door")
    drag(browser, (3, 3), (9, 20))
    example[3:21, 3:10] = most
    assert_drawn(browser, server, example)


def test_a_label_file_that_cannot_be_drawn_is_sent_as_it_is(serve, browser, tmp_path):
    server = serve(model_of("labels", kind="labels"))
    opened(browser, server)
    assert browser.texts("#kinds button") == ["Labels", "File"]
    strange = np.full((32, 48, 3), 9, np.uint8)
    (tmp_path / "strange.png").write_bytes(to_png(strange))
    browser.one("#file").send_keys(str(tmp_path / "strange.png"))
    assert_drawn(browser, server, strange)
    assert server.posts[-1][2] == to_png(strange)
    assert browser.one("#readout").text == "strange.png, sent as it is"
    assert not browser.one("#canvas").is_displayed()
    drag_before = len(server.posts)
    browser.click("#undo")
    assert_drawn(browser, server, drawn_image())
    assert browser.one("#canvas").is_displayed() and len(server.posts) == drag_before
    fit = np.broadcast_to(np.array(WALL, np.uint8), (32, 48, 3))  # of the palette alone: drawn on
    (tmp_path / "fit.png").write_bytes(to_png(fit))
    browser.one("#file").send_keys(str(tmp_path / "fit.png"))
    assert_drawn(browser, server, fit)
    assert browser.one("#canvas").is_displayed()


def test_files_of_values_are_sent_as_they_are(serve, browser, tmp_path):
    """Shown as the server shows them; the result can be had in its own units."""
    values = np.linspace(0, 1, 32 * 48, dtype=np.float32).reshape(32, 48)
    file = io.BytesIO()
    np.save(file, values)
    model = photo_model("depth", kind="values", type="float32", file="npy", channels=1)
    model["outputs"].update(kind="values", type="float32", file="npy", range=[0, 1])
    server = serve(model, depth=[])
    browser.open(server.url)
    assert wait_for_state(browser, "ready") == "Ready: open a file."
    assert browser.one("#empty").is_displayed() and not browser.all("#kinds button")[1:]
    (tmp_path / "a.npy").write_bytes(file.getvalue())
    browser.one("#file").send_keys(str(tmp_path / "a.npy"))
    wait_until_done(browser)
    assert server.posts == [("/depth?show=output", "application/octet-stream", file.getvalue())]
    np.testing.assert_array_equal(result_pixels(browser)[..., 0], np.uint8((1 - values) * 255))
    browser.wait("document.getElementById('file-view').naturalWidth === 48")
    assert browser.one("#save-own").text == "Download values"
    (name, contents), = save_by(browser, "#save-own").items()
    assert name == "depth-output.npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(contents)), 1 - values)


def test_inputs_side_by_side_are_named_and_kept_apart(serve, browser, tmp_path):
    server = serve(photo_model("two", count=2, tool="brush"))
    opened(browser, server)
    assert browser.texts("#parts span") == ["Input 1", "Input 2"]
    choose(browser, size=8)
    drag(browser, (40, 16), (60, 16))  # a stroke stays in the input in which it began
    image = drawn(browser, server)
    assert image.shape == (32, 96, 3)
    assert (image[16, 40:48] == 0).all() and (image[:, 48:] == 255).all()
    choose(browser, mode="fill")
    drag(browser, (90, 3))
    image = drawn(browser, server)
    assert (image[:, 48:] == 0).all() and (image[0, :48] == 255).all()
    left = np.random.default_rng(5).integers(0, 256, (32, 48, 3), np.uint8)
    (tmp_path / "left.png").write_bytes(to_png(left))
    browser.one("#file").send_keys(str(tmp_path / "left.png"))
    image = drawn(browser, server)
    np.testing.assert_array_equal(image[:, :48], left)
    assert (image[:, 48:] == 0).all()


# ---- images that are brought


def transfer(browser, event, contents, *, name="a.png", kind="image/png", at=(24, 16)):
    """Drops or pastes a file."""
    x, y = screen_of(browser, *at)
    browser.run("""
      const [event, contents, name, type, clientX, clientY] = arguments;
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(contents)], name, { type }));
      const target = document.getElementById("canvas");
      const options = { bubbles: true, cancelable: true, clientX, clientY };
      if (event === "paste") {
        target.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: transfer }));
      } else {
        for (const name of ["dragover", "drop"]) {
          target.dispatchEvent(new DragEvent(name, { ...options, dataTransfer: transfer }));
        }
      }""", event, [*contents], name, kind, x, y)


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_photo_is_cropped_and_never_stretched(serve, browser, event):
    """Of 96x96 the middle 96x64 is seen, at half its size: blocks of 2x2 keep their colours."""
    server = serve(photo_model())
    opened(browser, server)
    blocks = np.random.default_rng(7).integers(0, 256, (48, 48, 3), np.uint8)
    transfer(browser, event, to_png(np.kron(blocks, np.ones((2, 2, 1), np.uint8))))
    assert_drawn(browser, server, blocks[8:40])
    drag(browser, (24, 10), (24, 13))  # the photo moves with the pointer
    assert_drawn(browser, server, blocks[5:37])
    drag(browser, (24, 3), (24, 30))  # to its end
    assert_drawn(browser, server, blocks[:32])
    browser.run("""const range = document.getElementById("zoom");
      range.value = 2;
      for (const name of ["input", "change"]) range.dispatchEvent(new Event(name));""")
    # at its own size: a quarter of what was seen, from the middle of the width and the top
    assert_drawn(browser, server, np.kron(blocks[:16, 12:36], np.ones((2, 2, 1), np.uint8)))
    browser.click("#undo")
    assert_drawn(browser, server, drawn_image(color=(255, 255, 255)))


def test_a_photo_is_turned_the_right_way_up(serve, browser):
    """By its EXIF orientation; a JPEG of few colours in large blocks is nearly what was saved."""
    server = serve(photo_model())
    opened(browser, server)
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:32, :48], upright[:32, 48:] = (200, 30, 30), (30, 200, 30)
    upright[32:, :48] = (9, 9, 200)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    file = io.BytesIO()
    Image.fromarray(np.rot90(upright)).save(file, "JPEG", quality=95, exif=exif)
    transfer(browser, "drop", file.getvalue(), name="a.jpg", kind="image/jpeg")
    browser.wait("!document.getElementById('undo').disabled")
    difference = np.abs(drawn(browser, server).astype(int) - upright[::2, ::2])
    assert difference.mean() < 5


def test_every_kind_of_png_is_read_exactly(serve, browser):
    """Filters, bit depths, palettes: our own reader against Pillow's."""
    opened(browser, serve(photo_model()))
    rng = np.random.default_rng(8)
    smooth = np.cumsum(rng.integers(0, 3, (37, 53, 3)), 1).astype(np.uint8)  # has all filters
    images = {"rgb": Image.fromarray(smooth), "grey": Image.fromarray(smooth[..., 0]),
              "1 bit": Image.fromarray(smooth[..., 0] > 50), "16 bits":
              Image.fromarray(rng.integers(0, 65536, (5, 7), np.uint16)),
              "palette": Image.fromarray(smooth).quantize(9)}
    for name, image in images.items():
        file = io.BytesIO()
        image.save(file, "PNG")
        found = browser.driver.execute_async_script("""
          const [bytes, done] = arguments;
          readPng(Uint8Array.from(bytes)).then((image) => done(
            { ...image, samples: [...image.samples] }));""", [*file.getvalue()])
        expected = np.asarray(image.convert("RGB") if name == "palette" else image)
        assert (found["width"], found["height"]) == image.size, name
        np.testing.assert_array_equal(found["samples"], expected.astype(int).ravel(), name)
    for broken in (b"GIF89a", to_png(smooth)[:60], to_png(np.dstack([smooth, smooth[..., :1]]))):
        assert browser.driver.execute_async_script(
            "readPng(Uint8Array.from(arguments[0])).then(arguments[1])", [*broken]) is None


def test_what_is_no_image_is_reported(serve, browser):
    server = serve(photo_model())
    opened(browser, server)
    transfer(browser, "drop", b"no image", name="<b>notes</b>.txt", kind="text/plain")
    browser.wait("document.getElementById('message').textContent !== ''")
    assert browser.texts("#message") == ["<b>notes</b>.txt cannot be read as an image."]
    assert server.posts == []


def test_the_camera_takes_a_photo(serve, browser_of):
    """Chromium's fake camera shows a moving pie on green; the photo is as large as the canvas."""
    browser = browser_of(1, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    server = serve(photo_model())
    opened(browser, server)
    browser.click("#camera-open")
    browser.wait("document.getElementById('camera').open"
                 " && !document.getElementById('camera-take').disabled")
    browser.click("#camera-take")
    browser.wait("!document.getElementById('camera').open && loop.changes === 2")
    image = drawn(browser, server)
    assert image.shape == (32, 48, 3) and len(np.unique(image.reshape(-1, 3), axis=0)) > 1
    assert browser.run("return camera.stream === null")  # it is off again


def test_without_a_camera_a_photo_is_a_file(serve, browser):
    """As on http://192.168.0.1, where browsers have no camera for a page."""
    opened(browser, serve(photo_model()))
    browser.run("""Camera.isAllowed = () => false;
      document.getElementById("capture").click = () => { window.captured = true; };""")
    browser.click("#camera-open")
    assert browser.run("return window.captured")
    assert browser.texts("#message")[0].startswith("Browsers give pages a camera on https and on")


@pytest.mark.parametrize(("make", "words"), [(model_of, "label maps"), (sketch_model, "drawings")])
def test_a_photo_for_a_model_of_drawings_is_reported(serve, browser, make, words):
    """It can be moved as for other models; a drawing in a file is drawn on."""
    from selenium.webdriver import Keys
    server = serve(make("a"))
    opened(browser, server)
    drawing = drawn_image(color=(0, 0, 170) if make is model_of else (255, 255, 255))
    drawing[4:20, 4:20] = WALL if make is model_of else 0
    transfer(browser, "drop", to_png(drawing))
    assert_drawn(browser, server, drawing)
    assert browser.texts("#message") == [""] and browser.one("#modes").is_displayed()
    photo = np.random.default_rng(12).integers(0, 256, (64, 96, 3), np.uint8)
    transfer(browser, "paste", to_png(photo))
    browser.wait("document.getElementById('message').textContent")
    assert browser.texts("#message") == [
        f"A photo: this model was taught with {words}, so the result may be poor."]
    assert browser.one("#zoom").is_displayed()
    browser.click("#clear")
    assert browser.texts("#message") == [""]
    browser.press((Keys.CONTROL, "z"), (Keys.CONTROL, "z"), (Keys.CONTROL, "z"))
    assert browser.one("#modes").is_displayed()  # what was there before can be drawn on


# ---- the live loop


def wait_for_posts(browser, server, count):
    """Waits until a server has got so many requests for results."""
    end = time.monotonic() + WAIT
    while len(server.posts) < count and time.monotonic() < end:
        browser.settle()
    assert len(server.posts) == count


def test_one_request_at_a_time_and_the_newest_wins(serve, browser):
    server = serve(sketch_model())
    opened(browser, server)
    server.close_gate()
    for x in (5, 10, 15, 20):  # the first is sent, of the others the last alone
        drag(browser, (x, 2), (x, 20))
        wait_for_posts(browser, server, 1)
    assert wait_for_state(browser, "working") == "Working…"
    assert browser.one("#result").get_attribute("aria-busy") == "true"
    server.gate.set()
    image = drawn(browser, server)
    assert len(server.posts) == 2 and server.most_in_flight == 1
    assert all((image[2:21, x] == 0).all() for x in (5, 10, 15, 20))
    np.testing.assert_array_equal(result_pixels(browser), 255 - image)


def test_results_come_in_the_middle_of_a_stroke(serve, browser):
    server = serve(sketch_model())
    opened(browser, server)
    browser.run("loop.latency = 0;")  # however busy this machine is
    mouse(browser, "Moved", (5, 5))
    mouse(browser, "Pressed", (5, 5))
    wait_for_posts(browser, server, 1)
    browser.wait("!loop.isBusy")
    browser.run("loop.latency = 0;")
    mouse(browser, "Moved", (20, 5))
    wait_for_posts(browser, server, 2)
    assert (server.drawn()[5, 5:21] == 0).all()
    browser.wait("!loop.isBusy")
    browser.run("loop.latency = 5000;")  # of a slow model only the stroke's end is sent
    mouse(browser, "Moved", (30, 5))
    browser.settle()
    assert len(server.posts) == 2
    mouse(browser, "Released", (30, 5))
    assert (drawn(browser, server)[5, 5:31] == 0).all() and len(server.posts) == 3


def test_an_unchanged_drawing_is_not_sent_again(serve, browser):
    server = serve(sketch_model(), sketch=[to_png(drawn_image())])
    opened(browser, server)
    browser.click("#gallery button")  # which is open already
    wait_until_done(browser)
    browser.click("#run")
    wait_until_done(browser)
    assert len(server.posts) == 1


def test_without_live_results_come_by_run(serve, browser):
    from selenium.webdriver import Keys
    server = serve(sketch_model())
    opened(browser, server)
    browser.click("#live")
    drag(browser, (5, 3))
    assert wait_for_state(browser, "stale") == "Press Run for the result."
    browser.click("#run")
    wait_until_done(browser)
    drag(browser, (5, 5), (20, 5))
    assert wait_for_state(browser, "stale") == "The result is older than the drawing: press Run."
    drag(browser, (5, 9), (20, 9))
    assert len(server.posts) == 1
    browser.click("#run")
    assert (drawn(browser, server)[[5, 9], 5:21] == 0).all() and len(server.posts) == 2
    drag(browser, (5, 12), (20, 12))
    browser.press("l")  # live again: what has been drawn is sent
    assert (drawn(browser, server)[12, 5:21] == 0).all() and len(server.posts) == 3
    browser.press("l")
    drag(browser, (5, 14), (20, 14))
    browser.press(Keys.ENTER)
    assert (drawn(browser, server)[14, 5:21] == 0).all() and len(server.posts) == 4


def test_an_answer_of_another_model_is_not_shown(serve, browser):
    """It arrives after the other has been chosen; the drawing, of the same kind, is kept."""
    from selenium.webdriver.support.ui import Select
    server = serve(sketch_model("one"), sketch_model("two"), photo_model("three"))
    opened(browser, server)
    server.close_gate()
    drag(browser, (5, 5), (20, 5))
    wait_for_posts(browser, server, 1)
    browser.run("""window.shown = [];
      new MutationObserver(() => window.shown.push(document.getElementById("output").src)).observe(
        document.getElementById("output"), { attributeFilter: ["src"] });""")
    Select(browser.one("#model")).select_by_visible_text("two")
    assert not browser.one("#output").is_displayed()
    server.gate.set()
    image = drawn(browser, server)
    assert [address for address, *_ in server.posts] == ["/one", "/two"]
    assert (image[5, 5:21] == 0).all()
    np.testing.assert_array_equal(result_pixels(browser), 255 - image)
    assert browser.one("#output").get_attribute("alt") == "What two makes of the drawing"
    assert len(set(filter(None, browser.run("return window.shown")))) == 1
    assert server.most_in_flight == 1


def test_a_drawing_is_scaled_for_a_model_of_another_size(serve, browser):
    from selenium.webdriver.support.ui import Select
    server = serve(model_of("one"), model_of("two", width=96, height=64),
                   sketch_model("three", width=20, height=20))
    opened(browser, server)
    choose(browser, mode="rectangle", label="door")
    drag(browser, (10, 6), (20, 16))
    small = drawn(browser, server)
    Select(browser.one("#model")).select_by_visible_text("two")
    assert_drawn(browser, server, np.kron(small, np.ones((2, 2, 1), np.uint8)))
    Select(browser.one("#model")).select_by_visible_text("three")  # takes other drawings
    assert_drawn(browser, server, drawn_image(20, 20, (255, 255, 255)))
    Select(browser.one("#model")).select_by_visible_text("one")  # what was drawn for it
    assert_drawn(browser, server, small)


def test_a_newer_checkpoint_is_reported_and_run(serve, browser):
    server = serve(sketch_model(step=400))
    opened(browser, server)
    drag(browser, (5, 5))
    wait_until_done(browser)
    assert browser.one("#step").text == "step 400"
    assert re.fullmatch(r"step 400, [0-9]+ ms \(model 7 ms\)", browser.one("#timing").text)
    server.models[0] = {**server.models[0], "step": 4000}
    browser.run("poll()")
    wait_for_posts(browser, server, 2)
    wait_until_done(browser)
    assert browser.one("#message").text == "A newer checkpoint has arrived: step 4,000."
    assert browser.one("#step").text == "step 4,000"
    assert browser.one("#timing").text.startswith("step 4,000, ")


# ---- what goes wrong


REFUSED = "Failed to load resource"


def test_a_server_that_is_gone_and_comes_back(serve, browser):
    """Drawing goes on; when the server is back, the newest drawing is sent."""
    server = serve(sketch_model())
    opened(browser, server)
    drag(browser, (5, 3))
    wait_until_done(browser)
    browser.expected = [REFUSED]
    server.stop()
    drag(browser, (5, 5), (20, 5))
    assert wait_for_state(browser, "gone") == (
        "The server does not answer. Keep drawing; the page keeps trying.")
    assert browser.one("#output").is_displayed() and not browser.one("#run").is_enabled()
    drag(browser, (5, 9), (20, 9))
    browser.run("poll()")
    assert wait_for_state(browser, "gone")
    server.start()
    browser.run("poll()")
    wait_for_posts(browser, server, 2)
    assert (drawn(browser, server)[[5, 9], 5:21] == 0).all()


def test_a_busy_server_is_asked_again(serve, browser):
    server = serve(sketch_model())
    opened(browser, server)
    browser.expected = [REFUSED]
    server.failures = [(503, "the queue is full", {"Retry-After": "3"})]
    drag(browser, (5, 5), (20, 5))
    assert wait_for_state(browser, "busy") == "The server is busy. Trying again in a moment…"
    drag(browser, (5, 9), (20, 9))
    wait_for_posts(browser, server, 2)
    assert (drawn(browser, server)[[5, 9], 5:21] == 0).all() and server.most_in_flight == 1


@pytest.mark.parametrize(("status", "error", "shown"), [
    (400, '<img src=x onerror="document.title=1"> is no image', None),
    (504, "facades took longer than 30 seconds", None),
    (500, {"not": "a text"}, "The server answers with the status 500.")])
def test_errors_are_shown_as_text(serve, browser, status, error, shown):
    """The next change is sent as ever."""
    server = serve(sketch_model())
    opened(browser, server)
    drag(browser, (5, 3))
    wait_until_done(browser)
    browser.expected = [REFUSED]
    server.failures = [(status, error, {})]
    choose(browser, mode="fill")
    drag(browser, (5, 5))
    assert wait_for_state(browser, "error") == (shown or error)
    assert browser.run("return document.title") == "Draw" and browser.one("#output").is_displayed()
    browser.click("#undo")
    wait_until_done(browser)
    assert len(server.posts) == 2  # the drawing of the result that is shown is not sent again
    browser.click("#redo")
    wait_until_done(browser)
    assert len(server.posts) == 3


def test_names_are_shown_as_text(serve, browser):
    name = '<img src=x onerror="document.title=1">&amp;/?#'
    palette = [{"name": name, "color": [1, 2, 3], "index": None},
               {"name": "b", "color": [4, 5, 6], "index": None}]
    model = model_of(name, palette=palette)
    model["outputs"]["legend"] = palette
    server = serve(model, **{name: [to_png(drawn_image(color=(4, 5, 6)))]})
    opened(browser, server)
    assert (drawn(browser, server) == (4, 5, 6)).all() and server.posts[-1][0] == f"/{name}"
    assert browser.texts("#model option") == [name] == browser.texts("#palette .name")[:1]
    assert browser.texts("#legend dd")[0] == name and len(browser.all("img")) == 4
    assert browser.run("return document.title") == "Draw"


def test_nothing_is_asked_for_before_there_is_a_drawing(serve, browser):
    server = serve(sketch_model(), sketch=[])
    browser.open(server.url)
    assert wait_for_state(browser, "ready") == "Ready: draw."
    assert server.posts == [] and not browser.one("#examples").is_displayed()
    assert browser.one("#empty").text == "Draw here"
    assert browser.one("#hint").text == (
        "Draw dark shapes on white; this model's examples are not stored with it.")
    assert browser.one("#waiting").text == "The result appears here while you draw."
    drag(browser, (5, 5), (20, 5))
    assert (drawn(browser, server)[5, 5:21] == 0).all()
    assert not browser.one("#empty").is_displayed()
    browser.click("#clear")
    wait_until_done(browser)
    assert browser.one("#waiting").is_displayed() and not browser.one("#output").is_displayed()
    browser.click("#undo")  # of the same drawing as before, and its result is there again
    browser.wait("document.getElementById('state').dataset.state === 'done'")
    assert browser.one("#output").is_displayed() and not browser.one("#waiting").is_displayed()


def test_no_models_and_a_model_that_is_loaded_are_reported(serve, browser):
    server = serve()
    browser.open(server.url)
    browser.wait("document.getElementById('state').textContent.startsWith('There is no model')")
    server.models = [{**sketch_model(), "state": "LOADING", "examples": 0}]
    browser.run("poll()")
    browser.wait("document.getElementById('state').textContent === 'sketch is being loaded…'")
    drag(browser, (5, 5), (20, 5))  # in the meantime
    assert server.posts == []
    server.models = [{**sketch_model(), "examples": 0}]
    browser.run("poll()")
    wait_for_posts(browser, server, 1)
    assert (drawn(browser, server)[5, 5:21] == 0).all()


# ---- sharing


def test_a_link_restores_the_exact_pixels(serve, browser):
    server = serve(sketch_model("other"), model_of(), facades=[to_png(drawn_image())])
    opened(browser, server, "model=facades")
    choose(browser, label="window", size=5)
    drag(browser, (5, 5), (40, 25))
    image = drawn(browser, server)
    browser.click("#share")
    link = browser.wait("document.getElementById('share-link').value")
    address, state = link.split("#")
    assert address == server.url and re.fullmatch(r"model=facades&drawing=[\w-]+", state)
    opened(browser, server, state)
    assert_drawn(browser, server, image)
    assert browser.one("#model").get_attribute("value") == "facades"
    np.testing.assert_array_equal(canvas_pixels(browser), image)
    browser.show("model=facades&drawing=iVBORw0KGgo")
    browser.wait("document.getElementById('message').textContent.startsWith('The link')")
    assert browser.texts("#message") == ["The link's drawing is damaged: perhaps the link was cut."]


def wait_until_kept(browser, image):
    """Waits until a drawing is kept for its tab."""
    end = time.monotonic() + WAIT
    while browser.driver.execute_async_script("""
          const kept = keptState()?.get("drawing");
          if (!kept) return arguments[0](null);
          readPng(fromBase64Url(kept)).then(({ samples }) => arguments[0]([...samples]))""") \
            != image.ravel().tolist():
        assert time.monotonic() < end


def test_a_drawing_is_there_again_after_a_reload_and_on_the_way_back(serve, browser):
    server = serve(sketch_model("other"), model_of())
    opened(browser, server)
    browser.run("document.getElementById('model').value = 'facades';"
                "document.getElementById('model').dispatchEvent(new Event('change'));")
    wait_until_done(browser)
    choose(browser, label="window", size=5)
    drag(browser, (5, 5), (40, 25))
    image = drawn(browser, server)
    wait_until_kept(browser, image)
    browser.driver.refresh()
    browser.wait("state.models")
    assert_drawn(browser, server, image)
    assert browser.one("#api").get_attribute("href") == f"{server.url}api#model=facades"
    browser.expected = [REFUSED]  # the server of this test has no such page
    browser.click("#api")
    browser.wait("location.pathname === '/api'")
    browser.driver.back()
    browser.wait("location.pathname === '/' && state.models")
    assert_drawn(browser, server, image)
    browser.run("Storage.prototype.setItem = () => { throw new Error('full'); };")
    choose(browser, mode="fill")
    drag(browser, (40, 5))
    browser.wait("!keptState()")
    browser.driver.refresh()  # nothing rather than an older drawing
    browser.wait("state.models")
    wait_until_done(browser)
    assert (canvas_pixels(browser) == 255).all()


@pytest.mark.parametrize(("state", "message"), [
    ("model=gone", "The link is for the model gone, which is not served here."),
    ("model=facades&drawing=iVBOR%", "The link's drawing is damaged: perhaps the link was cut.")])
def test_a_link_that_cannot_be_followed_is_reported(serve, browser, state, message):
    """The first example is opened instead."""
    server = serve(model_of())
    opened(browser, server, state)
    browser.wait("document.getElementById('message').textContent")
    assert browser.texts("#message") == [message]
    assert_drawn(browser, server, drawn_image())


def test_a_link_that_is_too_long_is_reported(serve, browser):
    noise = np.random.default_rng(9).integers(0, 256, (256, 256, 3), np.uint8)
    server = serve(photo_model(width=256, height=256), photo=[to_png(noise)])
    opened(browser, server)
    browser.click("#share")
    browser.wait("document.getElementById('share-dialog').open")
    assert re.fullmatch(
        r"This drawing needs a link of 26\d,\d{3} characters, and many programs cut links beyond "
        r"60,000. Share it as a file.", browser.one("#share-text").text)
    assert not browser.one("#share-link").is_displayed()
    (name, contents), = save_by(browser, "#share-file").items()
    assert name == "photo-input.png"
    np.testing.assert_array_equal(of_png(contents), noise)


def test_drawing_and_result_can_be_saved(serve, browser):
    server = serve(sketch_model())
    opened(browser, server)
    drag(browser, (5, 5), (20, 5))
    image = drawn(browser, server)
    files = save_by(browser, "#save-input", "#save-shown")
    np.testing.assert_array_equal(of_png(files["sketch-input.png"]), image)
    np.testing.assert_array_equal(of_png(files["sketch-output.png"]), 255 - image)


# ---- examples, views, looks


def test_the_page_opens_with_an_example_and_offers_others(serve, browser):
    images = [drawn_image(color=color) for color in (WINDOW, WALL, DOOR)]
    server = serve(model_of(), facades=[*map(to_png, images)])
    opened(browser, server)
    assert_drawn(browser, server, images[0])
    assert browser.run("return [...document.querySelectorAll('#gallery img')].map("
                       "(image) => image.alt)") == ["Example 1", "Example 2", "Example 3"]
    browser.click("#gallery button", 2)
    assert_drawn(browser, server, images[2])
    assert browser.texts("#spoken") == ["Opened: example 3."]
    browser.press("x")  # another than that
    wait_for_posts(browser, server, 3)
    assert any(np.array_equal(server.drawn(), image) for image in images[:2])


def test_the_result_lies_over_the_drawing(serve, browser):
    """Right of where the slider is, and strokes go through it."""
    server = serve(sketch_model(width=64, height=64))
    opened(browser, server)
    drag(browser, (40, 50))
    wait_until_done(browser)
    browser.press("v")
    browser.run("""const range = document.getElementById("reveal");
      range.value = 25; range.dispatchEvent(new Event("input"));""")
    image = browser.pixels()
    for x, expected in ((4, 255), (12, 255), (20, 0), (60, 0)):
        column, row = (round(value) for value in screen_of(browser, x, 30))
        assert (image[row, column] == expected).all()
    drag(browser, (40, 10), (50, 10))
    assert (drawn(browser, server)[10, 40:51] == 0).all()
    browser.click('#views [data-value="beside"]')
    assert browser.one("#output").is_displayed() and not browser.one("#over").is_displayed()


def middle_of(browser, selector):
    """The middle of an element, in the window."""
    return browser.run("""const box = document.querySelector(arguments[0]).getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2];""", selector)


@pytest.mark.parametrize("pointer", ["mouse", "pen", "touch"])
def test_the_line_is_dragged_by_its_grip(serve, browser, pointer):
    """It never paints, and the slider's thumb, 16 pixels wide, stays below it."""
    server = serve(sketch_model(width=64, height=64), sketch=[to_png(drawn_image(64, 64))])
    opened(browser, server)
    before = middle_of(browser, '#views [data-value="over"]')
    browser.click('#views [data-value="over"]')
    assert middle_of(browser, '#views [data-value="over"]') == before
    left, _ = screen_of(browser, -0.5, 0)
    right, _ = screen_of(browser, 63.5, 0)
    x, y = middle_of(browser, "#grip")
    assert abs(x - (left + right) / 2) < 1
    places = [(x, y), (x, y), (x - 40, y + 9), (left + (right - left) / 4, y)]
    for index, (to_x, to_y) in enumerate([*places, places[-1]]):
        kind = ("Moved", "Pressed", "Moved", "Moved", "Released")[index]
        if pointer != "touch":
            browser.command("Input.dispatchMouseEvent", type=f"mouse{kind}", x=to_x, y=to_y,
                            button="left", buttons=int(kind != "Released" and index > 0),
                            clickCount=1, pointerType=pointer)
        elif index:
            kind = {"Pressed": "Start", "Moved": "Move", "Released": "End"}[kind]
            points = [] if kind == "End" else [{"x": to_x, "y": to_y, "id": 1}]
            browser.command("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=points)
    browser.wait("Math.abs(document.getElementById('reveal').value - 25) < 1")
    assert abs(middle_of(browser, "#grip")[0] - places[-1][0]) < 2
    assert abs(browser.run("""const range = document.getElementById("reveal");
      const box = range.getBoundingClientRect();
      return box.left + 8 + range.value / 100 * (box.width - 16);""") - places[-1][0]) < 2
    np.testing.assert_array_equal(canvas_pixels(browser), drawn_image(64, 64))
    assert not browser.one("#undo").is_enabled()


def test_the_palette_stays_where_it_is(serve, browser):
    """With a tool that has no size too, whose slider is off."""
    opened(browser, serve(model_of()))
    places = set()
    for mode in ("brush", "eraser", "rectangle", "fill"):
        choose(browser, mode=mode)
        places.add(tuple(middle_of(browser, "#palette label")))
        assert browser.one("#size").is_enabled() == (mode in ("brush", "eraser"))
    assert len(places) == 1


@pytest.mark.parametrize(("size", "text"), [
    ((1024, 768), 100), ((1280, 720), 100), ((1366, 700), 100), ((900, 700), 100),
    ((768, 1024), 100), ((1920, 1080), 200), ((1280, 800), 200)])
def test_drawing_and_result_are_level(serve, browser, size, text):
    """And so are the buttons below them, where they fit in a row. text: size in percent."""
    example = drawn_image(64, 64)
    server = serve(model_of("a" * 20, width=64, height=64), model_of("b"),
                   **{"a" * 20: [to_png(example)] * 3})
    opened(browser, server, size=size)
    browser.run("document.documentElement.style.fontSize = `${arguments[0]}%`", text)
    choose(browser, mode="fill", label="door")
    drag(browser, (5, 5))
    wait_until_done(browser)
    browser.settle()
    tops = browser.run("""return [["#stage", "#output-box"], ["#undo", "#share", "#save-input"],
      ["#run", "#save-shown"]].map((selectors) => selectors.map((selector) => Math.round(
        document.querySelector(selector).getBoundingClientRect().top)));""")
    rows = tops if text == 100 else tops[:1]
    assert all(len(set(row)) == 1 for row in rows), rows


def test_on_a_phone_all_is_large_enough_and_stays(serve, own_browser):
    """The canvas is as wide as the panel, and neither state nor message moves it."""
    browser, example = own_browser, drawn_image(64, 64, WALL)
    server = serve(model_of(width=64, height=64), facades=[to_png(example)])
    opened(browser, server, size=(400, 800))
    boxes = browser.run("""return ["#tools", "#canvas", "#palette label", "#undo"].map(
      (selector) => document.querySelector(selector).getBoundingClientRect().toJSON());""")
    tools, canvas, label, undo = boxes
    assert abs(canvas["left"] - tools["left"]) < 2 and abs(canvas["width"] - tools["width"]) < 2
    assert label["height"] >= 32 and undo["height"] >= 32 and undo["width"] >= 32
    browser.expected = [REFUSED]
    server.stop()
    browser.run("poll()")
    wait_for_state(browser, "gone")
    browser.click("#gallery button")
    browser.wait("document.getElementById('message').textContent")
    assert browser.texts("#message") == [
        "Example 1 cannot be loaded: the server does not answer."]
    place = browser.run("return document.getElementById('canvas').offsetTop + "
                        "document.getElementById('stage').getBoundingClientRect().top + scrollY")
    assert place == canvas["top"]
    server.start()


def test_the_window_shows_exactly_the_pixels(serve, browser):
    """Enlarged by a whole number, no two colours are mixed."""
    example = np.random.default_rng(4).integers(0, 2, (64, 64, 1)).repeat(3, 2).astype(np.uint8)
    example *= 255
    server = serve(sketch_model(width=64, height=64), sketch=[to_png(example)])
    opened(browser, server)
    image = browser.pixels()
    box = browser.run("""const box = document.getElementById("canvas").getBoundingClientRect();
      return [box.left, box.top, box.width];""")
    left, top, width = map(round, box)
    factor, rest = divmod(width, 64)
    assert rest == 0 and factor >= 4
    shown = image[top + 4:top + width - 4, left + 4:left + width - 4]  # without its round corners
    expected = np.kron(example, np.ones((factor, factor, 1), int))[4:-4, 4:-4]
    assert np.mean(np.any(shown != expected, -1)) < 0.01


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [(400, 800), (1920, 1080)])
@pytest.mark.parametrize("make", [model_of, sketch_model, photo_model])
def test_the_page_can_be_read_and_used(serve, browser, make, size, dark):
    """No horizontal scrolling, enough contrast, names and sizes of all controls."""
    example = np.random.default_rng(6).integers(0, 256, (32, 48, 3), np.uint8)
    server = serve(make("a"), make("b"), a=[to_png(example)] * 5)
    opened(browser, server, size=size, dark=dark)
    browser.settle()
    assert browser.run("return document.documentElement.scrollWidth") <= size[0]
    assert browser.low_contrasts() == [] and browser.unnamed() == []
    small = browser.run("""
      return [...document.querySelectorAll("button, select, a, input")].filter((node) => {
        const box = (node.closest("label") || node).getBoundingClientRect();
        return node.checkVisibility() && box.width && (box.width < 24 || box.height < 24);
      }).map((node) => node.outerHTML);""")
    assert small == []
    for opener, dialog in (("#share", "share-dialog"), ("#help", "keys")):
        browser.click(opener)
        browser.wait(f"document.getElementById('{dialog}').open")
        assert browser.low_contrasts() == [] and browser.unnamed() == []
        browser.run(f"document.getElementById('{dialog}').close()")


def axe_violations(browser):
    """What axe-core finds."""
    return browser.driver.execute_async_script("""
      const done = arguments[0];
      axe.run().then(({ violations }) => done(violations.map(({ id, nodes }) => [
        id, nodes.map(({ html, failureSummary }) => html + failureSummary)])));""")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("make", [model_of, sketch_model, photo_model])
def test_axe_finds_nothing(serve, browser, make, dark):
    package = pytest.importorskip("axe_core_python")
    opened(browser, serve(make("a"), make("b")), size=(400, 800), dark=dark)
    browser.run(Path(package.__file__).with_name("axe.min.js").read_text(encoding="utf-8"))
    assert axe_violations(browser) == []
    browser.press("v")
    assert axe_violations(browser) == []
    for opener, dialog in (("#share", "share-dialog"), ("#help", "keys")):
        browser.click(opener)
        browser.wait(f"document.getElementById('{dialog}').open")
        assert axe_violations(browser) == []
        browser.run(f"document.getElementById('{dialog}').close()")


def test_the_page_is_strict_html():
    html5lib = pytest.importorskip("html5lib")
    html5lib.HTMLParser(strict=True).parse(render_drawing("Draw").decode())


def test_the_real_server_draws(browser, tiny):
    """tools/serve.py with a model: the result that is shown is what it answers to the drawing."""
    command = [*PROGRAM, "--model", str(tiny / "whole"), "--port", "0"]
    with start_process(command) as (_, port):
        address = f"http://127.0.0.1:{port}/"
        browser.open(address)
        wait_until_done(browser)
        choose(browser, kind="brush", size=6)
        drag(browser, (10, 10), (40, 30))
        wait_until_done(browser)
        width, height = browser.run("return [state.pixels.width, state.pixels.height]")
        image = canvas_pixels(browser)
        assert image.shape == (height, width, 3) and (image[10, 10] == 0).all()
        request = urllib.request.Request(f"{address}whole", to_png(image),
                                         {"Content-Type": "image/png"})
        with urllib.request.urlopen(request, timeout=WAIT) as answer:
            np.testing.assert_array_equal(result_pixels(browser), of_png(answer.read()))
        browser.driver.get("about:blank")  # its page would ask a server that has ended
