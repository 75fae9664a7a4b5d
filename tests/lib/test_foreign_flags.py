"""tools/lib/foreign_flags.py: command lines of other pix2pix programs, and typing errors."""

import re

import pytest
from helpers import ROOT

import pix2pix
from tools.lib import foreign_flags
from tools.lib.cli import UserError

PARSER = pix2pix.create_parser()
FLAGS = [flag for action in PARSER._actions for flag in action.option_strings
         if flag.startswith("--")]


def test_advice_names_flags_that_exist_for_names_that_do_not():
    names = foreign_flags.suggestions()
    assert not {f"--{name}" for name in names} & {*FLAGS}
    for advice in names.values():
        assert {*re.findall(r"--\w+", advice)} <= {*FLAGS}
    for table in (foreign_flags.FOREIGN_NAMES, foreign_flags.REMARKS):
        assert sum(len(text.split()) for text in table.values()) == len(
            {name for text in table.values() for name in text.split()}), "a name twice"


@pytest.mark.parametrize("foreign, ours", [
    # junyanz's pytorch-CycleGAN-and-pix2pix, today's names and those of before 2019
    ("--dataroot", "--input_dir"), ("--name", "--output_dir"), ("--direction", "--which_direction"),
    ("--netG", "--generator"), ("--netD", "--patch_size"), ("--lambda_L1", "--l1_weight"),
    ("--n_epochs", "--max_epochs"), ("--continue_train", "--resume"), ("--load_size",
                                                                       "--scale_size"),
    ("--gan_mode", "--gan_loss"), ("--batchSize", "--batch_size"), ("--loadSize", "--scale_size"),
    ("--fineSize", "--crop_size"), ("--niter", "--max_epochs"), ("--lambda_A", "--l1_weight"),
    ("--which_model_netG", "--generator"), ("--checkpoints_dir", "--output_dir"),
    ("--phase", "--mode"),
    # others
    ("--epochs", "--max_epochs"), ("--batch", "--batch_size"), ("--learning_rate", "--lr"),
    ("--L1_lambda", "--l1_weight"), ("--image_size", "--crop_size"), ("--fine_size", "--crop_size"),
    ("--input", "--input_dir"), ("--output", "--output_dir"), ("--epoch", "--checkpoint"),
    ("--preprocess", "--resize"), ("--num_test", "--max_images"),
    ("--max_dataset_size", "--max_images")])
def test_flags_of_other_programs(foreign, ours):
    with pytest.raises(UserError) as caught:
        pix2pix.parse_args([foreign, "x"])
    assert str(caught.value) == f"unknown flag {foreign}: did you mean {ours}?"


def test_the_docs_show_what_is_printed(capsys):
    text = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    command, printed = re.search(r"```\n\$ python pix2pix.py (.*)\n(.*\n)```", text).groups()
    assert pix2pix.main(command.split()) == 2
    assert capsys.readouterr().err == printed


@pytest.mark.parametrize("flag", ["--gpu_ids", "--input_nc", "--num_threads", "--model",
                                  "--pool_size", "--init_type", "--serial_batches",
                                  "--display_id", "--eval"])
def test_flags_that_have_no_counterpart(flag):
    assert PARSER.suggest_flag(flag).startswith("remove it, ")


def typing_errors(name):
    """The names with a letter left out, doubled or swapped with the next, and written otherwise."""
    for at in range(len(name)):
        yield name[:at] + name[at + 1:]
        yield name[:at] + name[at] + name[at:]
        yield name[:at] + name[at:at + 2][::-1] + name[at + 2:]
    yield from (name.replace("_", ""), name.replace("_", "-"), name.upper())


def test_nearly_every_typing_error_is_recognized():
    """Where it leaves another name, as --nf does, the nearest is only a guess."""
    errors = [(flag, typed) for flag in FLAGS for typed in {*typing_errors(flag[2:])}
              if typed and f"--{typed}" not in FLAGS]
    wrong = [(flag, typed) for flag, typed in errors
             if flag not in PARSER.suggest_flag(f"--{typed}")]
    assert len(errors) > 1000 and len(wrong) < 0.01 * len(errors), wrong
