"""Models over HTTP: their page, images in and out, and TensorFlow Serving's REST API.

An application of FastAPI (docs/serving.md). Who may ask is checked before anything else; models
compute in threads of their own, one image at a time in each, behind a queue that refuses what it
cannot hold. Nothing is written to disk, and nothing of a request names a file.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import ipaddress
import json
import secrets
import threading
import time
import urllib.parse
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tools.lib import rest_predict
from tools.lib.cli import RunError, UserError, describe_error, printable
from tools.lib.served_models import media_type
from tools.lib.stored import TooLargeError
from tools.lib.tf1 import tf

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
TOKEN_COOKIE = "pix2pix_token"
HEADERS = [  # of every answer
    (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"), (b"cache-control", b"no-store")]
LEFT = 499  # status of a request whose client has gone, as nginx calls it; nobody reads it
IMAGE = {"schema": {"type": "string", "format": "binary"}}  # for OpenAPI
ERRORS = {status: {"description": "an error, in one line", "content": {"application/json": {
    "schema": {"type": "object", "properties": {"error": {"type": "string"}},
               "required": ["error"]}}}} for status in ("4XX", "5XX")}
IMAGE_BODY = {"requestBody": {"required": True, "content": {"image/*": IMAGE}}}
IMAGE_ANSWER = {200: {"description": "the image file", "content": {"image/png": IMAGE}}}
JSON_BODY = {"requestBody": {"required": True, "content": {"application/json": {
    "schema": {"type": "object"}}}}}


class Limits(NamedTuple):
    """What a server takes on."""

    parallel: int  # images that are computed at once
    queue_size: int  # requests that wait for that
    seconds: float  # that a request may take
    num_bytes: int  # of a request's body


class Access(NamedTuple):
    """Who may ask."""

    hosts: frozenset  # names under which the server is asked, in lower case
    any_address: bool  # whether it may be asked under any IP address
    token: str | None  # None: none is needed


class Refused(HTTPException):
    """A request that gets an error: its status, and a text of one line."""


# --------------------------------------------------------------------------------------------------
# Who may ask
# --------------------------------------------------------------------------------------------------


def split_host(host):
    """The name of "name:port", "[address]:port" or without port, in lower case; "" where it is
    none of these."""
    try:
        return urllib.parse.urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_address(name):
    """Whether a host's name is an IP address, which no DNS server can lead elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def find_token(headers, query):
    """The token that a request brings: in its header Authorization, in its query, in its cookie,
    which may be that of an earlier server; "" without."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "token"):
        return value.strip()
    in_query = dict(urllib.parse.parse_qsl(query)).get("token")
    cookies = [part.strip().partition("=") for part in headers.get("cookie", "").split(";")]
    found = [value for name, _, value in cookies if name == TOKEN_COOKIE]
    return in_query or next(iter(found), "")


def refuse_stranger(method, headers, query, access):
    """Raises Refused for a request by a page of another origin, under a name that is not the
    server's (DNS rebinding), or without the token. headers: name -> value; query: text."""
    name = split_host(headers.get("host", ""))
    if name not in access.hosts and not (access.any_address and is_address(name)):
        raise Refused(403, "this server is not known under that name: ask for it by its address, "
                           "or start it with --allow_host")
    origin = headers.get("origin")
    is_own = origin is None or urllib.parse.urlsplit(origin).netloc == headers.get("host")
    is_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    if not is_own or headers.get("sec-fetch-site", "none") not in ("none", "same-origin") \
            and not is_link:
        raise Refused(403, "pages of other origins may not ask this server")
    if access.token is not None and not secrets.compare_digest(
            find_token(headers, query).encode(), access.token.encode()):
        raise Refused(401, "this server needs its token: open the address that it printed, or send "
                           "the header Authorization: Bearer TOKEN")


def write_error(status, text, headers=None):
    """The answer of an error."""
    body = json.dumps({"error": printable(text)})
    return Response(body, status, headers, "application/json")


class Guard:
    """An application of ASGI around another one: it checks who asks, remembers the token of a page
    in a cookie, and adds HEADERS."""

    def __init__(self, application, access):
        """access: Access."""
        self.application, self.access = application, access

    async def __call__(self, scope, receive, send):
        """One request."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1")
                   for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        if scope["method"] == "HEAD":  # uvicorn sends no body
            scope = {**scope, "method": "GET"}

        async def send_more(message):
            """With HEADERS."""
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)
        try:
            refuse_stranger(scope["method"], headers, query, self.access)
        except (Refused, ValueError) as error:
            text = getattr(error, "detail", "the request's headers are not valid")
            answer = write_error(getattr(error, "status_code", 400), text)
            await answer(scope, receive, send_more)
            return
        application = self.remember_token(scope, query) or self.application
        await application(scope, receive, send_more)

    def remember_token(self, scope, query):
        """The answer that sets the cookie, to a page that is opened with the token; or None."""
        is_page = scope["method"] == "GET" and scope["path"] == "/"
        if self.access.token is None or not is_page \
                or "token" not in dict(urllib.parse.parse_qsl(query)):
            return None
        answer = Response(status_code=303, headers={"location": "./"})
        answer.set_cookie(TOKEN_COOKIE, self.access.token, httponly=True, samesite="lax")
        return answer


# --------------------------------------------------------------------------------------------------
# Computing
# --------------------------------------------------------------------------------------------------


class Work:
    """Threads that compute, and the queue before them."""

    def __init__(self, limits):
        """Starts none yet. limits: Limits."""
        self.limits, self.unfinished, self.lock = limits, 0, threading.Lock()
        self.threads = concurrent.futures.ThreadPoolExecutor(limits.parallel, "model")

    def refuse_if_full(self):
        """Raises Refused where the queue is full."""
        if self.unfinished >= self.limits.parallel + self.limits.queue_size:
            raise Refused(503, f"{self.unfinished} requests are waiting: try again in a moment",
                          {"Retry-After": "1"})

    def submit(self, function, *arguments):
        """A future of function(*arguments) and of the seconds that it waited and took. Raises
        Refused where the queue is full."""
        self.refuse_if_full()
        asked = time.perf_counter()

        def compute():
            """In a thread."""
            start = time.perf_counter()
            result = function(*arguments)
            return result, start - asked, time.perf_counter() - start
        self.count(1)
        future = self.threads.submit(compute)
        future.add_done_callback(lambda _: self.count(-1))  # also where it was cancelled
        return asyncio.wrap_future(future)

    def count(self, change):
        """Counts what is unfinished, in any thread."""
        with self.lock:
            self.unfinished += change

    async def read_body(self, request):
        """A Request's body, which counts as one that waits until it is there. Raises Refused where
        it is larger than the limit, or comes too slowly, and where the queue is full."""
        async def read():
            """All of it."""
            chunks, count = [], 0
            async for chunk in request.stream():
                chunks.append(chunk)
                count += len(chunk)
                if count > self.limits.num_bytes:
                    raise too_large
            return b"".join(chunks)
        too_large = Refused(413, f"the body is larger than {self.limits.num_bytes} bytes: send a "
                                 "smaller one")
        self.refuse_if_full()
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.limits.num_bytes:
            raise too_large
        self.count(1)
        try:
            body = await asyncio.wait_for(read(), self.limits.seconds)
        except asyncio.TimeoutError:
            raise Refused(408, "the body came too slowly: send it again",
                          {"Connection": "close"}) from None
        except ClientDisconnect:
            raise Refused(LEFT, "the client has gone") from None
        finally:
            self.count(-1)
        if not body:
            raise Refused(400, "the body is empty: send the bytes of an image file")
        return body

    async def run(self, request, function, *arguments):
        """What `submit` gives, for a Request whose body has been read. Raises Refused: 504 after
        the time limit, LEFT when the client has gone; what has not begun then never begins."""
        async def wait_until_gone():
            """Until the client has closed the connection."""
            while (await request.receive())["type"] != "http.disconnect":
                pass
        future = self.submit(function, *arguments)
        gone = asyncio.ensure_future(wait_until_gone())
        try:
            await asyncio.wait({future, gone}, timeout=self.limits.seconds,
                               return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            status, text = (LEFT, "the client has gone") if gone.done() else \
                (504, f"it took longer than {self.limits.seconds:g} seconds: try again, or send a "
                      "smaller image")
            raise Refused(status, text)
        finally:
            future.cancel()
            gone.cancel()
            future.add_done_callback(lambda future: future.cancelled() or future.exception())


def answer_errors(function):
    """A function for a thread that raises Refused for what is wrong with an image."""
    @functools.wraps(function)
    def run(*arguments):
        """The function."""
        try:
            return function(*arguments)
        except TooLargeError as error:
            raise Refused(413, str(error)) from None
        except tf.errors.ResourceExhaustedError:
            raise Refused(503, "it needs more memory than there is: send a smaller image",
                          {"Retry-After": "5"}) from None
        except (RunError, UserError, ValueError, MemoryError, tf.errors.InvalidArgumentError,
                tf.errors.UnknownError) as error:  # the last: of Python in the graph
            raise Refused(400, f"the image cannot be translated: {describe_error(error)}") from None
    return run


# --------------------------------------------------------------------------------------------------
# The application
# --------------------------------------------------------------------------------------------------


@answer_errors
def generate(model, contents, show):
    """The bytes of a result and the model's step. show: "input", "output" or ""."""
    if show == "input":
        return model.show_input(contents), model.current.step
    result, step = model.generate(contents)
    return model.show_output(result) if show == "output" else result, step


@answer_errors
def predict(model, body):
    """The answer to a body of TensorFlow Serving's API: bytes."""
    request = rest_predict.read_request(body)
    use = model.generate_floats if request.signature == rest_predict.FLOATS[0] \
        else lambda contents: model.generate(contents)[0]
    return rest_predict.write_answer(request, [use(image) for image in request.images])


def check_show(show):
    """Raises Refused where ?show= is something else than `generate` takes."""
    if show not in ("", "input", "output"):
        raise Refused(400, "show is input or output")


def write_image(contents, headers=None):
    """The answer that is an image file."""
    return Response(contents, headers=headers, media_type=media_type(contents))


def describe_time(step, waited, took):
    """Headers of a result: the model's step, and where the time went, in milliseconds."""
    known = {} if step is None else {"X-Model-Step": str(step)}
    return {**known, "Server-Timing": f"queue;dur={waited * 1e3:.1f}, model;dur={took * 1e3:.1f}"}


class Server(NamedTuple):
    """What the routes have in common."""

    models: dict  # name -> ServedModel
    work: Work

    def find(self, name, version=""):
        """The ServedModel of a name, and of a version if one is asked for. Raises Refused."""
        if name not in self.models:
            raise Refused(404, f"there is no model {name}: there is {', '.join(self.models)}")
        served = self.models[name].current.version
        if version not in ("", served):
            raise Refused(404, f"{name} has no version {version}: version {served} is served")
        return self.models[name]


def add_pages(app, pages):
    """The routes of HTML. pages: path -> bytes; each has its policy in it."""
    def create_answer(contents):
        """The function that answers with a page."""
        async def answer():
            """The page, which no other page may show in a frame."""
            return Response(contents, media_type="text/html",
                            headers={"content-security-policy": "frame-ancestors 'none'"})
        return answer
    for path, contents in pages.items():
        app.add_api_route(path, create_answer(contents), include_in_schema=False)


def add_models(app, server):
    """The routes that tell of the models."""
    @app.get("/healthz")
    async def health() -> dict:
        """Whether the server answers."""
        return {"status": "ok"}

    @app.get("/v1/models")
    async def list_models() -> dict:
        """All models: what they take and give, as the page needs it."""
        return {"models": [model.current.description for model in server.models.values()]}

    @app.get("/v1/models/{name}/versions/{version}/metadata")
    @app.get("/v1/models/{name}/metadata")
    async def read_metadata(name: str, version: str = "") -> dict:
        """A model's signatures, as TensorFlow Serving tells them."""
        current = server.find(name, version).current
        channels = [side.count * side.file_channels for side in current.model.pair[:2]] \
            if current.model.generate_floats else None
        return rest_predict.write_metadata(name, current.version, channels)

    @app.get("/v1/models/{name}/versions/{version}")
    @app.get("/v1/models/{name}")
    async def read_status(name: str, version: str = "") -> dict:
        """A model's status, as TensorFlow Serving tells it."""
        return rest_predict.write_status(server.find(name, version).current.version)

    @app.get("/v1/models/{name}/examples/{number}", response_class=Response,
             responses=IMAGE_ANSWER)
    async def read_example(request: Request, name: str, number: int, show: str = ""):
        """An example input, as `POST /NAME` takes it; ?show=input: as people look at it."""
        model = server.find(name)
        examples = model.current.examples
        check_show(show)
        if not 0 <= number < len(examples):
            raise Refused(404, f"{name} has {len(examples)} examples: ask from 0 on")
        if show != "input":
            return write_image(examples[number])
        result, *_ = await server.work.run(request, generate, model, examples[number], show)
        return write_image(result[0])


def add_translation(app, server):
    """The routes that translate images."""
    @app.post("/v1/models/{name}/versions/{version}:predict", openapi_extra=JSON_BODY)
    @app.post("/v1/models/{name}:predict", openapi_extra=JSON_BODY)
    async def predict_images(request: Request, name: str, version: str = "") -> dict:
        """Images as JSON: TensorFlow Serving's REST API, signatures serving_default and encoded."""
        model = server.find(name, version)
        body = await server.work.read_body(request)
        result, *times = await server.work.run(request, predict, model, body)
        return Response(result, media_type="application/json",
                        headers=describe_time(model.current.step, *times))

    @app.post("/{name}", response_class=Response, responses=IMAGE_ANSWER,
              openapi_extra=IMAGE_BODY)
    async def translate_image(request: Request, name: str, show: str = ""):
        """The bytes of an image file in, those of its result out; ?show=output: as people look at
        it, ?show=input: the input as people look at it."""
        check_show(show)
        model = server.find(name)
        body = await server.work.read_body(request)
        (result, step), *times = await server.work.run(request, generate, model, body, show)
        return write_image(result, describe_time(step, *times))


def add_errors(app, server):
    """All errors have one form."""
    @app.exception_handler(HTTPException)
    async def answer_refused(request, error):
        """What was refused, here or by the router, to which every name is that of a model."""
        name = request.path_params.get("name")
        if error.status_code == 405 and name is not None and name not in server.models:
            return write_error(404, f"there is nothing at {request.url.path}")
        return write_error(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def answer_invalid(_request, error):
        """What FastAPI refuses: a part of the address that is no number."""
        places = [str(part) for row in error.errors() for part in row["loc"][1:]]
        return write_error(400, f"not valid: {', '.join(places)}")

    @app.exception_handler(Exception)
    async def answer_fault(_request, _error):
        """A fault of the program, which uvicorn prints."""
        return write_error(500, "the server has a fault, its terminal has the reason")


def create_application(models, limits, access, pages):
    """The application, and its Work. models: name -> ServedModel; limits: Limits; access: Access;
    pages: as in `add_pages`."""
    app = FastAPI(title="pix2pix", docs_url=None, redoc_url=None, redirect_slashes=False,
                  responses=ERRORS, description="Image-to-image translation by pix2pix models.")
    server = Server(models, Work(limits))
    add_errors(app, server)
    add_pages(app, pages)
    add_models(app, server)
    add_translation(app, server)
    return Guard(app, access), server.work
