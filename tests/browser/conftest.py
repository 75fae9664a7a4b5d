"""A browser for the tests of pages: Debian's chromium, driven by selenium.

Every test fails on an error in the console, a violation of the page's policy and a request for
anything but a file or the server that the page came from.
"""

import contextlib
import importlib.util
import io
import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT = 20  # seconds for something that takes milliseconds
FLAGS = ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-gpu",
         "--force-color-profile=srgb", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--disable-default-apps", "--no-first-run")
COLLECT = """
  window.violations = [];
  document.addEventListener("securitypolicyviolation",
    (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
CONTRASTS = """
  // The contrast of each text that is shown, as WCAG 2 defines it, where it is too low.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  function parse(color) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  }
  function luminance([red, green, blue]) {
    const linear = [red, green, blue].map((value) => value / 255).map(
      (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  }
  function background(node) {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color[3] === 255) return color;
    }
    return parse("white");
  }
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !parent.checkVisibility()) continue;
    if (parent.closest("script, style, noscript, :disabled, option")) continue;
    const style = getComputedStyle(parent);
    const color = parse(parent.closest("svg") ? style.fill : style.color);
    const [one, other] = [luminance(color), luminance(background(parent))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)}: ${walker.currentNode.data.trim()}`);
  }
  return found;
"""


def start_driver(ratio=1, flags=()):
    """A driver of a browser; skips the test where there is none. ratio: device pixels per CSS
    pixel; set while the browser runs, it would blur. flags: more of the browser's."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser or not shutil.which("chromedriver"):
        pytest.skip("no chromium with chromedriver here (Debian: chromium, chromium-driver)")
    if not importlib.util.find_spec("selenium"):
        pytest.skip("selenium is not installed (tests/requirements.txt)")
    from selenium import webdriver
    from selenium.common import exceptions
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, *flags, f"--force-device-scale-factor={ratio}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    try:
        return webdriver.Chrome(options=options, service=service)
    except exceptions.WebDriverException as error:
        pytest.skip(f"{browser} does not start: {str(error.msg).splitlines()[0]}")


class Browser:
    """A page in a browser."""

    def __init__(self, driver):
        """Starts to note violations of policies."""
        self.driver = driver
        self.origin = None  # of the server that pages come from
        self.expected = []  # parts of messages in the console that a test provokes
        self.command("Page.addScriptToEvaluateOnNewDocument", source=COLLECT)

    def command(self, name, **parameters):
        """The browser's answer to a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def open(self, page, state="", size=(1280, 800), dark=False):
        """Opens an HTML file or the address of a server's page. state: after # in the address;
        size: of the window."""
        address = page if isinstance(page, str) else page.as_uri()
        self.origin = address if isinstance(page, str) else None
        scheme = "dark" if dark else "light"
        self.command("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1],
                     deviceScaleFactor=0, mobile=False)
        self.command("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": scheme}])
        self.driver.get("about:blank")  # the same file with another # would not be loaded again
        self.driver.get(address + (f"#{state}" if state else ""))

    def show(self, state):
        """Puts another state into the address of the open page."""
        self.driver.execute_async_script("""
          const [state, done] = arguments;
          if (location.hash.slice(1) === state) return done();
          window.addEventListener("hashchange", () => setTimeout(done), { once: true });
          location.hash = state;""", state)
        self.settle()

    def run(self, script, *arguments):
        """What a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition, *arguments):
        """Waits until a JavaScript expression is true; returns its value."""
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            value = self.run(f"return {condition}", *arguments)
            if value:
                return value
            time.sleep(0.01)
        raise AssertionError(f"never true: {condition}")

    def settle(self):
        """Waits until all images are there and two frames have been drawn."""
        self.wait("[...document.images].every((image) => image.complete)")
        self.driver.execute_async_script("""
          const done = arguments[0];
          requestAnimationFrame(() => requestAnimationFrame(() => done()));""")

    def all(self, selector):
        """The elements of a CSS selector."""
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        """The only element of a CSS selector."""
        element, = self.all(selector)
        return element

    def texts(self, selector):
        """The texts of the elements of a CSS selector, as the document has them."""
        return self.run("return [...document.querySelectorAll(arguments[0])]"
                        ".map((node) => node.textContent.toWellFormed())", selector)

    def press(self, *keys):
        """Presses keys one after the other, where the focus is. A tuple: all but the last held."""
        from selenium.webdriver import ActionChains
        for key in keys:
            *held, last = key if isinstance(key, tuple) else (key,)
            actions = ActionChains(self.driver, duration=0)
            for modifier in held:
                actions.key_down(modifier)
            actions.send_keys(last)
            for modifier in held:
                actions.key_up(modifier)
            actions.perform()

    def click(self, selector, index=0):
        """Clicks an element."""
        self.all(selector)[index].click()

    def pixels(self):
        """What the window shows, in device pixels: [height, width, 3] int."""
        self.settle()
        with Image.open(io.BytesIO(self.driver.get_screenshot_as_png())) as image:
            return np.asarray(image.convert("RGB"), int)

    def low_contrasts(self):
        """The texts whose contrast is below 4.5 to 1."""
        return self.run(CONTRASTS)

    def unnamed(self):
        """The roles of controls that a screen reader has no name for."""
        roles = {"button", "combobox", "slider", "searchbox", "textbox", "link", "spinbutton",
                 "checkbox", "dialog", "table", "columnheader"}
        nodes = self.command("Accessibility.getFullAXTree")["nodes"]
        return [node["role"]["value"] for node in nodes if not node["ignored"]
                and node["role"]["value"] in roles and not node.get("name", {}).get("value")]

    def problems(self):
        """Errors, violations and requests for anything but files and the page's server, since the
        last call."""
        found = [entry["message"] for entry in self.driver.get_log("browser")
                 if not any(part in entry["message"] for part in self.expected)]
        found += self.run("return window.violations || []")
        allowed = ("file:", "data:", "blob:", "about:", *([self.origin] if self.origin else []))
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if not url.startswith(allowed):
                    found.append(url)
        return found


@pytest.fixture(scope="session")
def started_browser():
    """One browser for all tests of a process."""
    driver = start_driver()
    yield Browser(driver)
    driver.quit()


@contextlib.contextmanager
def watched(browser):
    """Fails where a page inside has failed, has been refused anything or has asked for anything."""
    browser.driver.get("about:blank")  # what a page of another test asks for is not this one's
    browser.problems()
    browser.expected = []
    yield browser
    found = browser.problems()
    browser.driver.get("about:blank")
    assert found == []


@pytest.fixture
def browser(started_browser):
    """A browser whose pages must be in order."""
    with watched(started_browser):
        yield started_browser


@pytest.fixture
def browser_of():
    """Starts a browser of a number of device pixels per CSS pixel, with more flags."""
    with contextlib.ExitStack() as stack:
        def start(ratio, *flags):
            driver = start_driver(ratio, flags)
            stack.callback(driver.quit)
            return stack.enter_context(watched(Browser(driver)))
        yield start
