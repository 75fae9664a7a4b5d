"""killing.py: it ends, whatever the tool that it kills does."""

import killing
import pytest


def write_tool(path, code):
    """Writes a tool that works on the folder given to it."""
    path.write_text(f"import os, sys, time\nfolder = sys.argv[1]\n{code}\n")
    return path


def test_a_command_that_never_completes_fails_with_what_happened(tmp_path, monkeypatch):
    """Killed before it ends each time, it makes no progress: from the start as before."""
    monkeypatch.setattr(killing, "MAX_STARTS", 3)
    tool = write_tool(tmp_path / "slow.py", """
if os.listdir(folder):
    time.sleep(30)
open(os.path.join(folder, "a"), "w").close()""")
    with pytest.raises(AssertionError, match=(
            r"3 starts have brought 3 of 15 kills, [0-3] of 3 between .*, started 3 times, "
            r"has not completed: .*slow\.py")):
        killing.kill_at_random([tool, tmp_path / "d"], lambda: fill(tmp_path / "d"), tmp_path / "d",
                               seed=1)


def test_a_command_that_is_too_fast_to_kill_fails_too(tmp_path, monkeypatch):
    monkeypatch.setattr(killing, "MAX_STARTS", 3)
    real = killing.start

    def start(*command):
        """A tool that has ended before it is killed."""
        running = real(*command)
        running.wait(killing.TIMEOUT)
        return running
    monkeypatch.setattr(killing, "start", start)
    tool = write_tool(tmp_path / "fast.py", "open(os.path.join(folder, 'a'), 'w').close()")
    with pytest.raises(AssertionError, match="3 starts have brought 0 of 15 kills"):
        killing.kill_at_random([tool, tmp_path / "d"], (tmp_path / "d").mkdir, tmp_path / "d",
                               seed=1)


def fill(folder):
    """Makes a folder: empty for the clean run, then with a file that makes the tool wait."""
    marker = folder.with_name("filled")
    folder.mkdir()
    if marker.exists():
        (folder / "wait").touch()
    marker.touch()
