#!/usr/bin/env python3
"""Serves models: a page to draw on, and an API that translates images.

    python tools/serve.py --model facades_train
    python tools/serve.py --model facades=facades_train maps=maps_export --port 8080
    python tools/serve.py --demo

A model is a training folder, a checkpoint, a .pict file or any format that `pix2pix.py --mode
export` writes. A training folder's newest checkpoint is served, also while it is being trained.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy", "isal", "tensorflow", "fastapi", "uvicorn")
    cli.use_huge_pages()

import uvicorn

from pix2pix import load_model
from tools.lib import page, sample_run
from tools.lib.checkpoints import add_choice
from tools.lib.cli import Options, RunError, UserError, number_type, printable, say
from tools.lib.served_models import ServedModel
from tools.lib.server import LOOPBACK_NAMES, Access, Limits, create_application

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # of a model, as addresses have it
RESERVED = {"v1", "api", "healthz", "openapi.json"}
REFRESH_SECONDS = 2  # between looks at what training writes
MAX_BYTES = 32 * 2**20  # of a request's body
EXAMPLES = """\
  python tools/serve.py --model facades_train
  python tools/serve.py --model facades=facades_train maps=maps_export --port 8080
  python tools/serve.py --model facades_train --which best --host 0.0.0.0
  python tools/serve.py --demo"""

# --------------------------------------------------------------------------------------------------
# Models
# --------------------------------------------------------------------------------------------------


def name_models(texts):
    """Name -> path of --model NAME=PATH or PATH. Raises UserError."""
    models = {}
    for text in texts:
        name, is_named, path = text.partition("=")
        if not is_named or not NAME.fullmatch(name) or os.path.exists(text):
            path, place = text, Path(os.path.abspath(text))
            name = place.name if place.is_dir() else place.stem
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")
        if not path:
            raise UserError(f"--model {text} has no path: give NAME=PATH")
        if not NAME.fullmatch(name) or name in RESERVED:
            raise UserError(f"--model {text} cannot be called {name or 'so'} in an address: give "
                            f"NAME={path}")
        if name in models:
            raise UserError(f"--model {models[name]} and {path} would both be called {name}: give "
                            f"OTHER={path}")
        models[name] = path
    return models


def load_models(options):
    """Name -> ServedModel. Raises UserError."""
    models = {}
    for name, path in name_models(options.model).items():
        models[name] = ServedModel(name, path, options.which,
                                   lambda path: load_model(path, with_floats=True))
        say(f"loaded {name} from {printable(models[name].current.model.path)}")
    return models


def keep_fresh(models, stopped):
    """In its own thread: serves newer checkpoints until an Event is set."""
    while not stopped.wait(REFRESH_SECONDS):
        for model in models.values():
            model.refresh()


# --------------------------------------------------------------------------------------------------
# Where it is reached
# --------------------------------------------------------------------------------------------------


def open_socket(options):
    """The socket of --host and --port, listening. Raises UserError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere it would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(256)
        return listening
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no name of a host"
        remedy = "choose another --port, 0 for any free one" if options.port else \
            "choose another --host"
        raise UserError(f"--host {options.host} --port {options.port} cannot be opened "
                        f"({reason}): {remedy}") from None


def choose_access(options, address):
    """Access to a server that listens at an address. A token is asked for where others than this
    machine may reach it: beyond loopback, or by a proxy."""
    others, is_open = options.allow_host or [], not is_loopback(address)
    names = [*LOOPBACK_NAMES, options.host, *others]
    if is_open:
        names += [socket.gethostname(), f"{socket.gethostname()}.local"]
    return Access(frozenset(map(str.lower, names)), is_open,
                  secrets.token_urlsafe(24) if is_open or others else None)


def is_loopback(address):
    """Whether only this machine reaches an address."""
    return address.startswith("127.") or address == "::1"


def find_address():
    """The address of this machine in its network; its name where it has none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; the address is of no network (RFC 5737)
        return probe.getsockname()[0]
    return socket.gethostname()


def describe_addresses(listening, access):
    """The addresses to open, that of this machine first."""
    host, port, *_ = listening.getsockname()
    hosts = ["127.0.0.1"] if host in ("0.0.0.0", "::") else [f"[{host}]" if ":" in host else host]
    if host in ("0.0.0.0", "::"):
        hosts.append(find_address())
    query = f"?token={access.token}" if access.token else ""
    return [f"http://{host}:{port}/{query}" for host in hosts]


def open_page(address):
    """Opens a page in the browser of a desktop."""
    has_desktop = os.name == "nt" or sys.platform == "darwin" \
        or {"DISPLAY", "WAYLAND_DISPLAY"} & {*os.environ}
    if has_desktop:
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(address)


# --------------------------------------------------------------------------------------------------
# Serving
# --------------------------------------------------------------------------------------------------


def create_server(application, seconds):
    """uvicorn's server of an application. seconds: that it waits for requests when it ends."""
    return uvicorn.Server(uvicorn.Config(
        application, loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None,
        access_log=False, proxy_headers=False, server_header=False,
        timeout_graceful_shutdown=seconds))


def serve_until_stopped(server, listening):
    """Serves until Ctrl-C or SIGTERM, then finishes what is in flight. A second one ends the
    process at once. Raises RunError where the server ends by itself."""
    def run():
        """In its own thread."""
        try:
            server.run(sockets=[listening])
        finally:
            ended.set()

    def wait():
        """Until it has ended. Thread.join would take a thread for ended once it was interrupted,
        and a wait without a limit is not interrupted on Windows."""
        while not ended.wait(1):
            pass
    ended = threading.Event()
    threading.Thread(target=run, daemon=True).start()
    try:
        wait()
    except KeyboardInterrupt:
        try:
            server.should_exit = True
            say("finishing what is in flight; press again to stop at once")
            wait()
        except KeyboardInterrupt as error:  # without waiting for what is being computed
            os._exit(128 + next(iter(error.args), signal.SIGINT))
        return
    raise RunError("the server has ended: its last lines say why")


def serve(options):
    """Serves the models; returns the exit code."""
    listening = open_socket(options)
    access = choose_access(options, listening.getsockname()[0])
    models = load_models(options)
    limits = Limits(options.parallel, options.queue_size, options.time_limit, MAX_BYTES)
    pages = {"/": page.render_drawing("pix2pix"), "/api": page.render_calls(
        [model.current.description for model in models.values()], access.token is not None)}
    application, work = create_application(models, limits, access, pages)
    server = create_server(application, int(options.time_limit) + 1)
    addresses, stopped = describe_addresses(listening, access), threading.Event()
    say(f"draw at {addresses[0]}" + "".join(f" or {other}" for other in addresses[1:]))
    say("Ctrl-C ends")
    if options.demo:
        open_page(addresses[0])
    refreshing = threading.Thread(target=keep_fresh, args=[models, stopped], daemon=True)
    refreshing.start()
    try:
        serve_until_stopped(server, listening)
    finally:
        stopped.set()
        refreshing.join()  # a thread that is ended within TensorFlow ends the process by a signal
        work.threads.shutdown(wait=False, cancel_futures=True)
    return 0


def make_demo():
    """The model that is drawn with in --demo, trained first if there is none. Raises RunError."""
    if not sample_run.has_model(ROOT):
        say("training on the drawn sample for about two minutes")
        sample_run.run_commands(sample_run.list_commands(ROOT, sys.executable),
                                functools.partial(sample_run.run_command, ROOT))
    return str(ROOT / sample_run.TRAIN_DIR)


def create_parser():
    """The command line."""
    parser = cli.Parser("serve.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    add, whole = parser.add_argument, number_type(int, 1)
    add("--model", nargs="+", metavar="[NAME=]PATH", help="models to serve: training folders, "
        "checkpoints, .pict files or exports; NAME is what addresses call it")
    add("--demo", action="store_true", help="serve the model of tools/quickstart.py, which is "
        "trained first if it is not there, and open the page")
    add_choice(add)
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: all of this machine, "
        "with a token that is printed")
    add("--port", type=number_type(int, 0, 65535), default=8000, help="port; 0: any free one")
    add("--allow_host", nargs="+", metavar="NAME",
        help="names under which the server may be asked, beside its address")
    add("--parallel", type=whole, default=2, help="images that are computed at once")
    add("--queue_size", type=whole, default=64,
        help="requests that wait; beyond them the answer is 503")
    add("--time_limit", type=number_type(float, 0, open_low=True), default=60.0,
        help="seconds that a request may take")
    return parser


def run(argv):
    """Serves; returns the exit code."""
    options = Options(**vars(create_parser().parse_args(argv)))
    if not options.model and not options.demo:
        raise UserError("there is nothing to serve: give --model, or --demo")
    if options.demo:
        options = cli.with_options(options, model=[make_demo(), *(options.model or [])])
    return serve(options)


def main(argv=None):
    """Runs the tool; returns its exit code (docs/tools.md)."""
    return cli.run_main("serve.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
