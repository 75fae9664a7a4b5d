"""What a training computes on: GPUs of this machine, and other machines, its workers.

Workers (`--mode worker`) are TensorFlow's own servers. They compute parts of the first machine's
graph and keep nothing: images, options, variables, checkpoints, log and signals are the first's.
A step takes two runs of the session then: one computes its gradients, in which a worker can be
lost, and one applies them on the first machine alone, so that it is applied whole or not at all.

The first machine asks every worker about itself before it builds its graph, in a session of the
worker's own: TensorFlow would wait for a missing one for ever. Nothing is encrypted, nobody is
asked who they are: the ports are for private networks.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import ipaddress
import json
import math
import os
import platform
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from tools.lib import tf1
from tools.lib.cli import (RunError, UserError, all_of, check_combinations, describe_error,
                           number_type, printable, say, warn)
from tools.lib.tf1 import tf

JOB = "pix2pix"
WORKER_FLAGS = {"mode", "num_gpus", "cluster", "task", "keep", "allow_public", "deterministic"}
ASK_SECONDS = 5  # for a worker's answer; it is a matter of milliseconds
SET_UP_SECONDS = 120  # that a graph's first run may take beside: TensorFlow sets itself up in it
MAX_RUN_SECONDS = 3600  # of a session in a cluster: saving and the like, without workers
POLL_SECONDS = 0.5  # between a worker's looks at what the first machine has told it
BEGIN, END = b"begin", b"end"  # that it is told of a run


class Worker(NamedTuple):
    """Another machine, as it describes itself."""

    address: str  # HOST:PORT
    cluster: str  # what it was started with
    task: int
    process: str  # random: tells when it has been restarted
    tensorflow: str
    machine: str
    deterministic: bool
    devices: list  # for tf.device, without the machine


# --------------------------------------------------------------------------------------------------
# Options
# --------------------------------------------------------------------------------------------------


def count_or_all(text):
    """The type of --num_gpus."""
    return text if text == "all" else number_type(int, 1, 1024)(text)


def address_list(text):
    """The type of --cluster: HOST:PORT,HOST:PORT, which stays text."""
    addresses = [address.strip() for address in text.split(",")]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or ":" in host or "/" in host or not port.isdecimal() \
                or not 0 < int(port) < 65536:
            raise argparse.ArgumentTypeError(
                f"{address or text} is no address: give HOST:PORT of every machine, with a comma "
                "between them, such as 192.168.1.10:2222,192.168.1.11:2222")
    twice = next((address for address in addresses if addresses.count(address) > 1), None)
    if twice:
        raise argparse.ArgumentTypeError(f"{twice} is there twice: give each machine once")
    if len(addresses) < 2:
        raise argparse.ArgumentTypeError(
            f"{text} is one machine: give two or more, or leave --cluster out to train on this one")
    return ",".join(addresses)


def add_options(add):
    """Which devices compute."""
    add("--num_gpus", type=count_or_all, metavar="{N,all}",
        help="GPUs of this machine to compute on; if not given one, or the CPU")
    add("--cluster", type=address_list, metavar="HOST:PORT,HOST:PORT",
        help="train on several machines: the address of every one, the first, which is this one, "
        "and its workers")
    add("--task", type=number_type(int, 1, 1023),
        help="of a worker: its place in --cluster, where the first machine has 0")
    add("--worker_timeout", type=number_type(float, 0, 1e6, open_low=True), default=600,
        help="seconds to wait for a worker, at the start and in a step, before the run ends")
    add("--keep", action="store_true",
        help="of a worker: wait for the next run when one has ended")
    add("--allow_public", action="store_true",
        help="take addresses in --cluster that are reachable from the internet: whoever reaches "
        "the port can run code there")


def check(options, explicit):
    """Raises UserError for flags of another mode."""
    check_combinations([
        (options.mode != "train" and options.cluster is not None,
         "--cluster is for --mode train and --mode worker: remove it"),
        *((name in explicit, f"--{name} is for --mode worker: remove it, or give --mode worker on "
           "all machines but the first") for name in ("task", "keep")),
        *((name in explicit and options.cluster is None,
           f"--{name} is for a training with --cluster: remove it or give both")
          for name in ("worker_timeout", "allow_public"))])


def check_worker(values, explicit):
    """Raises UserError for a command line of --mode worker that says too little or too much."""
    others = sorted(explicit - WORKER_FLAGS)
    num_machines = len((values["cluster"] or "").split(","))
    check_combinations([
        (len(others) > 0,
         f"--mode worker computes what the first machine tells it: give --{' --'.join(others)} "
         "there, not here"),
        (values["cluster"] is None,
         "--mode worker needs --cluster: give the same as on the first machine"),
        (values["task"] is None,
         f"--mode worker needs --task, its place in --cluster: give 1 to {num_machines - 1}"),
        ((values["task"] or 0) >= num_machines,
         f"--task {values['task']} is not in --cluster, which has {num_machines} machines: give 1 "
         f"to {num_machines - 1}; 0 is the first, which trains")])


# --------------------------------------------------------------------------------------------------
# Machines
# --------------------------------------------------------------------------------------------------


def local_devices(num_gpus):
    """Devices of this machine, for tf.device: "" is the one that TensorFlow chooses, the first GPU
    or the CPU. num_gpus: the flag. Raises UserError."""
    gpus = tf1.list_gpus() if num_gpus is not None else []
    if num_gpus not in (None, "all") and num_gpus > max(len(gpus), 1):
        there = f"TensorFlow finds {len(gpus)} here" if gpus else "TensorFlow finds no GPU here"
        raise UserError(f"--num_gpus {num_gpus}: {there}: give fewer, or --num_gpus all")
    return ["", *gpus[1:None if num_gpus == "all" else num_gpus or 1]]


def describe_machine():
    """What bits depend on, in words: kind and number of the processor's cores, or the GPUs."""
    gpus = tf.config.experimental.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
             for gpu in gpus]
    affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    info, cores = Path("/proc/cpuinfo"), len(affinity(0))
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    kinds = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    kind = (*kinds, platform.processor() or platform.machine())[0]
    return ", ".join([*names, f"{cores} core{'s' * (cores != 1)} of {kind}"])


def resolve(address, allow_public=False):
    """The IPv4 address of HOST:PORT, which TensorFlow's servers listen at. Raises UserError where
    there is none, or where it is reachable from the internet."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host, int(port), socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UserError(f"--cluster: the address of {host} cannot be found ({error}): give another "
                        "name or an IPv4 address") from None
    numbers = [row[4][0] for row in found]
    public = [number for number in numbers if ipaddress.ip_address(number).is_global]
    if public and not allow_public:
        raise UserError(
            f"--cluster: {address} is {public[0]}, an address of the internet, and whoever reaches "
            "the port can run code there: use a private network, or --allow_public behind a "
            "firewall")
    return numbers[0]


def check_addresses(options):
    """Raises UserError for addresses that the machines cannot all use."""
    addresses = options.cluster.split(",")
    numbers = [ipaddress.ip_address(resolve(address, options.allow_public))
               for address in addresses]
    own = [address for address, number in zip(addresses, numbers, strict=True)
           if number.is_loopback]
    if own and len(own) < len(addresses):
        raise UserError(f"--cluster: every machine takes {own[0]} for itself: give the address by "
                        "which the others reach it")


@functools.cache  # TensorFlow cannot stop it, and the next run of the process needs it
def start_server(cluster, task):
    """TensorFlow's server of this machine, which is a task of --cluster. Raises UserError where its
    port is taken."""
    addresses = cluster.split(",")
    host, _, port = addresses[task].rpartition(":")
    try:  # TensorFlow's would share the port with another run's
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", int(port)))
    except OSError as error:
        raise UserError(f"cannot listen on port {port} ({error.strerror}): end what uses it, "
                        "another run or worker perhaps, or give another port to all machines"
                        ) from None
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
    except OSError:
        warn(f"{host} is not an address of this machine: the others reach it only if that address "
             "leads here")
    return tf.train.Server({JOB: addresses}, job_name=JOB, task_index=task,
                           config=tf1.session_config())


# --------------------------------------------------------------------------------------------------
# A worker
# --------------------------------------------------------------------------------------------------


class Noticeboard(NamedTuple):
    """What a worker and the first machine leave for each other on the worker."""

    about: Any  # variable [] string: a Worker as JSON
    news: Any  # queue of BEGIN and END


def create_noticeboard():
    """The Noticeboard of the machine whose session looks at it."""
    about = tf.get_variable("about", [], tf.string, tf.zeros_initializer(), use_resource=True)
    return Noticeboard(about, tf.FIFOQueue(1000, [tf.string], [[]], shared_name="news"))


def open_session_of(graph, target, tasks=(), seconds=0):
    """A session at a server that sees its own devices and those of some tasks, and neither waits
    for other machines nor reaches them. seconds: for each thing that it does; 0: no limit."""
    config = tf1.session_config()
    config.device_filters.extend([f"/job:{JOB}/task:{task}" for task in tasks] or ["/job:none"])
    config.operation_timeout_in_ms = 1000 * seconds
    return tf.Session(target, graph=graph, config=config)


def serve(options):
    """Mode worker: computes parts of the first machine's runs until one has ended, or with --keep
    until Ctrl-C; returns the exit code."""
    check_addresses(options)
    devices = local_devices(options.num_gpus)
    addresses = options.cluster.split(",")
    server = start_server(options.cluster, options.task)
    about = Worker(addresses[options.task], options.cluster, options.task, secrets.token_hex(8),
                   tf.__version__, describe_machine(), options.deterministic,
                   [(tf1.list_gpus() or ["/cpu:0"])[0], *devices[1:]])
    with tf.Graph().as_default() as graph, tf1.exit_at_signals():
        board = create_noticeboard()
        publish = board.about.assign(json.dumps(about._asdict()))
        count, take = board.news.size(), board.news.dequeue()
        graph.finalize()
        with open_session_of(graph, server.target) as sess:
            sess.run([count, publish])
            say(f"worker {options.task} at {about.address} ({about.machine}): computes parts of "
                f"the training steps of {addresses[0]} and keeps nothing; "
                + ("Ctrl-C ends it" if options.keep else "ends with the run, or at Ctrl-C"))
            while True:
                time.sleep(POLL_SECONDS)
                for _ in range(sess.run(count)):
                    has_ended = sess.run(take) == END
                    say(f"the run of {addresses[0]} has {'ended' if has_ended else 'begun'}")
                    if has_ended and not options.keep:
                        return 0


# --------------------------------------------------------------------------------------------------
# The first machine
# --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def visit(address):
    """A session at a worker and its Noticeboard; fails within ASK_SECONDS."""
    with tf.Graph().as_default() as graph:
        board = create_noticeboard()
        with open_session_of(graph, f"grpc://{address}", seconds=ASK_SECONDS) as sess:
            yield sess, board


def ask(address):
    """The Worker at an address. Raises OSError or OpError where none answers."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=ASK_SECONDS).close()
    with visit(address) as (sess, board):
        about = json.loads(sess.run(board.about.read_value()))
    if about.keys() != {*Worker._fields}:
        raise UserError(f"the worker at {address} is of another version of this program: update "
                        "one of them")
    return Worker(**about)


def tell(worker, news):
    """Leaves news at a worker, if it is there."""
    with contextlib.suppress(OSError, tf.errors.OpError), \
            visit(worker.address) as (sess, board):
        sess.run(board.news.enqueue(news))


def wait_for(address, task, options):
    """The Worker at an address, when it is ready. Raises UserError where it is not in time."""
    deadline, told = time.time() + options.worker_timeout, None
    while True:
        try:
            return ask(address)
        except (tf.errors.NotFoundError, tf.errors.FailedPreconditionError):
            reason = "it is starting"
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "strerror", None) or describe_error(error)
        if reason != told:
            say(f"waiting for {address} ({reason}), start it there: python pix2pix.py --mode "
                f"worker --cluster {options.cluster} --task {task}")
        told = reason
        if time.time() > deadline:
            raise UserError(f"no worker answers at {address} ({reason}): start it, open its port "
                            "in the firewall, or correct --cluster")
        time.sleep(POLL_SECONDS)


def find_machine(task, target):
    """The random number of the machine that a server takes for a task's. Raises OpError."""
    with tf.Graph().as_default() as graph, \
            open_session_of(graph, target, [task], ASK_SECONDS) as sess:
        return {device.name: device.incarnation for device in sess.list_devices()}[
            f"/job:{JOB}/replica:0/task:{task}/device:CPU:0"]


def check_ways_back(workers, options, server):
    """Raises UserError where a worker does not reach the first machine, or the one before it in
    --cluster, which sends it a sum in every step, or reaches another in its place: that may be
    where this run was to be started, and have one of its own. server: of the first machine."""
    addresses = options.cluster.split(",")
    for worker in workers:
        for task in sorted({0, worker.task - 1}):
            try:
                found = find_machine(task, f"grpc://{worker.address}")
            except tf.errors.OpError:
                raise UserError(
                    f"{worker.address} cannot reach {addresses[task]}: open its port in the "
                    "firewall, or give in --cluster an address by which all machines reach it"
                    ) from None
            if found != find_machine(task, f"grpc://{addresses[task]}" if task else server.target):
                raise UserError(
                    f"{worker.address} finds another machine at {addresses[task]}: train on the "
                    "machine whose address is the first in --cluster, and give addresses that mean "
                    "the same everywhere")


def check_workers(workers, options):
    """Raises UserError where a worker belongs to another cluster, and warns where the bits may
    differ from those of one machine."""
    version, machine = tf.__version__, describe_machine()
    for task, worker in enumerate(workers, 1):
        if (worker.cluster, worker.task) != (options.cluster, task):
            raise UserError(f"the worker at {worker.address} was started with --cluster "
                            f"{worker.cluster} --task {worker.task}: restart it with --cluster "
                            f"{options.cluster} --task {task}")
        if worker.deterministic != options.deterministic:
            raise UserError(f"the worker at {worker.address} was started "
                            f"with{'' if worker.deterministic else 'out'} --deterministic: give it "
                            "to all machines or none")
        if worker.tensorflow != version:
            warn(f"{worker.address} has TensorFlow {printable(worker.tensorflow)}, this machine "
                 f"{version}: the result may differ in the last bits from that of one machine, or "
                 "the run fail")
        if worker.machine != machine:
            warn(f"{worker.address} is {printable(worker.machine)}, this machine {machine}: the "
                 "result may differ in the last bits from that of one machine")


class Devices:
    """What a training computes on."""

    def __init__(self, options, names, workers=(), server=None):
        """names: for tf.device, that of the variables first; server: of the first machine."""
        self.options, self.names, self.workers, self.server = options, names, workers, server
        self.target = server.target if server else ""

    @contextlib.contextmanager
    def open_session(self, graph):
        """A session of a graph that has yet to be built, in which everything that does not say
        otherwise is placed on this machine; and its devices in words, such as "CPU, GPU"."""
        config = tf1.session_config()
        if self.workers:  # not for ever, should one be lost at this moment
            config.operation_timeout_in_ms = 1000 * MAX_RUN_SECONDS
        sess = tf.Session(self.target, graph=graph, config=config)
        seconds, code = self.options.worker_timeout if self.workers else None, 0
        try:
            types = self.compute(lambda options: tf1.device_types(sess))
            if len(self.names) > 1:
                types = f"{types} ({len(self.names)} devices"
                types += f" of {len(self.workers) + 1} machines)" if self.workers else ")"
            with tf.device(f"/job:{JOB}/task:0" if self.workers else None):
                yield sess, types
        except RunError as error:
            seconds, code = ASK_SECONDS, error.code
            raise
        finally:  # waits for workers, for lost ones too; mostly a second, at times seven
            closing = threading.Thread(target=sess.close, daemon=True)
            closing.start()
            closing.join(seconds)
            if closing.is_alive():
                atexit.register(end_beside, closing, code)

    def compute(self, run, seconds=0):
        """Returns run(options=RunOptions), a run of the session in which workers take part. Raises
        RunError where one is lost. seconds: that it may take beyond --worker_timeout."""
        seconds += self.options.worker_timeout
        limit = tf.RunOptions(timeout_in_ms=math.ceil(1000 * seconds))
        try:
            return run(options=limit)
        except tf.errors.OpError as error:
            lost = [text for worker in self.workers if (text := describe_loss(worker))]
            advice = "when it is there again, or leave it out of --cluster"
            if not lost and isinstance(error, tf.errors.DeadlineExceededError):
                lost = [f"a step took longer than {seconds:g} seconds"]
                advice = "and a larger --worker_timeout"
            if not lost:
                raise
            raise RunError(f"{all_of(lost)}: no step is lost; continue with --resume {advice}"
                           ) from None

    def tell(self, news):
        """Leaves news at all workers."""
        for worker in self.workers:
            tell(worker, news)


def end_beside(closing, code):
    """Ends the process at once if a session is still being closed: its thread, coming back from
    TensorFlow while Python ends, would abort the process."""
    if closing.is_alive():
        os._exit(code)


def describe_loss(worker):
    """What has become of a worker, in words; None where it is still the same and answers."""
    try:
        is_same = ask(worker.address).process == worker.process
    except tf.errors.DeadlineExceededError:
        return f"the worker at {worker.address} does not answer"
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or describe_error(error)
        return f"the worker at {worker.address} is gone ({reason})"
    return None if is_same else f"the worker at {worker.address} has been restarted"


def check_parts(options, names):
    """Raises UserError where a step has fewer parts than there are devices."""
    count, parts, size = len(names), options.grad_accumulation, options.batch_size
    if count <= parts:
        return
    advice = f"give --grad_accumulation {count}"
    if size * parts % count == 0:
        advice = f"give --batch_size {size * parts // count} --grad_accumulation {count} for " \
            f"steps of {size * parts} images as now"
    raise UserError(f"{count} devices need a step of {count} parts at least, --grad_accumulation "
                    f"{parts} has {parts}: {advice}, or fewer devices")


@contextlib.contextmanager
def open_devices(options):
    """The Devices of a training; workers are told when it has ended. Raises UserError."""
    names = local_devices(options.num_gpus)
    if options.cluster is None:
        check_parts(options, names)
        yield Devices(options, names)
        return
    check_addresses(options)
    addresses = options.cluster.split(",")[1:]
    with tf1.exit_at_signals():
        server = start_server(options.cluster, 0)
        workers = [wait_for(address, task, options) for task, address in enumerate(addresses, 1)]
    check_workers(workers, options)
    check_ways_back(workers, options, server)
    names += [f"/job:{JOB}/task:{worker.task}{device}"
              for worker in workers for device in worker.devices]
    check_parts(options, names)
    devices = Devices(options, names, workers, server)
    devices.tell(BEGIN)
    try:
        yield devices
    except KeyboardInterrupt:
        devices.tell(END)
        raise
    devices.tell(END)  # not after a failure: then the run is likely to be continued
