"""The page of calls, in a browser: what it shows is run as it stands, against a real server."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import read_pixels
from PIL import Image
from serving import PROGRAM, start_process

import pix2pix


@pytest.fixture(scope="module")
def server(tiny):
    """The address of a server of one model under two names, and its folder."""
    command = [*PROGRAM, "--model", "whole", "other=whole", "--port", "0"]
    with start_process(command, cwd=tiny) as (_, port):
        yield f"http://127.0.0.1:{port}/", tiny


@pytest.fixture
def folder(tmp_path):
    """A folder with the image that the calls send."""
    pixels = np.random.default_rng(3).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "input.png")
    return tmp_path


def list_calls(browser, address, model, language):
    """The titles and calls that the page shows."""
    from selenium.webdriver.support.ui import Select
    browser.open(f"{address}api", state=f"model={model}")
    Select(browser.one("#language")).select_by_value(language)
    return dict(zip(browser.texts("#calls h2"), browser.texts("#calls pre code"), strict=True))


def expected_result(folder, tiny):
    """What the model makes of the image."""
    model = pix2pix.load_model(tiny / "whole")
    return read_pixels(model.generate((folder / "input.png").read_bytes()))


def run_call(call, language, folder):
    """Runs a call in a folder; returns what it prints."""
    command = ["bash", "-ec", call] if language == "curl" else [sys.executable, "-c", call]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("language", [
    pytest.param("curl", marks=pytest.mark.skipif(not shutil.which("curl"), reason="no curl")),
    "python"])
def test_calls_work_as_they_are_shown(browser, server, folder, language):
    address, tiny = server
    calls = list_calls(browser, address, "other", language)
    assert [*calls] == ["An image", "TensorFlow Serving: image files",
                        "TensorFlow Serving: numbers"]
    assert all("/other" in call and "TOKEN" not in call for call in calls.values())
    expected = expected_result(folder, tiny)
    run_call(calls["An image"], language, folder)
    assert np.array_equal(read_pixels(folder / "output.png"), expected)
    (folder / "output.png").unlink()
    answer = run_call(calls["TensorFlow Serving: image files"], language, folder)
    if language == "python":
        assert np.array_equal(read_pixels(folder / "output.png"), expected)
    else:
        assert answer.startswith('{"predictions": [{"b64": "')
    answer = run_call(calls["TensorFlow Serving: numbers"] + "\nprint(len(rows), len(rows[0]))"
                      * (language == "python"), language, folder)
    assert answer == "32 32\n" if language == "python" else answer.startswith('{"predictions": [[')


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_a_call_that_fails_writes_no_file(browser, server, folder):
    call = list_calls(browser, server[0], "other", "curl")["An image"]
    done = subprocess.run(["bash", "-c", call.replace("/other", "/gone")], cwd=folder, check=False,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 22 and "404" in done.stderr
    assert not (folder / "output.png").exists()


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_can_be_read(browser, server, dark):
    browser.open(f"{server[0]}api", size=(400, 800), dark=dark)
    assert browser.low_contrasts() == [] and browser.unnamed() == []
    assert browser.run("return document.documentElement.scrollWidth") <= 400
    button, code = browser.run("""return [".call button", ".call pre"].map(
      (selector) => document.querySelector(selector).getBoundingClientRect().toJSON());""")
    assert button["bottom"] <= code["top"]
