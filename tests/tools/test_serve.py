"""serve.py: every kind of model in one server process, names, addresses, signals, --demo."""

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import models
import numpy as np
import pytest
from helpers import EXPORTS, ROOT, finish, read_pixels
from PIL import Image
from serving import (
    PROGRAM, ask, can_connect, draw_image, invert, start_process, wait_until)

from tools import apply as apply_tool
from tools import serve
from tools.lib import cli, sample_run
from tools.lib.models import EXPORT_FILES

FILES = [name for key, name in EXPORT_FILES.items() if key in EXPORTS]


def list_files(*folders):
    """Every path below folders, with its size and time."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns)
            for folder in folders for path in [folder, *folder.rglob("*")]}


# ---- a server of every kind of model


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with run/, of steps 1 and 2, and export/ in every format."""
    return models.small_model(tmp_path_factory)


class Process:
    """A server process that has started."""

    def __init__(self, process, port, folders, order):
        """folders: where it could write; order: names of its models."""
        self.process, self.port, self.folders, self.order = process, port, folders, order
        self.before = list_files(*folders)


@pytest.fixture(scope="module")
def server(small, tmp_path_factory):
    """A process that serves a training folder, a checkpoint, a .pict file and every export. Its
    folder, home and folder of temporary files have nothing but the run in them."""
    folders = [tmp_path_factory.mktemp(name) for name in ("work", "home", "temporary")]
    work, home, temporary = folders
    shutil.copytree(small / "run", work / "run", ignore=shutil.ignore_patterns("model-2*"))
    (work / "run/checkpoint").write_text('model_checkpoint_path: "model-1"\n'
                                         'all_model_checkpoint_paths: "model-1"\n')
    paths = {"run": "run", "checkpoint": small / "run/model-2",
             **{Path(name).name: small / "export" / name for name in FILES}}
    command = [*PROGRAM, "--port", "0", "--model",
               *(f"{name}={path}" if name != path else path for name, path in paths.items())]
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary),
                   "PYTHONDONTWRITEBYTECODE": "1"}
    with start_process(command, cwd=work, env=environment) as (process, port):
        yield Process(process, port, folders, [*paths])


def save_image(path, size):
    """An image file of smooth colours."""
    noise = np.random.default_rng(3).integers(0, 256, (5, 4, 3), np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def test_models_are_listed_in_the_order_of_the_command_line(server):
    rows = ask(server.port, "GET", "/v1/models").json["models"]
    assert [row["name"] for row in rows] == server.order
    steps = {row["name"]: row["step"] for row in rows}
    assert (steps["run"], steps["checkpoint"], steps["graph.pb"]) == (1, 2, None)
    for row in rows:
        assert (row["inputs"]["width"], row["inputs"]["height"]) == (32, 32)
        assert ask(server.port, "GET", f"/v1/models/{row['name']}/metadata").status == 200


@pytest.mark.parametrize("name", ["checkpoint", *FILES])
@pytest.mark.parametrize("size", [(32, 32), (57, 41)])
def test_every_kind_of_model_gives_what_apply_gives(server, small, tmp_path, name, size):
    """To the pixel, at the network's size and at another."""
    path, out = save_image(tmp_path / "in.png", size), tmp_path / "out.png"
    model = small / ("run/model-2" if name == "checkpoint" else f"export/{name}")
    answer = ask(server.port, "POST", f"/{name}", path.read_bytes())
    assert answer.status == 200, answer.body
    assert apply_tool.main(["--model", str(model), "--input", str(path), "--output",
                            str(out)]) == 0
    assert read_pixels(answer.body).shape == (*size[::-1], 3)
    np.testing.assert_array_equal(read_pixels(answer.body), read_pixels(out))


def test_the_page_may_ask_its_own_server_alone(server):
    answer = ask(server.port, "GET", "/")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/html")
    policy = re.search(rb'http-equiv="Content-Security-Policy"\s+content="([^"]*)"', answer.body)[1]
    assert b"default-src 'none'" in policy and b"connect-src 'self'" in policy
    assert b"unsafe" not in policy and not re.search(rb'(src|href)="(https?:)?//', answer.body)


def test_a_newer_checkpoint_is_served_while_training_goes_on(server, small):
    def step():
        """That is served."""
        return ask(server.port, "GET", "/v1/models").json["models"][0]["step"]
    image = draw_image(3, (32, 32))
    first = ask(server.port, "POST", "/run", image)
    assert (step(), first.headers["x-model-step"]) == (1, "1")
    work = server.folders[0]
    for path in (small / "run").glob("model-2*"):
        shutil.copy(path, work / "run")
    shutil.copy(small / "run/checkpoint", work / "run")
    server.before = list_files(*server.folders)
    wait_until(lambda: step() == 2, 60)
    second = ask(server.port, "POST", "/run", image)
    assert second.headers["x-model-step"] == "2" and second.body != first.body
    assert second.body == ask(server.port, "POST", "/checkpoint", image).body


def test_it_writes_nothing_and_ends_at_sigterm(server):
    """The last of this process."""
    ask(server.port, "POST", "/run", draw_image())
    ask(server.port, "POST", "/run", b"no image")
    assert list_files(*server.folders) == server.before
    server.process.send_signal(signal.SIGTERM)
    code, out, err = finish(server.process, 60)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "finishing what is in flight; press again to stop at once"
    assert list_files(*server.folders) == server.before and not can_connect(server.port)


# ---- signals

STAND_IN = """
import sys
sys.path[:0] = sys.argv[1:3]
import serving
from tools import serve

def generate(contents):
    print("begun", flush=True)
    sys.stdin.readline()
    return serving.invert(contents)

serve.load_models = lambda options: {"inverts": serving.stand_in(generate=generate)}
sys.exit(serve.main(["--model", "inverts", "--port", sys.argv[3]]))
"""


def start_stand_in(tmp_path, port=0):
    """`start_process` of one whose model says that it has begun and waits for a line."""
    return start_process([sys.executable, "-c", STAND_IN, ROOT, ROOT / "tests", str(port)],
                         cwd=tmp_path, stdin=subprocess.PIPE)


@contextlib.contextmanager
def send_image(port):
    """A list that gets the Answer to an image, or the error."""
    def send():
        """In a thread."""
        try:
            answers.append(ask(port, "POST", "/inverts", draw_image()))
        except (OSError, http.client.HTTPException) as error:
            answers.append(error)
    answers, thread = [], threading.Thread(target=send)
    thread.start()
    yield answers
    thread.join(60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_in_flight_is_answered_after_a_signal(tmp_path, number):
    with start_stand_in(tmp_path) as (process, port):
        with send_image(port) as answers:
            assert process.stdout.readline() == "begun\n"
            process.send_signal(number)
            assert process.stdout.readline().startswith("finishing what is in flight")
            wait_until(lambda: not can_connect(port))
            assert answers == [] and process.poll() is None
            process.stdin.write("\n")
            process.stdin.flush()
        assert answers[0].body == invert(draw_image())
        assert finish(process, 60) == (0, "", "")
        with socket.create_server(("127.0.0.1", port)):
            pass  # it is free


def test_a_second_signal_ends_it_at_once(tmp_path):
    with start_stand_in(tmp_path) as (process, port):
        with send_image(port) as answers:
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline().startswith("finishing what is in flight")
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        assert isinstance(answers[0], (OSError, http.client.HTTPException))
        assert process.stderr.read() == ""


# ---- what it is started with


def refuse(capsys, *arguments):
    """The line of an error with exit code 2."""
    assert serve.main([str(argument) for argument in arguments]) == 2
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err.count("\n") == 1
    assert streams.err[:-1].isprintable() and streams.err.startswith("serve.py: error: ")
    return streams.err


@pytest.mark.parametrize("arguments, part", [
    ("", "there is nothing to serve: give --model, or --demo"),
    ("--model gone --port 0", "gone is not a folder, checkpoint or .pict file"),
    ("--model run --which best --port 0", "run has no best checkpoint"),
    ("--model a= --port 0", "--model a= has no path: give NAME=PATH"),
    ("--model run b/run --port 0", "--model run and b/run would both be called run: give OTHER="),
    ("--model a=run a=run --port 0", "--model run and run would both be called a: give OTHER="),
    ("--model v1=run --port 0", "--model v1=run cannot be called v1 in an address: give NAME=run"),
    ("--model healthz --port 0", "cannot be called healthz in an address: give NAME=healthz"),
    ("--model +++ --port 0", "--model +++ cannot be called so in an address: give NAME=+++"),
    ("--model run --port 70000", "--port: 70000: give a whole number"),
    ("--model run --port x", "--port: x: give a whole number"),
    ("--model run --parallel 0", "--parallel: 0: give a whole number"),
    ("--model run --time_limit 0", "--time_limit: 0: give a number above 0"),
    ("--model run --time_limit nan", "--time_limit: nan: give a number"),
    ("--model run --queue_size -1", "--queue_size: -1: give a whole number"),
    ("--model run --queue 3", "unknown flag --queue: "),
    ("--model run --host nowhere.invalid", "--host nowhere.invalid --port 8000 cannot be opened ("),
    ("--model run --host 203.0.113.9 --port 0", "--host 203.0.113.9 --port 0 cannot be opened ("),
    (f"--model run --host {'x' * 70}.com --port 0", "cannot be opened (")])
def test_mistakes_are_one_line(in_empty_folder, capsys, arguments, part):
    os.mkdir("run")
    Path("run/model-3.index").touch()
    assert part in refuse(capsys, *arguments.split())


def test_a_port_that_is_taken_is_one_line(tmp_path, in_empty_folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert refuse(capsys, "--model", "run", "--port", port) == (
            f"serve.py: error: --host 127.0.0.1 --port {port} cannot be opened (Address already in "
            "use): choose another --port, 0 for any free one\n")


@pytest.mark.parametrize("text, name, path", [
    ("facades_train", "facades_train", "facades_train"), ("a=b", "a", "b"),
    ("/data/runs/maps_train/", "maps_train", "/data/runs/maps_train/"),
    ("x.y-z_1=b=c", "x.y-z_1", "b=c"), ("run/model-4000", "model-4000", "run/model-4000"),
    ("facades.pict", "facades", "facades.pict"), ("export/graph.pb", "graph", "export/graph.pb"),
    ("my model (2)", "my-model-2", "my model (2)"), ("runs/lr=0.1", "lr-0.1", "runs/lr=0.1"),
    ("run-0.5", "run-0.5", "run-0.5"), ("lr=0.1", "lr-0.1", "lr=0.1"),
    ("<b>run", "b-run", "<b>run"), (".", "here", ".")])
def test_names_are_those_of_folders_and_files_as_addresses_can_have_them(
        tmp_path, monkeypatch, text, name, path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in ("runs/lr=0.1", "lr=0.1", "run-0.5"):
        os.makedirs(folder)
    assert serve.name_models([text]) == {name: path}


# ---- where it is reached


def options_of(*arguments):
    """Parsed."""
    return cli.Options(**vars(serve.create_parser().parse_args(["--model", "run", *arguments])))


def test_beyond_loopback_a_token_is_made_and_printed():
    own = serve.choose_access(options_of(), "127.0.0.1")
    assert (own.token, own.any_address) == (None, False)
    assert own.hosts == {"localhost", "127.0.0.1", "::1"}
    options = options_of("--host", "0.0.0.0", "--allow_host", "Board.example")
    one, other = (serve.choose_access(options, "0.0.0.0") for _ in range(2))
    assert one.any_address and "board.example" in one.hosts
    assert socket.gethostname().lower() in one.hosts
    assert len(one.token) >= 32 and one.token != other.token
    with socket.create_server(("0.0.0.0", 0)) as listening:
        port = listening.getsockname()[1]
        addresses = serve.describe_addresses(listening, one)
    assert addresses[0] == f"http://127.0.0.1:{port}/?token={one.token}"
    assert addresses[1].endswith(f":{port}/?token={one.token}") and len(addresses) == 2


def test_behind_a_proxy_a_token_is_made_too():
    access = serve.choose_access(options_of("--allow_host", "Board.example"), "127.0.0.1")
    assert "board.example" in access.hosts and not access.any_address
    assert len(access.token) >= 32


@pytest.mark.parametrize("address, is_own", [
    ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("0.0.0.0", False), ("::", False),
    ("192.168.0.9", False), ("fe80::1", False), ("::ffff:127.0.0.1", False)])
def test_loopback(address, is_own):
    assert serve.is_loopback(address) == is_own


# ---- --demo


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """The commands that --demo runs in a project of an empty folder, and what it serves."""
    commands, served = [], []
    monkeypatch.setattr(serve, "ROOT", tmp_path)
    monkeypatch.setattr(sample_run, "run_command", lambda root, command: commands.append(command))
    monkeypatch.setattr(serve, "serve", lambda options: served.append(options.model) or 0)
    return commands, served


def test_the_demo_takes_the_model_that_is_there(demo, tmp_path, capsys):
    commands, served = demo
    place = tmp_path / sample_run.TRAIN_DIR
    place.mkdir()
    last = sample_run.NUM_TRAIN * sample_run.MAX_EPOCHS
    (place / f"model-{last}.index").touch()
    assert serve.main(["--demo", "--model", "a=b"]) == 0
    assert (commands, served) == ([], [[str(place), "a=b"]])
    assert capsys.readouterr() == ("", "")


def test_the_demo_trains_where_there_is_none(demo, tmp_path, capsys):
    commands, served = demo
    (tmp_path / sample_run.TRAIN_DIR).mkdir()
    (tmp_path / sample_run.TRAIN_DIR / "model-9.index").touch()  # it was stopped
    assert serve.main(["--demo"]) == 0
    assert [command[1] for command in commands] == ["tools/make-sample.py", "pix2pix.py"]
    assert all(command[0] == sys.executable for command in commands)
    assert served == [[str(tmp_path / sample_run.TRAIN_DIR)]]
    assert capsys.readouterr().out.startswith("training on the drawn sample for about two minutes")


def test_a_demo_that_fails_says_so(demo, monkeypatch, capsys):
    monkeypatch.setattr(sample_run, "run_command", lambda root, command: 3)
    assert serve.main(["--demo"]) == 3
    assert "failed with exit code 3" in capsys.readouterr().err and demo[1] == []
