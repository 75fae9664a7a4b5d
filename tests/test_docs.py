"""The docs tell the truth: flags, defaults, commands, links and images."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import pix2pix

ROOT = Path(pix2pix.__file__).resolve().parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), ROOT / "tools" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documented_flags():
    """{flag: default text} from the tables of docs/options.md."""
    rows = re.findall(r"^\| `(--\w+)`[^|]*\| ([^|]*) \|", (ROOT / "docs/options.md").read_text(),
                      re.MULTILINE)
    return {flag: default.strip("`") for flag, default in rows}


def test_every_flag_is_documented_with_its_default():
    shown = documented_flags()
    by_dest = {}  # the first of two flags; the second switches it off
    for action in pix2pix.create_parser()._actions[1:]:
        by_dest.setdefault(action.dest, action)
    actions = {action.option_strings[0]: action for action in by_dest.values()}
    assert set(shown) == set(actions)
    for flag, action in actions.items():
        default = " ".join(action.default) or None if isinstance(action.default, list) \
            else action.default
        expected = {None: "–", True: "on", False: "off"}.get(
            default if default is None or isinstance(default, bool) else "", str(default))
        assert shown[flag] == expected, flag


def test_every_choice_is_documented():
    text = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `--")}
    for action in pix2pix.create_parser()._actions:
        for choice in action.choices or ():
            row = rows[action.option_strings[0]]
            assert re.search(rf"\b{choice}\b", row.split("|", 3)[3]), (action.dest, choice)


def test_options_has_a_field_per_flag():
    names = {action.dest for action in pix2pix.create_parser()._actions if action.dest != "help"}
    assert names == set(pix2pix.Options._fields)


def commands():
    """Every `python ...` line in a page's shell blocks."""
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0].startswith("python") and words[1].endswith(".py"):
                    yield pytest.param(words[1], words[2:], id=f"{page.name}: {line[:60]}")


@pytest.mark.parametrize("script, arguments", list(commands()))
def test_commands_in_the_docs_parse(script, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if script == "pix2pix.py":
        parsed = vars(pix2pix.create_parser().parse_args(arguments))
        assert parsed["mode"]
        return
    tool = load_tool(Path(script).name)
    if arguments:
        parse = tool.create_parser().parse_known_args  # test.py hands the rest to pytest
        assert script == "tools/test.py" or not parse(arguments)[1]
        parse(arguments)


def test_tools_are_documented():
    text = (ROOT / "docs/tools.md").read_text(encoding="utf-8")
    for path in (ROOT / "tools").glob("*.py"):
        assert f"## {path.name}" in text
        section = text.split(f"## {path.name}")[1].split("\n## ")[0]
        for flag in re.findall(r'"(--\w+)"', path.read_text(encoding="utf-8")):
            if path.name != "quickstart.py" and re.search(rf'add\w*\(\s*"{flag}"',
                                                          path.read_text(encoding="utf-8")):
                assert flag in section, (path.name, flag)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_images_exist(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_images_are_small():
    sizes = [path.stat().st_size for path in (ROOT / "docs/images").iterdir()]
    assert sum(sizes) < 8e6 and max(sizes) < 1e6
