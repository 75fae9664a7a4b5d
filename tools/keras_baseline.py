"""TensorFlow's pix2pix tutorial, written plainly in Keras and tf.data: what tools/benchmark.py
compares with. No part of the program.

The tutorial (tensorflow.org/tutorials/generative/pix2pix): U-Net of 8 levels without biases, norm
on all encoder layers but the first, batch norm with running averages, leaky relu 0.3 in the
encoder, PatchGAN 70x70 on both images, sum of cross entropies, 100 * L1, two Adam(2e-4, 0.5), one
tf.function. Pairs are read by a parallel map and shuffled as pixels; nothing is prefetched.
"""

from pathlib import Path

import tensorflow as tf
from tensorflow import keras

BUFFER_SIZE = 400  # of the shuffle, in pairs
WIDTHS = (1, 2, 4, 8, 8, 8, 8, 8)  # of the encoder, in units of ngf


def initializer():
    """N(0, 0.02)."""
    return keras.initializers.RandomNormal(0.0, 0.02)


def down(x, filters, norm=True):
    """Halves height and width."""
    x = keras.layers.Conv2D(filters, 4, strides=2, padding="same", use_bias=False,
                            kernel_initializer=initializer())(x)
    x = keras.layers.BatchNormalization()(x) if norm else x
    return keras.layers.LeakyReLU()(x)


def up(x, filters, dropout=False):
    """Doubles height and width."""
    x = keras.layers.Conv2DTranspose(filters, 4, strides=2, padding="same", use_bias=False,
                                     kernel_initializer=initializer())(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(x) if dropout else x
    return keras.layers.ReLU()(x)


def create_generator(size, ngf):
    """U-Net: [batch, size, size, 3] -> the same, -1..1."""
    inputs = x = keras.layers.Input([size, size, 3])
    depth, skips = min(size.bit_length() - 1, len(WIDTHS)), []
    for number, width in enumerate(WIDTHS[:depth]):
        x = down(x, ngf * width, norm=number > 0)
        skips.append(x)
    for number, width in enumerate(WIDTHS[depth - 2::-1]):
        x = up(x, ngf * width, dropout=number < 3)
        x = keras.layers.Concatenate()([x, skips[depth - 2 - number]])
    x = keras.layers.Conv2DTranspose(3, 4, strides=2, padding="same", activation="tanh",
                                     kernel_initializer=initializer())(x)
    return keras.Model(inputs, x)


def create_discriminator(size, ndf):
    """PatchGAN: two [batch, size, size, 3] -> logits."""
    inputs, targets = (keras.layers.Input([size, size, 3]) for _ in range(2))
    x = keras.layers.Concatenate()([inputs, targets])
    for number, width in enumerate((1, 2, 4)):
        x = down(x, ndf * width, norm=number > 0)
    x = keras.layers.ZeroPadding2D()(x)
    x = keras.layers.Conv2D(ndf * 8, 4, use_bias=False, kernel_initializer=initializer())(x)
    x = keras.layers.LeakyReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.ZeroPadding2D()(x)
    x = keras.layers.Conv2D(1, 4, kernel_initializer=initializer())(x)
    return keras.Model([inputs, targets], x)


def create_step(size, ngf, ndf):
    """A function of inputs and targets [batch, size, size, 3] -1..1 that trains one step and
    returns the generator's loss."""
    generator, discriminator = create_generator(size, ngf), create_discriminator(size, ndf)
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    gen_optimizer, discrim_optimizer = (keras.optimizers.Adam(2e-4, beta_1=0.5) for _ in range(2))

    @tf.function
    def step(inputs, targets):
        """As the tutorial's train_step, without its summaries."""
        with tf.GradientTape() as gen_tape, tf.GradientTape() as discrim_tape:
            outputs = generator(inputs, training=True)
            real = discriminator([inputs, targets], training=True)
            fake = discriminator([inputs, outputs], training=True)
            gen_loss = cross_entropy(tf.ones_like(fake), fake) \
                + 100 * tf.reduce_mean(tf.abs(targets - outputs))
            discrim_loss = cross_entropy(tf.ones_like(real), real) \
                + cross_entropy(tf.zeros_like(fake), fake)
        for tape, loss, model, optimizer in (
                (gen_tape, gen_loss, generator, gen_optimizer),
                (discrim_tape, discrim_loss, discriminator, discrim_optimizer)):
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return gen_loss
    return step


def list_images(input_dir):
    """The paths of a folder's images, by their extensions."""
    return [str(path) for path in sorted(Path(input_dir).iterdir())
            if path.suffix.lower() in (".jpg", ".jpeg", ".png")]


def load(path):
    """A file -> input (its right half) and target [height, width, 3], float32 0..255."""
    image = tf.cast(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), tf.float32)
    middle = tf.shape(image)[1] // 2
    return image[:, middle:], image[:, :middle]


def resize(image, size):
    """[height, width, 3] -> [size, size, 3]."""
    return tf.image.resize(image, [size, size], tf.image.ResizeMethod.NEAREST_NEIGHBOR)


def normalize(image):
    """0..255 -> -1..1."""
    return image / 127.5 - 1


def load_augmented(path, size):
    """A file -> input and target [size, size, 3] -1..1: scaled to 286/256 of that, cropped and
    mirrored at random."""
    pair = tf.stack([resize(half, round(size * 286 / 256)) for half in load(path)])
    pair = tf.image.random_crop(pair, [2, size, size, 3])
    inputs, targets = pair[0], pair[1]
    if tf.random.uniform([]) > 0.5:
        inputs, targets = tf.image.flip_left_right(inputs), tf.image.flip_left_right(targets)
    return normalize(inputs), normalize(targets)


def create_input(input_dir, size, batch_size):
    """A dataset of batches of inputs and targets [batch, size, size, 3] -1..1, without end."""
    dataset = tf.data.Dataset.list_files(list_images(input_dir))
    dataset = dataset.map(lambda path: load_augmented(path, size),
                          num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.shuffle(BUFFER_SIZE).batch(batch_size).repeat()


def train(input_dir, size, batch_size, ngf, num_steps):
    """Takes training steps from files and prints a line after each."""
    step = create_step(size, ngf, ngf)
    batches = create_input(input_dir, size, batch_size).take(num_steps)
    for number, (inputs, targets) in enumerate(batches, 1):
        step(inputs, targets).numpy()
        print(f"step {number}", flush=True)


def generate(generator, path, size, output_dir):
    """Writes input, output and target of a file as PNG files; norms see that image alone, as in
    the tutorial."""
    inputs, targets = (normalize(resize(half, size))[tf.newaxis] for half in load(path))
    outputs = generator(inputs, training=True)
    for kind, image in (("inputs", inputs), ("outputs", outputs), ("targets", targets)):
        pixels = tf.cast(tf.round((image[0] + 1) * 127.5), tf.uint8)
        tf.io.write_file(f"{output_dir}/{Path(path).stem}-{kind}.png", tf.io.encode_png(pixels))


def test(input_dir, size, ngf, output_dir):
    """Translates the images of a folder with a new generator and prints a line after each."""
    generator = create_generator(size, ngf)
    for number, path in enumerate(list_images(input_dir), 1):
        generate(generator, path, size, output_dir)
        print(f"image {number}", flush=True)
