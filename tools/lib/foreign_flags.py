"""What other pix2pix programs call the flags, so that a command line of theirs can be answered."""

from __future__ import annotations

# flag -> its names in junyanz's pytorch-CycleGAN-and-pix2pix of all years, phillipi's pix2pix,
# pix2pixHD, yenchenlin's and eriklindernoren's programs, Keras and TensorFlow's tutorial
FOREIGN_NAMES = {
    "--mode": "phase action",
    "--input_dir": "input dataroot data_root data_dir data_path dataset dataset_name train_dir "
                   "path",
    "--output_dir": "output out name checkpoints_dir checkpoint_dir results_dir sample_dir "
                    "test_dir log_dir logdir suffix",
    "--checkpoint": "epoch which_epoch load_iter load_pretrain pretrained weights",
    "--resume": "continue_train",
    "--seed": "manual_seed random_seed",
    "--which_direction": "direction",
    "--crop_size": "fine_size finesize image_size img_size img_height img_width resolution",
    "--scale_size": "load_size loadsize",
    "--resize": "preprocess resize_or_crop",
    "--max_images": "num_test how_many max_dataset_size train_size",
    "--tile": "tile_size tiles",
    "--generator": "netg which_model_netg",
    "--patch_size": "netd which_model_netd n_layers_d",
    "--dropout": "use_dropout",
    "--unconditional": "condition_gan",
    "--gan_loss": "gan_mode no_lsgan",
    "--gan_weight": "use_gan lambda_gan",
    "--l1_weight": "lambda lambda_l1 l1_lambda lambda_a lambda_b lambda_pixel use_l1",
    "--feature_weight": "lambda_feat no_ganfeat_loss",
    "--max_epochs": "epochs n_epochs num_epochs niter",
    "--max_steps": "steps num_steps iterations n_iter",
    "--lr_decay": "lr_policy",
    "--lr_decay linear": "niter_decay n_epochs_decay",
    "--decay_from": "lr_decay_iters",
    "--decay_from_epoch": "decay_epoch",
    "--batch_size": "batchsize batch",
    "--lr": "learning_rate lrate",
    "--beta1": "b1 beta momentum",
    "--precision bfloat16": "fp16 amp",
    "--progress_freq": "print_freq",
    "--display_freq": "update_html_freq save_display_freq sample_interval",
    "--save_freq": "save_latest_freq checkpoint_interval",
    "--keep_every_epochs": "save_epoch_freq",
}
REMARKS = {  # what to do instead of a flag that has no counterpart -> its names
    "remove it, CUDA_VISIBLE_DEVICES chooses GPUs and --num_gpus N uses several":
        "gpu_ids gpu gpus device cuda cudnn",
    "remove it, or give --a_channels and --b_channels": "input_nc output_nc label_nc channels",
    "remove it, TensorFlow chooses how many threads read images": "num_threads nthreads n_cpu "
                                                                  "num_workers",
    "remove it, this program trains pix2pix alone, from pairs": "model dataset_mode pool_size "
                                                                "lambda_identity",
    "remove it, results are shown on the page index.html": "display_id display_winsize "
                                                           "display_port no_html",
    "remove it, --mode test is enough": "eval",
    "remove it, weights begin as in the paper": "init_type init_gain",
    "remove it, Adam's second decay rate is 0.999": "beta2 b2",
    "remove it, the order of images is random in training and that of the names in test":
        "serial_batches",
}


def suggestions():
    """Name of a flag elsewhere -> the flag to use here, or what to do in words."""
    return {name: advice for table in (FOREIGN_NAMES, REMARKS)
            for advice, names in table.items() for name in names.split()}
