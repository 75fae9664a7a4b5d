"""tools/lib/towers.py: what travels between machines, by arithmetic."""

from typing import Any, NamedTuple

import pytest
from helpers import draw, free_addresses, session_config

from tools.lib.tf1 import tf
from tools.lib.towers import Part, deal_parts


class Examples(NamedTuple):
    """Of a step."""

    images: Any  # [images, 5]


def compute(examples, _first, _copies):
    """A Part: something as large as the images, and a mean as large as the weights [5, 11]."""
    weights = tf.get_variable("weights", [5, 11], use_resource=True)
    squares = tf.matmul(examples.images, examples.images, transpose_a=True)
    return Part([2 * examples.images], [tf.matmul(squares, weights)])


@pytest.fixture(scope="module")
def cluster():
    """The address of the first of two servers of this process, which TensorFlow cannot end."""
    machines = free_addresses(2).split(",")
    servers = [tf.train.Server({"pair": machines}, job_name="pair", task_index=task,
                               config=session_config()) for task in (0, 1)]
    yield servers[0].target


def bytes_received(seen):
    """How many each machine received, by the log of a step."""
    received = [0, 0]
    for device in seen.step_stats.dev_stats:
        for node in device.node_stats:
            if " from /job:pair" in node.timeline_label:
                received["/task:1" in device.device] += sum(
                    output.tensor_description.allocation_description.requested_bytes
                    for output in node.output)
    return received


def most_bytes_received(target, num_parts, num_steps=10):
    """How many each machine receives in a step of parts of 3 images. A log can lack what was
    received before the call to write one arrived, which TensorFlow does not wait for."""
    with tf.Graph().as_default() as graph, tf.device("/job:pair/task:0"), \
            tf.variable_scope("", reuse=tf.AUTO_REUSE):
        examples = Examples(tf.get_variable(
            "images", initializer=draw(1, 3 * num_parts, 5), use_resource=True, trainable=False))
        part = deal_parts(examples, 3, compute, ["/job:pair/task:0", "/job:pair/task:1"])
        step, logged = [tf.identity(value) for value in tf.nest.flatten(part)], []
        with tf.Session(target, graph=graph, config=session_config()) as sess:
            sess.run(tf.global_variables_initializer())
            for _ in range(num_steps):
                seen = tf.RunMetadata()
                sess.run(step, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
                         run_metadata=seen)
                logged.append(bytes_received(seen))
    return [max(received) for received in zip(*logged)]


def test_weights_and_sums_travel_once_a_step(cluster):
    """However many parts a machine computes; of the images its own."""
    weights, image = 4 * 5 * 11, 4 * 5
    for num_parts in (4, 10):
        own = num_parts // 2 * 3 * image
        assert most_bytes_received(cluster, num_parts) == [  # the sums; and the place of the first image
            weights + own, 2 * weights + own + 4]
