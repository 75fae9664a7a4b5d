"""Checkpoints of affinelayer's scripts, in tests/golden: the images they give, how they train on.

What the images should be is computed here in NumPy, without this project's code.
"""

import importlib.util
import json

import numpy as np
import pytest
from helpers import ROOT, read_variables, run
from PIL import Image

GOLDEN = ROOT / "tests/golden"
NAMES = ["plain", "separable", "lab", "oldest"]
NEW_NAMES = {  # of the oldest generation -> of 2018
    "/deconv/filter": "/conv2d_transpose/kernel", "/conv/filter": "/conv2d/kernel",
    "/batchnorm/scale": "/batch_normalization/gamma",
    "/batchnorm/offset": "/batch_normalization/beta"}


def new_name(name):
    """The name of 2018 for a variable of any generation."""
    for old, new in NEW_NAMES.items():
        name = name.replace(old, new)
    return name


def draw_image(width, seed):
    """[256, width, 3] uint8: waves of every colour, black to white, with sharp edges."""
    y, x = np.mgrid[:256, :width] / 256
    waves = np.random.default_rng(seed).uniform(0.5, 3, [3, 3])
    image = np.stack([np.sin(6 * (a * x + b * y + c)) for a, b, c in waves], axis=-1)
    image[40:90, 30:200] *= -1
    image[150:220, 20:120] = image[150:220, 20:120].round()
    return ((image + 1) * 127.5).astype(np.uint8)


# The reference: one image [height, width, channels] in float64


class Reference:
    """affinelayer's generator, with the variables of one of its checkpoints."""

    def __init__(self, arrays):
        self.arrays = {new_name(name): array.astype(np.float64) for name, array in arrays.items()}

    def get(self, name):
        """A variable, by its name of 2018; a bias that the oldest generation lacks is 0."""
        return self.arrays.get(name, 0) if name.endswith("/bias") else self.arrays[name]

    def conv(self, x, scope):
        """[height, width, in] -> [height/2, width/2, out]: 4x4, stride 2, padding SAME."""
        if f"{scope}/separable_conv2d/bias" in self.arrays:
            return self.separable(x, scope, stride=2)
        kernel, padded = self.get(f"{scope}/conv2d/kernel"), np.pad(x, [(1, 1), (1, 1), (0, 0)])
        return self.get(f"{scope}/conv2d/bias") + sum(
            padded[i:i + len(x):2, j:j + x.shape[1]:2] @ kernel[i, j]
            for i in range(4) for j in range(4))

    def deconv(self, x, scope):
        """[height, width, in] -> [2height, 2width, out]: the transpose of such a convolution."""
        if f"{scope}/separable_conv2d/bias" in self.arrays:
            return self.separable(x.repeat(2, axis=0).repeat(2, axis=1), scope, stride=1)
        kernel = self.get(f"{scope}/conv2d_transpose/kernel")
        height, width, _ = x.shape
        padded = np.zeros([2 * height + 2, 2 * width + 2, kernel.shape[2]])
        for i in range(4):
            for j in range(4):
                padded[i:i + 2 * height:2, j:j + 2 * width:2] += x @ kernel[i, j].T
        return padded[1:-1, 1:-1] + self.get(f"{scope}/conv2d_transpose/bias")

    def separable(self, x, scope, stride):
        """[height, width, in] -> [height/stride, width/stride, out]: 4x4 per channel, padding SAME,
        then 1x1 across channels."""
        depthwise, pointwise, bias = (self.get(f"{scope}/separable_conv2d/{name}") for name in (
            "depthwise_kernel", "pointwise_kernel", "bias"))
        after = 1 if stride == 2 else 2  # SAME adds 4 - stride rows, the odd one below
        padded = np.pad(x, [(1, after), (1, after), (0, 0)])
        return bias + sum(
            padded[i:i + len(x):stride, j:j + x.shape[1]:stride] * depthwise[i, j, :, 0]
            for i in range(4) for j in range(4)) @ pointwise[0, 0]

    def norm(self, x, scope):
        """Batch normalization with the statistics of this one image, epsilon 1e-5."""
        gamma, beta = (self.get(f"{scope}/batch_normalization/{name}") for name in (
            "gamma", "beta"))
        return gamma * (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5) + beta

    def generate(self, x):
        """The generator: -1..1 [256, 256, in] -> -1..1 [256, 256, out], without dropout."""
        skips = [self.conv(x, "generator/encoder_1")]
        for number in range(2, 9):  # each with a norm, the innermost too
            scope, x = f"generator/encoder_{number}", skips[-1]
            skips.append(self.norm(self.conv(np.maximum(x, 0.2 * x), scope), scope))
        x = skips.pop()
        for number in range(8, 0, -1):
            scope = f"generator/decoder_{number}"
            x = self.deconv(np.maximum(x, 0), scope)
            if number > 1:
                x = np.concatenate([self.norm(x, scope), skips.pop()], axis=2)
        return np.tanh(x)


def split_image(image, options):
    """An image file's content uint8 -> input and target of a model, -1..1."""
    if options["lab_colorization"]:
        lab = rgb_to_lab(image / 255)
        halves = lab[..., :1] / 50 - 1, lab[..., 1:] / 110
    else:
        halves = np.split(image / 127.5 - 1, 2, axis=1)
    return halves if options["which_direction"] == "AtoB" else halves[::-1]


def shown_outputs(inputs, outputs, options):
    """What a test writes for inputs and outputs -1..1: uint8. Lab: colour on the input's L."""
    if options["lab_colorization"]:
        return to_uint8(lab_to_rgb(np.concatenate([(inputs + 1) * 50, outputs * 110], axis=2)))
    return to_uint8((outputs + 1) / 2)


def to_uint8(image):
    """0..1 -> 0..255, by the rule of tf.image.convert_image_dtype(..., saturate=True)."""
    return np.floor(np.clip(image, 0, 1) * 255.5).clip(0, 255).astype(int)


def rgb_to_lab(rgb):
    """sRGB 0..1 -> CIE L*a*b*, white point D65 (IEC 61966-2-1; CIE 15)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.moveaxis(linear @ np.array([[0.412453, 0.357580, 0.180423],
                                             [0.212671, 0.715160, 0.072169],
                                             [0.019334, 0.119193, 0.950227]]).T, -1, 0)
    x, y, z = (np.where(value > (6 / 29) ** 3, np.cbrt(value), value * (29 / 6) ** 2 / 3 + 4 / 29)
               for value in (x / 0.950456, y, z / 1.088754))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab):
    """CIE L*a*b*, white point D65 -> sRGB, clipped to 0..1."""
    y = (lab[..., 0] + 16) / 116
    x, z = y + lab[..., 1] / 500, y - lab[..., 2] / 200
    x, y, z = (np.where(value > 6 / 29, value**3, 3 * (6 / 29) ** 2 * (value - 4 / 29))
               for value in (x, y, z))
    linear = np.stack([0.950456 * x, y, 1.088754 * z], axis=-1) @ np.array(
        [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560],
         [0.0556434, -0.2040259, 1.0572252]]).T
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


# The tests


def image_of(name):
    """The image that a checkpoint is tested with, uint8: a pair, for Lab a single image."""
    return draw_image(256 if name == "lab" else 512, seed=NAMES.index(name))


@pytest.fixture(scope="module")
def image_dirs(tmp_path_factory):
    """Name of a checkpoint -> a folder with its image."""
    dirs = {name: tmp_path_factory.mktemp(name) for name in NAMES}
    for name, folder in dirs.items():
        Image.fromarray(image_of(name)).save(folder / "drawn.png")
    return dirs


def load_golden(name):
    """A checkpoint's variables and options."""
    return read_variables(GOLDEN / name), json.loads((GOLDEN / name / "options.json").read_text())


def read_image(path):
    """[height, width, channels] of a PNG file."""
    with Image.open(path) as image:
        return np.atleast_3d(np.asarray(image, int))


def has_no_influence(name):
    """Whether a generator's variable cannot change its outputs: a norm takes away what a bias
    before it adds, and at 1x1 leaves nothing but its own offset."""
    if "/encoder_8/" in name:
        return not name.endswith(("beta", "offset"))
    return name.endswith("/bias") and "coder_1/" not in name


def is_weight(name):
    """Whether a checkpoint's variable is a trained one of the generator."""
    return name.startswith("generator/") and not any(
        part in name for part in ("/Adam", "/moving_"))


@pytest.mark.parametrize("name", NAMES)
def test_images_are_those_of_the_reference(image_dirs, tmp_path, name):
    assert run("--mode", "test", "--input_dir", image_dirs[name], "--checkpoint", GOLDEN / name,
               "--output_dir", tmp_path) == 0
    arrays, options = load_golden(name)
    inputs, _ = split_image(image_of(name), options)
    assert np.abs(read_image(tmp_path / "images/drawn-inputs.png")
                  - to_uint8((inputs + 1) / 2)).max() <= 1
    got = read_image(tmp_path / "images/drawn-outputs.png")
    assert got.std(axis=(0, 1)).max() > 10  # there is something to compare
    expected = shown_outputs(inputs, Reference(arrays).generate(inputs), options)
    assert np.abs(got - expected).max() <= 1
    # with one variable wrong it is another image
    noise = np.random.default_rng(5)
    for changed in filter(is_weight, sorted(arrays)):
        wrong = arrays[changed] + 0.5 * noise.standard_normal(arrays[changed].shape)
        outputs = Reference({**arrays, changed: wrong}).generate(inputs)
        difference = np.abs(got - shown_outputs(inputs, outputs, options)).max()
        assert difference <= 1 if has_no_influence(changed) else difference > 3, changed


@pytest.mark.parametrize("name", ["plain", "oldest"])
def test_training_continues_with_adams_state(image_dirs, tmp_path, name):
    lr = 0.01
    assert run("--mode", "train", "--input_dir", image_dirs[name], "--checkpoint", GOLDEN / name,
               "--output_dir", tmp_path / "run", "--max_steps", 1, "--lr", lr, "--precision",
               "float32", "--scale_size", 256, "--no_flip", "--no_dropout") == 0
    (arrays, options), after = load_golden(name), read_variables(tmp_path / "run")
    step = int(arrays["global_step"]) + 1
    assert after["global_step"] == step
    # the loss of the generator that was loaded, in the average that was loaded
    inputs, targets = split_image(image_of(name), options)
    l1 = np.abs(Reference(arrays).generate(inputs) - targets).mean()
    average, share = "generator_loss/Mean_1/ExponentialMovingAverage", 0.01 / (1 - 0.99**step)
    assert after[average] == pytest.approx((1 - share) * arrays[average] + share * l1, rel=1e-4)

    before = {new_name(old): array.astype(np.float64) for old, array in arrays.items()}
    rate = lr * np.sqrt(1 - 0.999**step) / (1 - 0.5**step)
    weights = [variable for variable in after if f"{variable}/Adam" in after]
    assert len(weights) == 76
    for variable in weights:
        mean, square = (after[f"{variable}/{slot}"] for slot in ("Adam", "Adam_1"))
        old, old_mean, old_square = (  # biases and slots that the checkpoint lacks start at 0
            before.get(variable + slot, np.zeros_like(mean)) for slot in ("", "/Adam", "/Adam_1"))
        gradient = 2 * mean - old_mean  # as mean is half the old one and half the gradient
        np.testing.assert_allclose(square, 0.999 * old_square + 0.001 * gradient**2, rtol=1e-4,
                                   atol=1e-12, err_msg=variable)
        np.testing.assert_allclose(after[variable], old - rate * mean / (np.sqrt(square) + 1e-8),
                                   atol=1e-6, err_msg=variable)


def test_the_script_beside_the_checkpoints_makes_them(tmp_path):
    spec = importlib.util.spec_from_file_location("make_old_checkpoints",
                                                  GOLDEN / "make_old_checkpoints.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["--output_dir", str(tmp_path)]) == 0
    for name in NAMES:
        (arrays, options), made = load_golden(name), read_variables(tmp_path / name)
        assert made.keys() == arrays.keys()
        for variable, array in arrays.items():
            np.testing.assert_array_equal(made[variable], array, err_msg=variable)
        assert json.loads((tmp_path / name / "options.json").read_text()) == options
