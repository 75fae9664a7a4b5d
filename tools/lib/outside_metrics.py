"""FID and LPIPS, by the packages and weights that define them, where the user has installed these.

Nothing is downloaded: without its weights, each package would fetch them at first use.
"""

from __future__ import annotations

import importlib
import platform
import tempfile
from pathlib import Path

import numpy as np

from tools.lib.cli import UserError, describe_error
from tools.lib.images import read_image, write_image
from tools.lib.metrics import Metric

FID = Metric(
    "FID", "lower", 2, "Fréchet distance of Inception's features of the outputs and of their "
    "targets (Heusel et al. 2017), by clean-fid: compute_fid, mode clean, images as 8-bit RGB PNG "
    "files at the size that is written. It depends on the number of images: compare only equal "
    "numbers. Of fewer than some 2,000 images it is far too high", None)
LPIPS = Metric(
    "LPIPS", "lower", 4, "learned perceptual distance of an output and its target (Zhang et al. "
    "2018), by lpips: version 0.1, AlexNet, RGB -1..1 at the size that is written", None)
INCEPTION = "inception-2015-12-05.pt"  # in the folder where clean-fid looks for it
ALEXNET = "alexnet-owt-*.pth"  # in torchvision's cache


def import_package(name, flag, package):
    """A module that is installed only if the user wants it. Raises UserError."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{flag} needs {package} ({describe_error(error)}): install it with `pip "
                        f"install {package}`") from None


def require_weights(flag, folder, pattern, command):
    """Raises UserError where a package has no weights in its folder. command: Python that downloads
    them."""
    if not any(Path(folder).glob(pattern)):
        raise UserError(f"{flag} needs weights, {Path(folder, pattern)}: download them with "
                        f"`python -c '{command}'`")


def choose_device(torch):
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_fid():
    """A function from files of outputs and those of their targets to FID. Raises UserError."""
    fid = import_package("cleanfid.fid", "--fid", "clean-fid")
    torch = import_package("torch", "--fid", "torch")
    folder = "." if platform.system() == "Windows" else "/tmp"
    require_weights("--fid", folder, INCEPTION, "from cleanfid.downloads_helper import *; "
                    f"check_download_inception(\"{folder}\")")

    def measure(outputs, targets):
        """FID of two lists of paths."""
        with tempfile.TemporaryDirectory() as root:  # clean-fid takes all images of a folder
            folders = [Path(root, name) for name in ("outputs", "targets")]
            for place, paths in zip(folders, (outputs, targets), strict=True):
                place.mkdir()
                for number, path in enumerate(paths):
                    write_image(place / f"{number}.png", read_image(path), sync=False)
            return float(fid.compute_fid(
                *map(str, folders), mode="clean", num_workers=0, batch_size=32, verbose=False,
                device=choose_device(torch), use_dataparallel=False))
    return measure


def load_lpips():
    """A function from an output and its target, uint8 [height, width, 3], to LPIPS. Raises
    UserError."""
    lpips = import_package("lpips", "--lpips", "lpips")
    torch = import_package("torch", "--lpips", "torch")
    require_weights("--lpips", Path(torch.hub.get_dir(), "checkpoints"), ALEXNET,
                    "import lpips; lpips.LPIPS(net=\"alex\")")
    device = choose_device(torch)
    network = lpips.LPIPS(net="alex", version="0.1", verbose=False).to(device)

    def measure(output, target):
        """LPIPS of one image."""
        batches = [torch.from_numpy(np.ascontiguousarray(  # [height, width, 3] -> [1, 3, ...]
            image.transpose(2, 0, 1)[None], np.float32) / 127.5 - 1).to(device)
            for image in (output, target)]
        with torch.no_grad():
            return float(network(*batches).item())
    return measure
