"""pix2pix written plainly in PyTorch, as one writes it to be fast on a CPU: what tools/benchmark.py
compares with. No part of the program.

The networks are the program's default ones, with as many weights: U-Net whose depth follows from
the size, PatchGAN 70x70, batch norm with the statistics of the batch. So are the losses and both
Adam optimizers. Tensors and kernels are channels_last, Adam is fused, bfloat16 is torch.autocast's.
The generated images are computed once in a step, and seen once by the discriminator: both
networks' gradients come from there, and before either is updated.

torch.compile needs a C++ compiler. The network alone is measured with it too. Training is not: its
compiled step is slower (docs/benchmarks.md).
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional

WIDTHS = (1, 2, 4, 8)  # of the encoder and the discriminator, in units of ngf or ndf
L1_WEIGHT = 100


def norm(channels):
    """Batch norm without running averages."""
    return nn.BatchNorm2d(channels, track_running_stats=False)


class Generator(nn.Module):
    """U-Net: [batch, 3, size, size] -> the same, -1..1."""

    def __init__(self, size, ngf):
        super().__init__()
        depth = (size & -size).bit_length() - 1  # as often as the size can be halved
        widths = [ngf * WIDTHS[min(number, 3)] for number in range(depth)]
        self.down, self.up, below = nn.ModuleList(), nn.ModuleList(), 3
        for number, width in enumerate(widths):
            layers = [nn.LeakyReLU(0.2)] if number > 0 else []
            layers.append(nn.Conv2d(below, width, 4, stride=2, padding=1))
            layers += [norm(width)] if 0 < number < depth - 1 else []
            self.down.append(nn.Sequential(*layers))
            below = width
        for number, width in enumerate(widths[-2::-1]):
            layers = [nn.ReLU(), nn.ConvTranspose2d(below, width, 4, stride=2, padding=1),
                      norm(width)]
            layers += [nn.Dropout(0.5)] if number < depth - 5 else []
            self.up.append(nn.Sequential(*layers))
            below = 2 * width  # with the skip
        self.last = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(below, 3, 4, stride=2, padding=1))

    def forward(self, x):
        """As above."""
        skips = []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        skips.pop()
        for layer in self.up:
            x = torch.cat([layer(x), skips.pop()], dim=1)
        return torch.tanh(self.last(x).float())


def create_discriminator(ndf):
    """PatchGAN: inputs and targets [batch, 6, size, size] -> logits."""
    layers, below = [], 6
    for number, width in enumerate(WIDTHS):
        layers.append(nn.Conv2d(below, ndf * width, 4, stride=2 if number < 3 else 1, padding=1))
        layers += [norm(ndf * width)] if number > 0 else []
        layers.append(nn.LeakyReLU(0.2))
        below = ndf * width
    return nn.Sequential(*layers, nn.Conv2d(below, 1, 4, padding=1))


def initialize(network):
    """Draws a network's weights as the paper does; returns it with kernels in channels_last."""
    for name, weights in network.named_parameters():
        with torch.no_grad():
            if name.endswith("bias"):
                weights.zero_()
            else:  # gamma is a vector
                weights.normal_(1.0 if weights.dim() == 1 else 0.0, 0.02)
    return network.to(memory_format=torch.channels_last)


def create_networks(size, ngf, ndf):
    """Generator and discriminator."""
    return initialize(Generator(size, ngf)), initialize(create_discriminator(ndf))


def compute_losses(generator, discriminator, inputs, targets):
    """The losses of the discriminator and the generator."""
    cross_entropy = functional.binary_cross_entropy_with_logits
    outputs = generator(inputs)
    real = discriminator(torch.cat([inputs, targets], dim=1)).float()
    fake = discriminator(torch.cat([inputs, outputs], dim=1)).float()
    discrim_loss = cross_entropy(real, torch.ones_like(real)) \
        + cross_entropy(fake, torch.zeros_like(fake))
    gen_loss = cross_entropy(fake, torch.ones_like(fake)) \
        + L1_WEIGHT * functional.l1_loss(outputs, targets)
    return discrim_loss, gen_loss


def create_step(generator, discriminator, precision):
    """A function of inputs and targets [batch, 3, size, size] -1..1 that trains one step and
    returns both losses, the discriminator's first."""
    networks = discriminator, generator
    optimizers = [torch.optim.Adam(network.parameters(), 2e-4, betas=(0.5, 0.999), fused=True)
                  for network in networks]

    def step(inputs, targets):
        """One step."""
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            losses = compute_losses(generator, discriminator, inputs, targets)
        for network, optimizer, loss in zip(networks, optimizers, losses, strict=True):
            optimizer.zero_grad(set_to_none=True)
            # a network's own weights alone: the rest of the graph is kept for the other
            loss.backward(inputs=[*network.parameters()], retain_graph=network is discriminator)
        for optimizer in optimizers:
            optimizer.step()
        return [loss.item() for loss in losses]
    return step


def create_network(size, ngf, precision, is_compiled=False):
    """A function that a new generator translates batches [batch, 3, size, size] -1..1 with, without
    dropout. is_compiled: by torch.compile, for batches of the first one's size."""
    generator, dtype = initialize(Generator(size, ngf)).eval(), getattr(torch, precision)
    for layer in generator.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            layer.to(dtype)  # once: autocast would convert kernels for every image
    if is_compiled:
        from torch._inductor import config  # has no public name; as an option it is ignored
        config.freezing = True  # makes constants of the weights, in the layout that layers want
        generator = torch.compile(generator, dynamic=False, options={"compile_threads": 1})

    @torch.inference_mode()
    def generate(images):
        """A batch through the network."""
        return generator(images.to(dtype))
    return generate


def create_contestant(what, name, size, batch_size, ngf, ndf):
    """A function that takes a training step ("step") or translates a batch ("network"), always the
    same one. name: ends with the precision; torch.compile is compiled."""
    images = [(2 * torch.rand(batch_size, 3, size, size) - 1).to(
        memory_format=torch.channels_last) for _ in range(2)]
    method, precision = name.split()
    if what == "step":
        step = create_step(*create_networks(size, ngf, ndf), precision)
        return lambda: step(*images)
    generate = create_network(size, ngf, precision, method == "torch.compile")
    return lambda: generate(images[0])


def take_turns(what, names, *model):
    """A program: reads a contestant's name and a number of calls, as JSON in a line, and prints the
    seconds that they take, again and again. model: as for `create_contestant`."""
    contestants = {name: create_contestant(what, name, *model) for name in names}
    for line in sys.stdin:
        name, times = json.loads(line)
        start = time.perf_counter()
        for _ in range(times):
            contestants[name]()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
