"""tools/torch_baseline.py: the program's networks, losses and gradients, in PyTorch."""

import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, draw

import pix2pix
from tools.lib.cli import with_options
from tools.lib.tf1 import tf

torch = pytest.importorskip("torch")
torch_baseline = pytest.importorskip("tools.torch_baseline")


def model_options(options, size, batch_size, ngf, ndf):
    """The program's of its default networks."""
    return with_options(options, crop_size=size, batch_size=batch_size, ngf=ngf, ndf=ndf,
                        patch_size=70, precision="float32", no_dropout=True)


def keep(options):
    """The Examples of a fixed batch, and its images."""
    shape = options.batch_size, options.crop_size, options.crop_size, 3
    images = draw(1, *shape), draw(2, *shape)
    return pix2pix.Examples(tf.range(options.batch_size), *map(tf.constant, images)), images


@pytest.fixture(autouse=True)
def without_triton(monkeypatch):
    """What PyTorch's optimizers import on machines with a GPU ends a process that has loaded
    TensorFlow."""
    monkeypatch.setitem(sys.modules, "triton", None)


def to_torch(images):
    """An array [batch, height, width, channels] as PyTorch has it."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def count_weights(network):
    """Of a network in PyTorch."""
    return sum(weights.numel() for weights in network.parameters())


@pytest.mark.parametrize("size, ngf, ndf", [(32, 3, 5), (64, 5, 2), (96, 2, 3), (128, 2, 4),
                                            (256, 4, 3), (512, 1, 1)])
def test_networks_have_as_many_weights_as_the_programs(options, size, ngf, ndf):
    generator, discriminator = torch_baseline.create_networks(size, ngf, ndf)
    options = model_options(options, size, 1, ngf, ndf)
    with tf.Graph().as_default():
        pix2pix.create_model(keep(options)[0], options)
        counts = [sum(variable.shape.num_elements() for variable in tf.trainable_variables(scope))
                  for scope in ("generator/", "discriminator/")]
    assert counts == [count_weights(generator), count_weights(discriminator)]
    num_dropouts = sum(isinstance(layer, torch.nn.Dropout) for layer in generator.modules())
    assert num_dropouts == sum(row.dropout > 0 for row in pix2pix.generator_of(options).decoder)


def ordered(variables):
    """A network's variables in the order of PyTorch's: kernel, bias, gamma, beta of each layer."""
    names = {variable.op.name: variable for variable in variables}
    layers = dict.fromkeys("/".join(name.split("/")[:2]) for name in names)
    ends = ("conv2d/kernel", "conv2d_transpose/kernel", "conv2d/bias", "conv2d_transpose/bias",
            "batch_normalization/gamma", "batch_normalization/beta")
    return [names[f"{layer}/{end}"] for layer in layers for end in ends
            if f"{layer}/{end}" in names]


def turn(weights):
    """A kernel [height, width, in, out] as PyTorch has it, and any vector."""
    return weights.transpose(3, 2, 0, 1) if weights.ndim == 4 else weights


@pytest.mark.parametrize("size, batch_size", [(32, 2), (64, 3)])
def test_a_step_has_the_programs_losses_and_gradients(options, size, batch_size):
    options = model_options(options, size, batch_size, 3, 5)
    networks = torch_baseline.create_networks(size, 3, 5)
    networks[0].apply(lambda layer: isinstance(layer, torch.nn.Dropout) and layer.eval())
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as sess:
        examples, images = keep(options)
        model = pix2pix.create_model(examples, options)
        sess.run(tf.global_variables_initializer())
        gradients = {variable: gradient for gradient, variable in model.gradients}
        expected = []
        for network, scope in zip(networks, ("generator/", "discriminator/"), strict=True):
            variables = ordered(tf.trainable_variables(scope))
            for weights, values in zip(network.parameters(), sess.run(variables), strict=True):
                with torch.no_grad():
                    weights.copy_(torch.from_numpy(turn(values).copy()))
            expected.append(sess.run([gradients[variable] for variable in variables]))
        losses = sess.run(model.losses)
    before = [weights.clone() for network in networks for weights in network.parameters()]
    step = torch_baseline.create_step(*networks, "float32")
    discrim_loss, gen_loss = step(*map(to_torch, images))
    assert discrim_loss == pytest.approx(losses["discrim_loss"], rel=1e-5)
    assert gen_loss == pytest.approx(losses["gen_loss_GAN"] + 100 * losses["gen_loss_L1"],
                                     rel=1e-5)
    for network, wanted in zip(networks, expected, strict=True):
        for weights, gradient in zip(network.parameters(), wanted, strict=True):
            scale = max(np.abs(gradient).max(), 0.01)
            assert np.abs(weights.grad.numpy() - turn(gradient)).max() < 1e-3 * scale
    after = [weights for network in networks for weights in network.parameters()]
    changes = [(new - old).abs().max().item() for new, old in zip(after, before, strict=True)]
    assert min(changes) > 1e-6 and max(changes) < 2.01e-4  # Adam's first step


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_lowers_the_generators_loss(precision):
    torch.manual_seed(1)
    step = torch_baseline.create_step(*torch_baseline.create_networks(64, 4, 4), precision)
    batch = [to_torch(draw(seed, 2, 64, 64, 3, low=-0.1)) for seed in (1, 2)]
    losses = [step(*batch)[1] for _ in range(30)]
    assert np.mean(losses[-3:]) < 0.95 * np.mean(losses[:3])


def test_a_network_translates_arrays_without_dropout():
    images, results = to_torch(draw(3, 2, 64, 64, 3)), {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(1)
        generate = torch_baseline.create_network(64, 4, precision)
        results[precision] = generate(images)
        assert torch.equal(generate(images), results[precision])
    exact, rounded = results.values()
    assert exact.shape == images.shape and exact.dtype == rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 0.1 * exact.abs().max()


def test_turns_are_seconds_of_so_many_calls(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(torch_baseline, "create_contestant",
                        lambda *made: lambda: calls.append(made))
    monkeypatch.setattr(sys, "stdin", io.StringIO('["torch a", 3]\n["torch b", 1]\n'))
    clock = iter([10.0, 14.0, 20.0, 20.5])
    monkeypatch.setattr(torch_baseline.time, "perf_counter", lambda: next(clock))
    torch_baseline.take_turns("step", ["torch a", "torch b"], 32, 2)
    assert calls == 3 * [("step", "torch a", 32, 2)] + [("step", "torch b", 32, 2)]
    assert capsys.readouterr().out == '{"seconds": 4.0}\n{"seconds": 0.5}\n'


COMPARE = """
import torch
import torch_baseline
images, results = torch.rand(2, 3, 64, 64), []
for precision, is_compiled in (("float32", False), ("float32", True), ("bfloat16", True)):
    torch.manual_seed(1)
    results.append(torch_baseline.create_network(64, 16, precision, is_compiled)(images))
exact, *others = results
print(*((one - exact).abs().max().item() / exact.abs().max().item() for one in others))
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_network_gives_the_same_results(tmp_path):
    done = subprocess.run([sys.executable, "-c", COMPARE], cwd=ROOT / "tools", check=True, text=True,
                          env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
                          capture_output=True)
    exact, rounded = map(float, done.stdout.split())
    assert exact < 1e-4 < rounded < 0.1
