"""The docs tell the truth: flags, defaults, commands, modules, tests, links and images."""

import os
import re
import shlex
from pathlib import Path

import pytest
from helpers import ROOT, load_tool

import pix2pix

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TOOLS = [path for path in sorted((ROOT / "tools").glob("*.py")) if path.stem != "__init__"]
DEFAULTS_IN_WORDS = {  # what a tool does without the flag, where argparse has no default
    ("ablation.py", "--ndf"): "`--ngf`'s", ("test.py", "--tensorflow"): "that of `.venv`"}


def read_flag_tables(text):
    """Flag or argument -> its default, of all tables in a page that have these two columns."""
    found, in_table = {}, False
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[:2] == ["flag", "default"]:
            in_table = True
        elif in_table and cells and set(cells[0]) - set("- :"):
            name = re.match(r"`([\w-]+)", cells[0])[1]
            assert name not in found, f"{name} twice"
            found[name] = cells[1] if "`" in cells[1].strip("`") else cells[1].strip("`")
        in_table = in_table and bool(cells)
    return found


def test_flag_tables_are_read():
    text = """
| other | default |
|---|---|
| `--no` | 1 |

| flag | default | meaning |
| --- | --- | --- |
| `NAME` | required | `a` \\| b |
| `--a VALUE` | `x y` | |
| `--b` / `--no_b` | those of `--a` | |

| `--c` | 2 | |
"""
    assert read_flag_tables(text) == {"NAME": "required", "--a": "x y", "--b": "those of `--a`"}


def test_every_flag_is_documented_with_its_default():
    shown = read_flag_tables((ROOT / "docs/options.md").read_text(encoding="utf-8"))
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


def expected_default(action):
    """How docs/tools.md shows the default of an argument."""
    if action.required:
        return "required"
    if action.nargs == 0:
        return "off"
    if action.default is None:
        return "none"
    if action.dest == "workers":
        assert action.default == os.cpu_count()
        return "number of CPUs"
    if isinstance(action.default, list):
        return "all" if action.default == action.choices else " ".join(map(str, action.default))
    return str(action.default)


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.name)
def test_every_tool_is_documented_with_its_flags_and_defaults(path):
    """In a table, or in the text where there is no default to tell."""
    text = (ROOT / "docs/tools.md").read_text(encoding="utf-8")
    assert f"\n## {path.name}\n" in text
    section = text.split(f"\n## {path.name}\n")[1].split("\n## ")[0]
    shown, actions = read_flag_tables(section), {}
    if "def create_parser(" in path.read_text(encoding="utf-8"):
        actions = {(action.option_strings or [action.metavar or action.dest])[0]: action
                   for action in load_tool(path.name).create_parser()._actions
                   if action.dest != "help"}
    if not shown:
        for flag, action in actions.items():
            assert action.nargs == 0 and flag in section or action.required, flag
        return
    assert {*shown} == {*actions}
    for flag, action in actions.items():
        expected = DEFAULTS_IN_WORDS.get((path.name, flag), expected_default(action))
        assert shown[flag] == expected, flag
        for choice in action.choices or ():
            assert f"`{choice}`" in section, (flag, choice)


def test_every_module_is_documented():
    text = (ROOT / "docs/contributing.md").read_text(encoding="utf-8")
    for path in [*TOOLS, *(ROOT / "tools/lib").glob("*.py")]:
        assert path.stem == "__init__" or f"`{path.name}`" in text, path.name


def test_tests_that_are_named_exist():
    names = {name for path in (ROOT / "tests").rglob("test_*.py")
             for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M)}
    for page in PAGES:
        for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8")):
            assert name in names, (page.name, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_images_exist(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_images_are_small():
    sizes = [path.stat().st_size for path in (ROOT / "docs/images").iterdir()]
    assert sum(sizes) < 8e6 and max(sizes) < 1e6
