"""Losses and the training step: arithmetic, what a step changes, and that it can be repeated."""

import numpy as np
import pytest
from helpers import draw, run_graph, smooth_images, start_session

import pix2pix
from tools.lib.checkpoints import EMA_SUFFIX, open_variables, read_step
from tools.lib.cli import with_options
from tools.lib.diffaugment import augment_pair, cutout_mask, jitter_colour, translate_images
from tools.lib.tf1 import tf

# layers with a norm: their biases have no gradient, as the norm takes them out again
NORMED = tuple(f"generator/encoder_{number}/" for number in range(2, 6)) + tuple(
    f"generator/decoder_{number}/" for number in range(2, 7)) + tuple(
    f"discriminator/layer_{number}/" for number in range(2, 5))


def create_graph(options, batch, decay_steps):
    """A model on one fixed batch, which can be fed another: its graph, Examples, Model, saver."""
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(7)
        shape = [None, options.crop_size, options.crop_size, 3]
        examples = pix2pix.Examples(tf.placeholder_with_default(np.arange(batch), [None]), *(
            tf.placeholder_with_default(smooth_images(seed, batch, size=shape[1]), shape)
            for seed in (1, 2)))
        model = pix2pix.create_model(examples, options, decay_steps)
        return graph, examples, model, tf.train.Saver()


class Trainer:
    """A session of such a graph."""

    def __init__(self, graph, examples, model, saver, fill):
        self.graph, self.examples, self.model, self.saver = graph, examples, model, saver
        self.variables = {variable.op.name: variable
                          for variable in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)}
        self.sess = start_session(graph, fill)

    def step(self):
        """One training step; its losses and the averages after it."""
        losses, averages, _ = self.sess.run((self.model.losses, self.model.averages,
                                             self.model.train))
        return losses, averages

    def history(self, steps):
        """The losses that the model has, of so many steps, [steps, losses]."""
        return np.array([[*self.step()[0].values()] for _ in range(steps)])

    def values(self, scope=""):
        """Name -> value of the variables of a scope."""
        return self.sess.run({name: variable for name, variable in self.variables.items()
                              if name.startswith(scope)})

    def gradients(self):
        """Name -> gradient, now."""
        return self.sess.run(self.named_gradients())

    def named_gradients(self):
        """Name -> tensor of a variable's gradient."""
        return {variable.op.name: gradient for gradient, variable in self.model.gradients}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Makes Trainers of 64x64 images, each with a session of its own; graphs are shared and made
    once."""
    folder = tmp_path_factory.mktemp("images")
    options = with_options(pix2pix.parse_args(
        ["--mode", "train", "--input_dir", str(folder), "--output_dir", str(folder / "run"),
         "--crop_size", "64", "--seed", "11", "--precision", "float32"]), ngf=2, ndf=3, lr=0.03)
    graphs = {}

    def build(batch=1, fill=True, **changes):
        changed = with_options(options, **changes)
        key = batch, str(changed)
        if key not in graphs:
            graphs[key] = create_graph(changed, batch, (2, 6))
        return Trainer(*graphs[key], fill)
    return build


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def test_losses():
    real, fake = draw(1, 2, 5, 6, 1, low=-9, high=9), draw(2, 2, 5, 6, 1, low=-9, high=9)
    targets, outputs = draw(3, 2, 5, 7, 3), draw(4, 2, 5, 7, 3)
    discrim, gan, l1 = run_graph(lambda: (
        pix2pix.discriminator_loss(tf.constant(real), tf.constant(fake)),
        pix2pix.generator_gan_loss(tf.constant(fake)), pix2pix.l1_loss(targets, outputs)))
    assert discrim == pytest.approx(
        np.mean(-np.log(sigmoid(real))) + np.mean(-np.log(1 - sigmoid(fake))), rel=1e-5)
    assert gan == pytest.approx(np.mean(-np.log(sigmoid(fake))), rel=1e-5)
    assert l1 == pytest.approx(np.abs(targets - outputs).mean(), rel=1e-5)
    assert discrim != pytest.approx(
        np.mean(-np.log(sigmoid(fake))) + np.mean(-np.log(1 - sigmoid(real))), rel=1e-2)


@pytest.mark.parametrize("real, fake, discrim, gan", [
    (50, -50, 2 * np.exp(-50.0), 50), (-50, 50, 100, np.exp(-50.0)), (50, 50, 50, np.exp(-50.0)),
    (0, 0, 2 * np.log(2), np.log(2))])
def test_losses_far_out(real, fake, discrim, gan):
    def build():
        logits = [tf.fill([2, 3, 3, 1], float(value)) for value in (real, fake)]
        losses = pix2pix.discriminator_loss(*logits), pix2pix.generator_gan_loss(logits[1])
        return losses, tf.gradients(losses[0], logits), tf.gradients(losses[1], logits[1])[0]
    losses, (real_slope, fake_slope), gan_slope = run_graph(build)
    np.testing.assert_allclose(losses, [discrim, gan], rtol=1e-5)
    for slope, expected in ((real_slope, sigmoid(np.array(real)) - 1),
                            (fake_slope, sigmoid(np.array(fake))),
                            (gan_slope, sigmoid(np.array(fake)) - 1)):
        np.testing.assert_allclose(slope.sum(), expected, rtol=1e-5, atol=1e-12)


def test_the_step_reports_the_losses_of_its_outputs(make):
    trainer = make(batch=2)
    outputs, real, fake, losses = trainer.sess.run(
        (trainer.model.outputs, trainer.model.predict_real, trainer.model.predict_fake,
         trainer.model.losses))
    assert real.shape == fake.shape == (2, 6, 6, 1)
    assert losses["discrim_loss"] == pytest.approx(
        np.mean(-np.log(real)) + np.mean(-np.log(1 - fake)), rel=1e-4)
    assert losses["gen_loss_GAN"] == pytest.approx(np.mean(-np.log(fake)), rel=1e-4)
    assert losses["gen_loss_L1"] == pytest.approx(
        np.abs(outputs - smooth_images(2, 2, size=64)).mean(), rel=1e-5)
    assert np.abs(real - fake).max() > 0.01


@pytest.mark.parametrize("separable", [False, True])
def test_every_variable_has_a_gradient(make, separable):
    trainer = make(batch=2, separable_conv=separable)
    gradients = trainer.gradients()
    assert set(gradients) == {name for name in trainer.variables
                              if name.startswith(("generator/", "discriminator/"))
                              and "Adam" not in name and "Average" not in name
                              and not name.startswith(("generator_", "discriminator_"))}
    for name, gradient in gradients.items():
        kernel = gradients.get(name.replace("bias", "kernel"),
                               gradients.get(name.replace("bias", "pointwise_kernel")))
        if name.endswith("bias") and name.startswith(NORMED):
            assert np.abs(gradient).max() < 1e-3 * np.abs(kernel).max(), name
        else:
            assert np.abs(gradient).max() > 1e-6, name
            # kernels at 1x1 only ever see their middle 2x2, and relus take some channels
            share = 0.1 if "coder_6/" in name else 0.3
            assert (gradient != 0).mean() > share, name


def test_l1_reaches_every_skip(options):
    with tf.Graph().as_default() as graph:
        targets = tf.constant(smooth_images(2, 2))
        outputs = pix2pix.create_generator(
            tf.constant(smooth_images(1, 2)), 3, 2, pix2pix.choose_generator("unet", 8),
            pix2pix.choose_layers(options))
        skips = []
        for number in range(1, 9):
            layer = [operation for operation in graph.get_operations()
                     if operation.name.startswith(f"encoder_{number}/")
                     and operation.type in ("BiasAdd", "FusedBatchNormV3")]
            skips.append(layer[-1].outputs[0])
        loss = pix2pix.l1_loss(targets, outputs)
        # stopped at the next encoder layer: what is left went through the skip itself
        slopes = [tf.gradients(loss, skip, stop_gradients=skips[number:])[0]
                  for number, skip in enumerate(skips, 1)]
        with start_session(graph, fill=True) as sess:
            for number, slope in enumerate(sess.run(slopes), 1):
                assert slope.shape == (2, *[2 ** (8 - number)] * 2, 2 * min(2 ** (number - 1), 8))
                assert (slope != 0).mean() > 0.2, f"encoder_{number}"


def adam_first_step(gradient, lr):
    """m / sqrt(v) is g / |g|, as both averages hold one value; TensorFlow's epsilon is 1e-8
    before the correction sqrt(1 - beta2)."""
    return -lr * gradient / (np.abs(gradient) + 1e-8 / np.sqrt(1 - 0.999))


def test_first_step_is_adams_with_gradients_from_before_it(make):
    lr, trainer = 0.03, make(gan_weight=1.0, l1_weight=0.0)
    gradients, before = trainer.gradients(), trainer.values()
    trainer.step()
    after = trainer.values()
    signs = []
    for name, gradient in gradients.items():
        clear = np.abs(gradient) > 1e-5
        change = (after[name] - before[name])[clear]
        np.testing.assert_allclose(change, adam_first_step(gradient, lr)[clear], rtol=2e-3,
                                   atol=1e-6, err_msg=name)
        np.testing.assert_allclose(change, -lr * np.sign(gradient[clear]), rtol=0.05)
        signs.append(clear.mean())
    assert np.mean(signs) > 0.6
    # the discriminator's step comes out otherwise: its new weights give the generator other signs
    with trainer.graph.as_default():
        for name, value in before.items():
            if not name.startswith("discriminator/"):
                trainer.variables[name].load(value, trainer.sess)
    later = trainer.gradients()
    turned = [np.sign(later[name]) != np.sign(gradients[name]) for name in gradients
              if name.startswith("generator/") and name.endswith("kernel")]
    assert np.mean(np.concatenate([turn.ravel() for turn in turned])) > 0.05


def test_weights_of_the_losses_scale_the_generators_gradients(make):
    both, gan, l1 = (make(gan_weight=gan_weight, l1_weight=l1_weight).gradients()
                     for gan_weight, l1_weight in ((3.0, 30.0), (1.0, 0.0), (0.0, 1.0)))
    for name, gradient in both.items():
        if name.startswith("discriminator/"):
            np.testing.assert_allclose(gradient, gan[name], rtol=1e-3, atol=1e-6)
        elif not (name.endswith("bias") and name.startswith(NORMED)):
            size = np.abs(gradient).max()
            np.testing.assert_allclose(gradient, 3 * gan[name] + 30 * l1[name], rtol=1e-3,
                                       atol=1e-3 * size, err_msg=name)
            assert np.abs(gradient - 3 * gan[name]).max() > 0.01 * size
            assert np.abs(gradient - 30 * l1[name]).max() > 0.01 * size


def test_each_network_is_changed_by_its_own_loss_alone(make):
    none = make(gan_weight=1e-30, l1_weight=0.0)
    before = none.values()
    none.step()
    after = none.values()
    for name in before:
        if name.startswith("generator/"):
            np.testing.assert_allclose(before[name], after[name], atol=1e-18, err_msg=name)
        elif name.startswith("discriminator/") and name.endswith("kernel"):
            assert (before[name] != after[name]).mean() > 0.5
    # and the other way round: the discriminator's step is the same whatever the generator's loss
    much = make(gan_weight=3.0, l1_weight=7.0)
    much.step()
    changed = much.values()
    for name in before:
        if name.startswith("generator/") and name.endswith("kernel"):
            assert (before[name] != changed[name]).any()
        elif name.startswith("discriminator/"):
            np.testing.assert_allclose(after[name], changed[name], rtol=0, atol=1e-6)


def test_averages_and_step_counter(make):
    trainer = make()
    history = []
    for number in range(1, 5):
        losses, averages = trainer.step()
        losses, averages = ([*values.values()] for values in (losses, averages))
        history.append(losses)
        shares = 0.99 ** np.arange(number - 1, -1, -1)
        np.testing.assert_allclose(averages, shares @ np.array(history) / shares.sum(), rtol=1e-4)
        assert trainer.values("global_step") == {"global_step": number}
    assert np.ptp(np.array(history), axis=0).min() > 1e-3
    # the last loss, or no correction of the start at 0, would be seen
    assert np.abs(np.array(averages) / np.array(history[-1]) - 1).max() > 1e-3
    assert [*trainer.model.averages] == ["discrim_loss", "gen_loss_GAN", "gen_loss_L1"]
    for loss, average in zip(trainer.model.averages, averages, strict=True):
        name = pix2pix.LOSSES[loss].average
        assert trainer.values(name)[name] == pytest.approx(average, rel=1e-6)


def test_equal_seeds_give_equal_losses(make):
    def history(**changes):
        return make(fill=False, **changes).history(3)
    first = history()
    np.testing.assert_array_equal(first, history())
    dropout = history(seed=12)[:, 2]  # other dropout, the same weights
    assert (dropout != first[:, 2]).all() and dropout[0] == pytest.approx(first[0, 2], rel=0.05)


def test_a_resumed_run_is_the_run_that_went_on(make, tmp_path):
    through, first, second = make(fill=False), make(fill=False), make(fill=True)
    for _ in range(4):
        through.step()
    for _ in range(2):
        first.step()
    with first.graph.as_default():
        path = first.saver.save(first.sess, str(tmp_path / "model"), 2, write_meta_graph=False)
        assert read_step(open_variables(path)) == 2
        second.saver.restore(second.sess, path)
    for _ in range(2):
        second.step()
    expected, resumed, stopped = through.values(), second.values(), first.values()
    assert expected["global_step"] == 4
    for name, value in expected.items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)
    for name in ("generator/encoder_1/conv2d/kernel", "discriminator_train/beta1_power",
                 "generator/decoder_1/conv2d_transpose/kernel/Adam_1"):
        assert (expected[name] != stopped[name]).any()


def test_one_pair_is_learned_by_heart(make):
    trainer = make(fill=False, ngf=8, ndf=4, lr=0.002)
    l1 = [trainer.step()[0]["gen_loss_L1"] for _ in range(80)]
    assert l1[0] > 0.5  # grey against waves: the mean of |sin| is 0.64
    assert np.mean(l1[-5:]) < 0.15
    assert np.isfinite(l1).all()


# The family's losses, schedules, averages and parts


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gan_losses_by_arithmetic(smoothing):
    real, fake = draw(1, 2, 5, 6, 1, low=-3, high=3), draw(2, 2, 5, 6, 1, low=-3, high=3)
    got = {kind: run_graph(lambda: (
        pix2pix.discriminator_loss(tf.constant(real), tf.constant(fake), kind, smoothing),
        pix2pix.generator_gan_loss(tf.constant(fake), kind)))
        for kind in ("vanilla", "lsgan", "hinge")}
    label = 1 - smoothing
    assert got["vanilla"] == pytest.approx((
        np.mean(-label * np.log(sigmoid(real)) - smoothing * np.log(1 - sigmoid(real)))
        - np.mean(np.log(1 - sigmoid(fake))), -np.mean(np.log(sigmoid(fake)))), rel=1e-5)
    assert got["lsgan"] == pytest.approx((
        np.mean((real - label) ** 2) + np.mean(fake**2), np.mean((fake - 1) ** 2)), rel=1e-5)
    if not smoothing:
        assert got["hinge"] == pytest.approx((
            np.mean(np.maximum(1 - real, 0)) + np.mean(np.maximum(1 + fake, 0)), -np.mean(fake)),
            rel=1e-5)


def test_feature_loss_is_the_mean_over_layers():
    real = [draw(seed, 2, size, size, 3) for seed, size in ((1, 8), (2, 5), (3, 3))]
    fake = [draw(seed, 2, size, size, 3) for seed, size in ((4, 8), (5, 5), (6, 3))]
    got = run_graph(lambda: pix2pix.feature_loss([tf.constant(x) for x in real],
                                                 [tf.constant(x) for x in fake]))
    expected = np.mean([np.abs(a - b).mean() for a, b in zip(real, fake, strict=True)])
    assert got == pytest.approx(expected, rel=1e-5)


def test_without_gan_there_is_no_discriminator(make):
    trainer = make(gan_weight=0.0)
    names = [operation.name for operation in trainer.graph.get_operations()]
    assert not any("discriminator" in name for name in names)
    losses, averages = trainer.step()
    assert [*losses] == [*averages] == ["gen_loss_L1"]


def test_discrim_weight_scales_the_discriminators_gradients_alone(make):
    one, half = (make(discrim_weight=weight).gradients() for weight in (1.0, 0.5))
    for name, gradient in one.items():
        factor = 0.5 if name.startswith("discriminator/") else 1
        np.testing.assert_allclose(half[name], factor * gradient, rtol=1e-4, atol=1e-6)


def test_feature_weight_teaches_the_generator_alone(make):
    without, with_features = (make(feature_weight=weight) for weight in (0.0, 10.0))
    one, other = without.gradients(), with_features.gradients()
    for name, gradient in one.items():
        if name.startswith("discriminator/"):
            np.testing.assert_allclose(other[name], gradient, rtol=1e-4, atol=1e-6)
    name = "generator/decoder_2/conv2d_transpose/kernel"
    assert np.abs(one[name] - other[name]).max() > 0.01 * np.abs(one[name]).max()
    assert [*with_features.step()[0]] == [*pix2pix.LOSSES] and len(pix2pix.LOSSES) == 4


@pytest.mark.parametrize("kind, expected", [
    ("none", lambda share: 1), ("linear", lambda share: 1 - share),
    ("cosine", lambda share: (1 + np.cos(np.pi * share)) / 2)])
def test_learning_rate_of_every_step(options, kind, expected):
    changed = with_options(options, lr=0.3, lr_decay=kind)
    with tf.Graph().as_default(), tf.Session() as sess:
        step = tf.placeholder(tf.int64, [])
        rate = pix2pix.learning_rate(changed, step, (4, 10))
        got = [sess.run(rate, {step: number}) for number in range(12)]
    shares = np.clip((np.arange(12) - 4) / 6, 0, 1)
    np.testing.assert_allclose(got, [0.3 * expected(share) for share in shares], rtol=1e-6,
                               atol=1e-8)


def test_a_step_takes_the_rate_of_its_number(make):
    trainer = make(lr_decay="linear", lr=0.02)  # falls from step 2 to step 6
    name = "generator/decoder_1/conv2d_transpose/bias"
    sizes = []
    for _ in range(7):
        before = trainer.values(name)[name]
        trainer.step()
        sizes.append(np.abs(trainer.values(name)[name] - before).max())
    assert sizes[0] == pytest.approx(0.02, rel=1e-2)  # Adam's first step is as long as the rate
    assert sizes[6] == 0 < sizes[5]


def test_the_averaged_generator_follows_its_formula(make):
    trainer = make(ema_generator=0.3)
    name = "generator/encoder_2/conv2d/kernel"
    average = trainer.values(name)[name + EMA_SUFFIX]
    for number in range(1, 6):
        trainer.step()
        values = trainer.values(name)
        decay = min(0.3, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * values[name]
        np.testing.assert_allclose(values[name + EMA_SUFFIX], average, atol=1e-6)
        assert np.abs(values[name] - average).max() > 1e-3
    names = {variable for variable in trainer.variables
             if variable.endswith(EMA_SUFFIX) and not variable.endswith("/Adam")}
    trained = {variable.op.name for _, variable in trainer.model.gradients
               if variable.op.name.startswith("generator/")}
    assert {name.removesuffix(EMA_SUFFIX) for name in names} - trained == {
        pix2pix.LOSSES[name].average.removesuffix(EMA_SUFFIX) for name in trainer.model.losses}


def test_parts_equal_one_batch_exactly_where_the_norm_is_per_image(make):
    changes = dict(norm="instance", diffaugment=True, feature_weight=5.0, patch_size=16)
    whole, divided = make(**changes), make(batch_size=2, grad_accumulation=3, **changes)
    for batch in (4, 5, 3):
        images = [np.arange(batch), *(smooth_images(seed, batch, size=64) for seed in (3, 4))]
        expected, got = (trainer.sess.run(
            (trainer.named_gradients(), trainer.model.outputs, trainer.model.predict_real,
             trainer.model.losses), dict(zip(trainer.examples[:3], images, strict=True)))
            for trainer in (whole, divided))
        for name, gradient in expected[0].items():
            np.testing.assert_allclose(got[0][name], gradient, rtol=1e-3,
                                       atol=1e-4 * np.abs(gradient).max() + 1e-5, err_msg=name)
        for one, other in zip(expected[1:3], got[1:3], strict=True):
            assert len(one) == batch
            np.testing.assert_allclose(other, one, atol=1e-5)
        assert got[3] == pytest.approx(expected[3], rel=1e-5)  # name -> loss


def test_parts_of_batch_norm_see_their_own_statistics(make):
    name = "generator/encoder_3/conv2d/kernel"
    whole, divided = make(4, batch_size=4), make(4, batch_size=2, grad_accumulation=2)
    one, other = whole.gradients()[name], divided.gradients()[name]
    assert np.abs(one - other).max() > 0.05 * np.abs(one).max()


# DiffAugment


def test_images_move_and_what_comes_in_is_0():
    x, offsets = draw(1, 3, 8, 12, 2), np.array([[2, -3], [0, 0], [-1, 12]], np.int32)
    got = run_graph(lambda: translate_images(tf.constant(x), tf.constant(offsets)))
    for image, result, (down, right) in zip(x, got, offsets, strict=True):
        expected = np.roll(image, (down, right), axis=(0, 1))
        expected[:max(down, 0)] = expected[8 + min(down, 0):] = 0
        expected[:, :max(right, 0)] = expected[:, 12 + min(right, 0):] = 0
        np.testing.assert_array_equal(result, expected)


def test_colour_changes_by_formula():
    x = draw(2, 2, 5, 6, 3)
    brightness, saturation, contrast = np.array([[0.2, -0.4], [1.5, 0.1], [0.7, 1.3]], np.float32)
    got = run_graph(lambda: jitter_colour(tf.constant(x), *map(tf.constant, (
        brightness, saturation, contrast))))
    for n in range(2):
        y = x[n] + brightness[n]
        y = (y - y.mean(2, keepdims=True)) * saturation[n] + y.mean(2, keepdims=True)
        np.testing.assert_allclose(got[n], (y - y.mean()) * contrast[n] + y.mean(), atol=1e-6)


def test_a_hole_is_half_as_wide_and_may_lie_at_the_edge():
    mask = run_graph(lambda: cutout_mask(tf.constant([[0.5, 0.5], [0.0, 0.999]]),
                                         tf.constant([8, 12])))
    expected = np.ones([2, 8, 12, 1])
    expected[0, 2:6, 3:9] = 0
    expected[1, :2, 9:] = 0
    np.testing.assert_array_equal(mask, expected)


def test_diffaugment_draws_once_for_a_pair_and_lets_gradients_through():
    x = draw(3, 40, 16, 16, 3) + 3  # far from 0, which is what holes and borders hold

    def build():
        pair = [tf.constant(x), tf.constant(x[..., :2])]
        key = pix2pix.DrawKey(1, 2)

        def augment(images, key):
            return augment_pair(images, lambda batch, number: pix2pix.draw_uniform(
                key, 0, batch, [number]))
        one, other = augment(pair, key)
        again, later = (augment(pair[:1], key)[0] for key in (key, key._replace(step=3)))
        return one, other, again, later, tf.gradients(one, pair[0])[0]
    one, other, again, later, slope = run_graph(build)
    gone = (one == 0).all(axis=3)
    np.testing.assert_array_equal(gone, (other == 0).all(axis=3))
    np.testing.assert_array_equal(one, again)
    assert (gone != (later == 0).all(axis=3)).any()
    assert len({image.tobytes() for image in gone}) > 30  # each image by itself
    # translation by -2..2 and a hole of up to 8x8
    borders = [np.flatnonzero(~image.all(axis=1))[0] for image in gone]
    assert set(borders) >= {0, 1, 2} and gone.mean() < 0.5
    assert (slope != 0).any(axis=(1, 2, 3)).all()


def test_diffaugment_reaches_both_networks_and_not_the_outputs(make):
    plain, augmented = make(diffaugment=False), make(diffaugment=True)
    one, other = plain.gradients(), augmented.gradients()
    for name in ("discriminator/layer_1/conv2d/kernel", "generator/encoder_1/conv2d/kernel"):
        assert np.abs(one[name] - other[name]).max() > 1e-4
    np.testing.assert_array_equal(*(trainer.sess.run(trainer.model.outputs)
                                    for trainer in (plain, augmented)))
