"""The house: who imports whom, how long the script is, and what runs without libraries."""

import ast
import re
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT

LIB = {path.stem: path for path in (ROOT / "tools/lib").glob("*.py") if path.stem != "__init__"}
COMMANDS = {path.stem: path for path in (ROOT / "tools").glob("*.py") if path.stem != "__init__"}
ORDER = [  # modules import from earlier groups, or earlier in their own
    ["cli", "files", "provenance", "foreign_flags", "tf1", "workers", "towers",
     "cluster"],
    ["colour", "values", "colour_map", "label_maps", "exif", "image_files", "stored", "images",
     "geometry", "image_types", "display", "foreign_files", "fast_conv", "tiling", "diffaugment",
     "schedule", "run_folder", "page", "sheet", "sample_run"],
    ["partners", "label_metrics", "metrics", "run_page", "results_page", "checkpoints", "dataset",
     "inputs", "drawing", "survey", "comparison", "read_back", "outside_metrics", "evaluation_page"],
    ["options", "resume", "run_log", "testing", "validation", "monitor"],
    ["models", "runtimes", "export_formats", "served_models", "rest_predict", "server"]]
BASELINES = {"keras_baseline", "torch_baseline"}  # no commands; benchmark.py compares with them
USE_A_MODEL = {  # and so may import pix2pix
    "ablation", "apply", "benchmark", "evaluate", "inspect-checkpoint", "serve"}


# ---- imports


def find_imports(source):
    """The full names of all modules, and of what is imported from them, anywhere in a source."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant) \
                and ast.unparse(node.func).endswith(("import_module", "__import__", "run_module")):
            names.add(node.args[0].value)
    return names


def imports_of(path):
    """`find_imports` of a file."""
    return find_imports(path.read_text(encoding="utf-8"))


def test_imports_are_found_wherever_they_are():
    source = ("import a\nimport b.c as d\nfrom e import f, g\ndef h():\n    from i.j import k\n"
              "    importlib.import_module('l')\n    __import__('m')\n    import_module(n)\n")
    assert find_imports(source) == {"a", "b.c", "e", "e.f", "e.g", "i.j", "i.j.k", "l", "m"}


def test_every_module_has_a_place_in_the_order():
    assert {*sum(ORDER, [])} == {*LIB}


@pytest.mark.parametrize("name", LIB)
def test_lib_imports_from_earlier_modules_alone(name):
    """So there are no circles, and nothing in lib knows the script or a command."""
    modules = sum(ORDER, [])
    earlier = modules[:modules.index(name)]
    for imported in imports_of(LIB[name]):
        first, *rest = imported.split(".")
        assert first not in ("pix2pix", *COMMANDS), imported
        if first == "tools" and imported not in ("tools", "tools.lib"):
            assert rest[0] == "lib" and rest[1] in earlier, imported


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_do_not_import_each_other(name):
    others = {*COMMANDS} - {name} - (BASELINES if name == "benchmark" else set())
    imports = imports_of(COMMANDS[name])
    for imported in imports:
        first, *rest = imported.split(".")
        assert first not in others, imported
        if first == "tools" and rest:
            assert rest[0] not in others and rest[0] in ("lib", *BASELINES), imported
    assert ("pix2pix" in imports) <= (name in USE_A_MODEL)


def test_the_script_imports_lib_alone():
    for imported in imports_of(ROOT / "pix2pix.py"):
        first, *rest = imported.split(".")
        assert first not in COMMANDS, imported
        assert first != "tools" or rest[:1] == ["lib"], imported


def test_the_script_is_short_enough_to_be_read():
    assert len((ROOT / "pix2pix.py").read_text(encoding="utf-8").splitlines()) <= 1800


# ---- what runs without libraries


def run_python(path, *arguments, flags=("-E", "-S")):
    """A Python without what is installed runs a file: exit code, stdout and stderr."""
    done = subprocess.run([sys.executable, *flags, str(path), *arguments], capture_output=True,
                          text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_cli_needs_the_standard_library_alone():
    code = ("import sys; sys.path.insert(0, sys.argv[1]); import tools.lib.cli; "
            "print(*{name.split('.')[0] for name in sys.modules})")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(ROOT)], check=True,
                          capture_output=True, text=True)
    assert {*done.stdout.split()} - {*sys.stdlib_module_names} == {"__main__", "tools"}


@pytest.mark.parametrize("left", [[], ["tools"]])
def test_the_script_without_its_tools_says_so(tmp_path, left):
    shutil.copy(ROOT / "pix2pix.py", tmp_path)
    for folder in left:  # but not what is in it
        (tmp_path / folder).mkdir()
    code, out, err = run_python(tmp_path / "pix2pix.py", "--help")
    assert (code, out) == (2, "")
    assert err == ("pix2pix.py: error: the folder tools is missing: copy it beside pix2pix.py\n")


@pytest.mark.parametrize("path", [ROOT / "pix2pix.py", *COMMANDS.values()],
                         ids=lambda path: path.name)
@pytest.mark.parametrize("arguments", [["--help"], []], ids=["help", "none"])
def test_every_command_without_libraries_says_how_to_get_them(path, arguments):
    if path.stem in BASELINES:
        return
    if path.stem in ("quickstart", "test"):  # which get them
        if arguments:
            code, out, err = run_python(path, *arguments)
            assert (code, err) == (0, "") and out.startswith(f"usage: {path.name}")
        return
    code, out, err = run_python(path, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.fullmatch(rf"{re.escape(path.name)}: error: [\w, ]+ not installed for this Python: "
                        rf".*`python3 tools/test.py --install_only` in {re.escape(str(ROOT))} .*\n",
                        err)
