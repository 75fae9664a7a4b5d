"""TensorFlow's version 1 interface, imported at first use and quiet; sessions and devices."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from pathlib import Path

from tools.lib.cli import home_dir, quiet_stderr

QUIET = "3"  # errors reach us as exceptions; TF_CPP_MIN_LOG_LEVEL=0 shows TensorFlow's own lines
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", QUIET)


@contextlib.contextmanager
def exit_at_signals():
    """Ctrl-C and SIGTERM end the process at once inside: a library that is being imported would
    turn the exception into an error of its own, and a session that runs prints and drops it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM)
               if callable(signal.getsignal(number))]
    previous = {number: signal.signal(number, lambda number, _: os._exit(128 + number))
                for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class LazyTensorFlow:
    """`tensorflow.compat.v1`, imported at first use: options are checked before that."""

    def __getattr__(self, name):
        module = sys.modules.get("tensorflow.compat.v1")
        if module is None:
            if home_dir() is None:  # Keras would make a folder called ~ for its settings
                os.environ.setdefault("KERAS_HOME", os.devnull)
            quiet = os.environ["TF_CPP_MIN_LOG_LEVEL"] == QUIET
            with quiet_stderr() if quiet else contextlib.nullcontext(), exit_at_signals():
                module = importlib.import_module("tensorflow.compat.v1")
            if quiet:
                module.logging.set_verbosity(module.logging.ERROR)  # all of v1 is "deprecated"
        return getattr(module, name)


tf = LazyTensorFlow()


def add_options(add):
    """How the device computes."""
    add("--precision", default="auto", choices=["auto", "float32", "bfloat16"],
        help="what layers compute in; weights, statistics, losses and Adam stay float32; auto: "
        "bfloat16 in training where the machine is fast at it")
    add("--deterministic", action="store_true",
        help="give the same bits on every run on a GPU too, more slowly")


def is_absent(field):
    """Whether a field of a NamedTuple has no tensor: it is [] then, as session.run refuses None."""
    return isinstance(field, list)


def list_gpus():
    """The GPUs that TensorFlow sees, for tf.device."""
    gpus = tf.config.experimental.list_physical_devices("GPU")
    return [f"/gpu:{number}" for number, _ in enumerate(gpus)]


def processor_flags():
    """What instructions the processor has, as Linux calls them; none where they are not known."""
    cpu = Path("/proc/cpuinfo")
    return {*cpu.read_text(encoding="utf-8").split()} if cpu.exists() else set()


def fast_precision():
    """What --precision auto trains with: bfloat16 where the machine has instructions for it."""
    gpus = tf.config.experimental.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        is_fast = all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    else:
        is_fast = not {"avx512_bf16", "amx_bf16"}.isdisjoint(processor_flags())
    return "bfloat16" if is_fast else "float32"


def device_types(sess):
    """What a session computes on, such as "CPU, GPU"."""
    return ", ".join(sorted({device.device_type for device in sess.list_devices()}))


def session_config():
    """A session that takes a GPU's memory as it needs it."""
    from tensorflow.core.protobuf import rewriter_config_pb2  # has no public name
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True
    config.allow_soft_placement = True  # operations without a GPU's kernel
    # the remapper gives up on this graph's leaky relus, with an error line on every start
    config.graph_options.rewrite_options.remapping = rewriter_config_pb2.RewriterConfig.OFF
    return config
