"""What docs/reliability.md promises of long and violent runs: minutes, `tools/test.py --slow`."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import (assert_equal_runs, draw_pairs, finish, read_variables, resume, run, start,
                     train_small)
from PIL import Image

from tools.lib.checkpoints import checkpoint_step, list_checkpoints, open_checkpoint, read_step

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_empty_folder")]

MAIN = "sys.exit(pix2pix.main(argv))"
NUM_KILLS = 50


def kill_often(folder, count, seed, errors):
    """Starts or resumes a run that saves every step and kills it, `count` times."""
    draws = random.Random(seed)
    flags = ["--output_dir", folder, "--save_freq", 1, "--progress_freq", 5, "--batch_size", 3,
             "--max_steps", 10**6, "--augment", "vflip", "noise", "--ema_generator", 0.9]
    for _ in range(count):
        resumed = ["--resume"] if Path(folder, "options.json").exists() else []
        process = start(MAIN, *flags, *resumed)
        before, end = list_checkpoints(folder)[:1], time.monotonic() + 120
        while list_checkpoints(folder)[:1] == before and process.poll() is None \
                and time.monotonic() < end:
            time.sleep(0.02)
        hangs = time.monotonic() >= end
        time.sleep(draws.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
        code, out, err = finish(process)
        if code != -signal.SIGKILL or "Traceback" in err or hangs:
            errors.append((code, out, err))


@pytest.mark.usefixtures("optimized")  # as the processes: their bits are compared
def test_killed_fifty_times_a_run_equals_one_that_was_left_alone(tmp_path):
    draw_pairs(tmp_path / "bars/train", 10)
    errors, folders = [], ["one", "two"]
    threads = [threading.Thread(target=kill_often, args=(folder, NUM_KILLS // 2, seed, errors))
               for seed, folder in enumerate(folders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for folder in folders:
        newest = max(checkpoint_step(path) for path in list_checkpoints(folder))
        assert newest >= NUM_KILLS // 2
        end = newest + 7
        assert resume(folder, "--max_steps", end, "--save_freq", 0) == 0
        assert len(list(Path(folder).glob("model-*.index"))) == 3
        assert not list(Path(folder).glob("*temp*"))
        assert train_small(f"{folder}-whole", "--progress_freq", 5, "--batch_size", 3,
                           "--max_steps", end, "--augment", "vflip", "noise", "--ema_generator",
                           0.9) == 0
        assert_equal_runs(f"{folder}-whole", folder)


def test_memory_is_flat_over_two_thousand_steps(tmp_path):
    draw_pairs(tmp_path / "bars/train", 10)
    process = start(MAIN, "--max_steps", 4000, "--progress_freq", 100, "--save_freq", 500,
                    "--summary_freq", 100, "--display_freq", 500)
    resident = {}
    for line in process.stdout:
        found = re.match(r"progress  epoch (\d+)  step (\d+)", line)
        if found:
            step = (int(found[1]) - 1) * 10 + int(found[2])
            state = Path(f"/proc/{process.pid}/status").read_text()
            resident[step] = int(re.search(r"VmRSS:\s+(\d+)", state)[1])
    assert finish(process)[0] == 0
    # until then the allocator takes its arenas, 8 MB at a time
    growth = resident[4000] / resident[2000] - 1
    print(f"resident after 2000 steps {resident[2000]} kB, after 4000 {resident[4000]} kB: "
          f"{growth:.2%}")
    assert growth < 0.02


def mutate(draws, contents, other):
    """A file's bytes with bits flipped, cut, or spliced with another's."""
    kind, place = draws.choice(["flip", "cut", "splice"]), draws.randrange(len(contents))
    if kind == "cut":
        return contents[:place]
    if kind == "splice":
        return contents[:place] + other[draws.randrange(len(other)):]
    changed = bytearray(contents)
    for _ in range(draws.choice([1, 1, 2, 5, 50])):
        changed[draws.randrange(len(changed))] ^= 1 << draws.randrange(8)
    return bytes(changed)


def test_a_thousand_mutated_files_are_used_or_named(tmp_path):
    draws, originals = random.Random(5), []
    waves = np.random.default_rng(1).integers(0, 256, (8, 16, 3), np.uint8)
    image = Image.fromarray(waves).resize((128, 64), Image.BICUBIC)
    for number, more in enumerate([{"format": "JPEG"}, {"format": "JPEG", "progressive": True},
                                   {"format": "PNG"}, {"format": "PNG", "compress_level": 1},
                                   {"format": "BMP"}, {"format": "GIF"}, {"format": "TIFF"},
                                   {"format": "WEBP"}]):
        image.save(tmp_path / f"original{number}", **more)
        originals.append((tmp_path / f"original{number}").read_bytes())
    folder = tmp_path / "bars" / "train"
    folder.mkdir(parents=True)
    for number in range(1000):
        ending = draws.choice([".jpg", ".png", ".tif"])
        (folder / f"{number}{ending}").write_bytes(mutate(draws, *draws.sample(originals, 2)))

    code, _, err = finish(start(MAIN, "--max_steps", 1), 300)
    *lines, last = err.splitlines()
    named = {re.search(r"bars/train/(\S+) cannot be used: ", line)[1] for line in lines}
    assert len(named) == len(lines)
    assert code == 2 and last.startswith(f"pix2pix.py: error: {len(named)} of 1000 images")
    assert 100 < len(named) < 1000
    for name in named:
        (folder / name).unlink()
    num_good = 1000 - len(named)
    print(f"{num_good} of 1000 mutated files can be read, {len(named)} are named")
    half = (num_good + 1) // 2  # two steps see all of them
    code, _, err = finish(start(MAIN, "--max_steps", 2, "--batch_size", half), 300)
    # libjpeg says what it makes up for in a file, but not in which
    assert code == 0 and "pix2pix.py" not in err and "Traceback" not in err
    assert run("--mode", "test", "--input_dir", folder, "--checkpoint", "run", "--output_dir",
               "out") == 0
    assert json.loads(Path("out/metrics.json").read_text())["count"] == num_good


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        draw_pairs(tmp_path / "bars/train", 3)
        code, _, err = finish(start(MAIN, "--output_dir", "disk/run", "--save_freq", 1,
                                    "--keep_checkpoints", 100, "--max_steps", 100))
        last = err.splitlines()[-1]
        assert code == 1 and "cannot save model-" in last and "o space left" in last
        assert "Traceback" not in err
        whole = open_checkpoint(disk / "run")
        assert f"model-{read_step(whole)} is intact" in last
        assert list_checkpoints(disk / "run")[0] == whole.path  # nothing half is newer
        step = read_step(whole)
        assert step > 3
        for path in [*disk.glob("run/events*"), *disk.glob("run/model-1.*")]:  # makes room
            path.unlink()
        assert resume("disk/run", "--max_steps", step + 1, "--keep_checkpoints", 1) == 0
        assert read_variables("disk/run")["global_step"] == step + 1
    finally:
        os.chdir("/")
        subprocess.run(["umount", str(disk)], check=True)
