"""Input: decoding, splitting, augmentation, order and batches."""

import numpy as np
import pytest
from PIL import Image

import pix2pix
from tools.lib import dataset
from tools.lib.cli import Size, with_options
from tools.lib.dataset import list_images
from tools.lib.geometry import Sizing, Window
from tools.lib.image_types import choose_pair
from tools.lib.schedule import steps_per_epoch
from tools.lib.tf1 import tf


def make_options(folder, *flags):
    return pix2pix.parse_args(["--mode", "train", "--input_dir", str(folder), "--output_dir",
                               str(folder / "none"), "--seed", "5", *flags])


def sizing_of(crop_size, scale_size):
    """Squares, stretched."""
    return Sizing("stretch", Size(scale_size, scale_size), Size(crop_size, crop_size), 32)


def save_gradient_pairs(folder, count, size=40):
    """Pairs whose pixels tell their place: A has (x, y, number), B the same."""
    folder.mkdir(exist_ok=True)
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    for number in range(count):
        half = np.stack([np.tile(ramp, (size, 1)), np.tile(ramp[:, None], (1, size)),
                         np.full((size, size), 20 * number, np.uint8)], axis=2)
        Image.fromarray(np.concatenate([half, half], axis=1)).save(folder / f"{number}.png")
    return folder


def take(options, steps, first_step=0):
    """The first batches, as Examples of arrays."""
    found = list_images(options)
    with tf.Graph().as_default():
        examples = pix2pix.create_examples(found, options, first_step)
        with tf.Session() as sess:
            return [sess.run(examples) for _ in range(steps)]


def test_a_pair_is_split_down_the_middle_and_scaled_to_minus_1_1(tmp_path):
    pixels = np.zeros((256, 513, 3), np.uint8)  # the odd column belongs to neither half
    pixels[:, :256], pixels[:, 256:512], pixels[:, 512:] = (255, 0, 51), (0, 102, 255), 77
    Image.fromarray(pixels).save(tmp_path / "p.png")
    options = make_options(tmp_path, "--scale_size", "256", "--no_flip")
    batch, = take(options, 1)
    np.testing.assert_allclose(batch.inputs[0, 3, 5], [1, -1, -0.6], atol=1e-6)
    np.testing.assert_allclose(batch.targets, np.broadcast_to([-1, -0.2, 1], batch.targets.shape),
                               atol=1e-6)
    other, = take(with_options(options, which_direction="BtoA"), 1)
    np.testing.assert_array_equal(other.inputs, batch.targets)


def test_scaling_is_by_area():
    image = np.random.default_rng(1).random((512, 1024, 3)).astype(np.float32)
    expected = image.reshape(256, 2, 256, 4, 3).mean((1, 3))
    with tf.Graph().as_default(), tf.Session() as sess:
        draws = pix2pix.Augmentation(Window([256, 256], [0, 0], [256, 256]), tf.constant(False))
        got = sess.run(pix2pix.transform(tf.constant(image), draws))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_crop_and_flip_are_where_they_were_drawn():
    image = np.random.default_rng(2).random((261, 261, 2)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as sess:
        draws = pix2pix.Augmentation(Window([261, 261], [2, 4], [256, 256]), tf.constant(True))
        got = sess.run(pix2pix.transform(tf.constant(image), draws))
    np.testing.assert_allclose(got, image[2:258, 4:260][:, ::-1], atol=1e-6)


def test_halves_stay_uint8_until_they_are_scaled():
    """As when they are -1..1 before, but for rounding; only the cropped pixels become float."""
    pixels = np.random.default_rng(3).integers(0, 256, (61, 124, 3), np.uint8)
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        fed = tf.placeholder(tf.uint8, [None, None, 3])
        draws = pix2pix.Augmentation(Window([72, 72], [5, 3], [64, 64]), tf.constant(True),
                                     tf.constant(True))
        halves = choose_pair(False, "BtoA").split(fed)
        early = tf.cast(fed[:, 62:], tf.float32) / 127.5 - 1
        got, expected = sess.run([pix2pix.transform(half, draws)
                                  for half in (halves[0], early)], {fed: pixels})
        resized = [operation.inputs[0].dtype for operation in graph.get_operations()
                   if operation.type == "ResizeArea"]
    np.testing.assert_allclose(got, expected, atol=2e-5)  # of 2; a level is 8e-3
    assert resized == [tf.uint8, tf.float32]


def test_draws_cover_all_places_and_both_flips():
    with tf.Graph().as_default(), tf.Session() as sess:
        number = tf.placeholder(tf.int64, [])
        draws = pix2pix.draw_augmentation(3, number, [40, 40], sizing_of(256, 258), ("flip",))
        assert all(draw is None for draw in draws[2:])
        got = [sess.run((draws.window.corner, draws.flip), {number: value}) for value in range(200)]
    assert {tuple(corner) for corner, _ in got} == {(y, x) for y in range(3) for x in range(3)}
    assert 70 < sum(flip for _, flip in got) < 130


def test_pairs_stay_aligned_under_the_parallel_map(tmp_path):
    options = make_options(save_gradient_pairs(tmp_path, 7), "--batch_size", "3",
                           "--scale_size", "300")
    batches = take(options, 9)
    for batch in batches:
        np.testing.assert_array_equal(batch.inputs, batch.targets)
    flat = np.concatenate([batch.inputs for batch in batches])
    leftmost, rightmost = flat[:, 0, 0, 0], flat[:, 0, -1, 0]
    assert (leftmost < rightmost).any() and (leftmost > rightmost).any()  # both flips happen
    assert len(np.unique(flat[:, 0, 0, 1])) > 5  # and many places


@pytest.mark.parametrize("batch_size", [1, 3, 7, 9])
def test_every_image_once_per_epoch_the_last_batch_smaller(tmp_path, batch_size):
    options = make_options(save_gradient_pairs(tmp_path, 7), "--batch_size", str(batch_size))
    steps = steps_per_epoch(7, batch_size)
    batches = take(options, 3 * steps)
    orders = [np.concatenate([batch.indices for batch in batches[epoch * steps:][:steps]])
              for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(7))
    assert len({tuple(order) for order in orders}) > 1
    assert len(batches[steps - 1].indices) == (7 - 1) % batch_size + 1
    for batch in batches:  # the numbers belong to the images
        blue = (batch.inputs[:, 9, 9, 2] + 1) / 2 * 255
        np.testing.assert_allclose(blue, 20 * batch.indices, atol=0.01)


def test_a_step_is_known_by_its_number_alone(tmp_path):
    options = make_options(save_gradient_pairs(tmp_path, 7), "--batch_size", "3")
    batches = take(options, 7)
    with tf.Graph().as_default(), tf.Session() as sess:
        got = sess.run([pix2pix.indices_of_step(step, 7, options) for step in range(1, 8)])
    for batch, indices in zip(batches, got, strict=True):
        np.testing.assert_array_equal(indices, batch.indices)


@pytest.fixture
def caches(monkeypatch):
    """The caches that are made."""
    made, real = [], dataset.ImageCache
    monkeypatch.setattr(dataset, "ImageCache",
                        lambda *arguments: made.append(real(*arguments)) or made[-1])
    return made


@pytest.mark.parametrize("flags", [
    [], ["--lab_colorization", "--layout", "single"],
    ["--batch_size", "3", "--augment", "rot90", "scale", "noise"]])
@pytest.mark.parametrize("num_held", [3, 7])
def test_the_cache_changes_nothing_and_keeps_to_its_budget(tmp_path, caches, flags, num_held):
    size = 3 * 400 * 800  # bytes of an image: one MiB holds one
    folder = save_gradient_pairs(tmp_path, 7, size=400)
    plain = make_options(folder, "--crop_size", "32", *flags)
    cached = with_options(plain, cache=num_held)
    for one, other in zip(take(plain, 16), take(cached, 16), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    used, = (cache for cache in caches if cache.images)
    assert len(used.images) == num_held and used.room == num_held * (2**20 - size) >= 0
    for number, pixels in used.images.items():  # nothing has written into them
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(folder / f"{number}.png")))


def test_a_cached_image_is_not_read_again(tmp_path, monkeypatch):
    options = make_options(save_gradient_pairs(tmp_path, 3), "--crop_size", "32", "--cache", "1")
    found = list_images(options)
    with tf.Graph().as_default():
        examples = pix2pix.create_examples(found, options)
        with tf.Session() as sess:
            for _ in range(3):
                sess.run(examples)
            for path in found.paths:
                path.unlink()
            got = [int(sess.run(examples.indices)[0]) for _ in range(30)]
    assert all(sorted(got[start:start + 3]) == [0, 1, 2] for start in range(0, 30, 3))


def test_how_many_images_the_cache_holds_is_said_where_it_is_not_all(tmp_path, capsys):
    folder = save_gradient_pairs(tmp_path, 4, size=400)
    list_images(make_options(folder, "--cache", "3"))
    assert "--cache 3 has room for about 3 of 4 images" in capsys.readouterr().out
    list_images(make_options(folder, "--cache", "4"))
    list_images(make_options(folder))
    assert capsys.readouterr().out == ""


def test_order_is_a_function_of_seed_and_epoch():
    with tf.Graph().as_default(), tf.Session() as sess:
        order = sess.run([pix2pix.epoch_order(50, seed, epoch)
                          for seed, epoch in [(1, 0), (1, 0), (1, 1), (2, 0)]])
    np.testing.assert_array_equal(order[0], order[1])
    assert not np.array_equal(order[0], order[2]) and not np.array_equal(order[0], order[3])


@pytest.mark.parametrize("first_step", [2, 4, 5])
def test_input_starts_in_the_middle_of_a_run(tmp_path, first_step):
    options = make_options(save_gradient_pairs(tmp_path, 7), "--batch_size", "2")
    whole = take(options, 7)[first_step:]
    for expected, got in zip(whole, take(options, len(whole), first_step), strict=True):
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_array_equal(a, b)


def test_test_mode_takes_each_once_in_order_and_untouched(tmp_path):
    options = make_options(save_gradient_pairs(tmp_path, 11, size=256), "--batch_size", "4")
    batches = take(with_options(options, mode="test"), 3)
    assert np.concatenate([batch.indices for batch in batches]).tolist() == list(range(11))
    expected = np.asarray(Image.open(tmp_path / "10.png"), np.float32)[:, :256] / 127.5 - 1
    np.testing.assert_allclose(batches[2].inputs[2], expected, atol=1e-5)


def test_grey_palette_alpha_and_jpeg_decode_to_three_channels(tmp_path):
    grey = Image.linear_gradient("L").resize((64, 32))
    for kind, name in [("L", "grey.png"), ("P", "palette.png"), ("RGBA", "alpha.png"),
                       ("L", "grey.jpg"), ("RGB", "colour.JPG")]:
        grey.convert(kind).save(tmp_path / name, "JPEG" if "j" in name.lower() else "PNG")
    for batch in take(make_options(tmp_path), 5):
        assert batch.inputs.shape == (1, 256, 256, 3)
        spread = batch.inputs.max(axis=3) - batch.inputs.min(axis=3)
        assert spread.max() < 0.05 and batch.inputs.std() > 0.1


def test_lab_gives_lightness_and_colour_of_one_image(tmp_path):
    Image.new("RGB", (33, 47), (255, 0, 0)).save(tmp_path / "red.png")
    batch, = take(make_options(tmp_path, "--lab_colorization"), 1)
    assert batch.inputs.shape[3] == 1 and batch.targets.shape[3] == 2
    np.testing.assert_allclose(batch.inputs[0, 0, 0], 53.24 / 50 - 1, atol=1e-3)
    np.testing.assert_allclose(batch.targets[0, 0, 0], [80.09 / 110, 67.20 / 110], atol=1e-3)
    other, = take(make_options(tmp_path, "--lab_colorization", "--which_direction", "BtoA"), 1)
    assert other.inputs.shape[3] == 2 and other.targets.shape[3] == 1


# More augmentation, other sizes, inputs alone


def draws_of(kinds, count=200):
    """The drawn values of so many pairs: a list of dicts, without what is not drawn."""
    with tf.Graph().as_default(), tf.Session() as sess:
        number = tf.placeholder(tf.int64, [])
        draws = pix2pix.draw_augmentation(3, number, [50, 50], sizing_of(64, 72), kinds)
        drawn = {name: value for name, value in draws._asdict().items()
                 if name not in ("noise_seed", "window") and value is not None}
        drawn |= {"scaled": draws.window.scaled, "corner": draws.window.corner}
        return [sess.run(drawn, {number: value}) for value in range(count)]


def test_every_augmentation_is_drawn_in_its_range_and_on_its_own():
    kinds = ("flip", "vflip", "rot90", "scale", "brightness", "contrast")
    got = draws_of(kinds)
    sizes = np.array([draw["scaled"][0] for draw in got])
    assert all(draw["scaled"][0] == draw["scaled"][1] for draw in got)
    assert sizes.min() == 64 and sizes.max() == 90 and len(set(sizes)) == 27
    offsets = np.array([draw["corner"] for draw in got])
    room = (sizes - 64)[:, None]
    assert (offsets >= 0).all() and (offsets <= room).all() and (offsets == room).any()
    turns = [draw["turns"] for draw in got]
    assert set(turns) == {0, 1, 2, 3} and min(turns.count(n) for n in range(4)) > 25
    for name, low, high in (("brightness", -0.2, 0.2), ("contrast", 0.8, 1.2)):
        values = np.array([draw[name] for draw in got])
        assert low <= values.min() < low + 0.02 and high - 0.02 < values.max() <= high
    coins = np.array([[draw["flip"], draw["vflip"], draw["brightness"] > 0] for draw in got])
    assert np.abs(np.corrcoef(coins.T) - np.eye(3)).max() < 0.25
    assert [draw["flip"] for draw in draws_of(("flip",))] == [draw["flip"] for draw in got]
    assert all(list(draw) == ["scaled", "corner"] for draw in draws_of((), 2))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_turned_and_upside_down(turns):
    image = np.random.default_rng(4).random((64, 64, 2)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as sess:
        draws = pix2pix.Augmentation(Window([64, 64], [0, 0], [64, 64]), vflip=tf.constant(True),
                                     turns=tf.constant(turns))
        got = sess.run(pix2pix.transform(tf.constant(image), draws))
    np.testing.assert_allclose(got, np.rot90(image[::-1], turns), atol=1e-6)


def test_brightness_contrast_and_noise_by_formula():
    image = np.random.default_rng(5).uniform(-1, 1, (30, 40, 2)).astype(np.float32)

    def disturbed(**changes):
        with tf.Graph().as_default(), tf.Session() as sess:
            draws = pix2pix.Augmentation(None, **changes)
            return sess.run(pix2pix.jitter_input(tf.constant(image), draws))
    mean = image.mean((0, 1))
    expected = np.clip((image - mean) * 1.2 + mean - 0.15, -1, 1)
    np.testing.assert_allclose(disturbed(contrast=1.2, brightness=-0.15), expected, atol=1e-5)
    noise = disturbed(noise_seed=[1, 2]) - image
    inside = np.abs(image) < 0.7
    assert noise[inside].std() == pytest.approx(0.05, rel=0.1)
    assert (disturbed(noise_seed=[1, 3]) != image + noise).any()
    assert np.abs(disturbed(noise_seed=[1, 2])).max() <= 1


def test_pairs_stay_aligned_under_every_augmentation(tmp_path):
    options = make_options(save_gradient_pairs(tmp_path, 6), "--batch_size", "4", "--crop_size",
                           "32", "--augment", "vflip", "rot90", "scale")
    assert options.scale_size == 36
    batches = take(options, 6)
    for batch in batches:
        np.testing.assert_array_equal(batch.inputs, batch.targets)
        assert batch.inputs.shape[1:] == (32, 32, 3)
    flat = np.concatenate([batch.inputs for batch in batches])
    # x grows to the right, y downwards: eight ways to lie
    ways = {(np.sign(p[0, -1, 0] - p[0, 0, 0]), np.sign(p[-1, 0, 0] - p[0, 0, 0]),
             np.sign(p[0, -1, 1] - p[0, 0, 1]), np.sign(p[-1, 0, 1] - p[0, 0, 1])) for p in flat}
    assert len(ways) > 5


def test_targets_stay_as_they_are_where_inputs_are_disturbed(tmp_path):
    folder = save_gradient_pairs(tmp_path, 4)
    plain = make_options(folder, "--crop_size", "32", "--batch_size", "4")
    changed = with_options(plain, augment=["brightness", "contrast", "noise"])
    for direction in ("AtoB", "BtoA"):
        one, other = (take(with_options(options, which_direction=direction), 1)[0]
                      for options in (plain, changed))
        np.testing.assert_array_equal(one.targets, other.targets)
        assert (one.inputs != other.inputs).any(axis=(1, 2, 3)).all()
    for one, other in zip(take(with_options(plain, mode="test"), 1)[0],
                          take(with_options(changed, mode="test"), 1)[0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_inputs_alone_are_whole_images(tmp_path):
    options = make_options(save_gradient_pairs(tmp_path, 3, size=32), "--crop_size", "64")
    options = with_options(options, mode="test", no_targets=True, layout="single")
    batch, = take(options, 1)
    assert batch.targets == []
    expected = np.asarray(Image.open(tmp_path / "0.png"), np.float32) / 127.5 - 1  # 64x32 pair
    np.testing.assert_allclose(batch.inputs[0], np.repeat(expected, 2, axis=0), atol=1e-5)
    colour = with_options(options, lab_colorization=True, which_direction="BtoA")
    assert take(colour, 1)[0].inputs.shape == (1, 64, 64, 2)


def test_a_step_takes_several_batches_at_once(tmp_path):
    options = make_options(save_gradient_pairs(tmp_path, 7), "--crop_size", "32", "--batch_size",
                           "2", "--grad_accumulation", "2")
    assert [len(batch.indices) for batch in take(options, 4)] == [4, 3, 4, 3]
