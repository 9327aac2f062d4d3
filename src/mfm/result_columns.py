"""The columns of results.csv, apart from what computes them: reports need no torch to read them."""

COLUMNS = (
    "init",
    "pretrain",
    "seed",
    "top1",
    "top5",
    "loss",
    "images",
    "epochs",
    "train_images",
    "images_per_second",
    "seconds",
    "code_version",
    "config_hash",
    "checkpoint",
)
