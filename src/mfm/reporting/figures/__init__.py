"""Figures of a finished experiment, as SVG for the report and PNG for anything else."""

# Name, and what it shows.
FIGURES = {
    "answer": "An interval that holds zero leaves open which of the two is better.",
    "difference": "Differences of the arms that are compared, with their 95% intervals. Small dots "
    "are single seeds. An interval that holds zero leaves open which of the two is better.",
    "accuracy": "Top-1 accuracy of each arm: every seed, the mean, and its 95% interval.",
    "frontier": "What accuracy costs: top-1 of each arm with its 95% interval, over the time of a "
    "pretraining and a finetuning. The dashed line joins the arms that no cheaper one is as good "
    "as. Intervals are each arm's own: which differences are clear is in the first figure.",
    "finetuning": "Training loss while finetuning and, where finetune.curve_images asks for it, "
    "accuracy on a few of the evaluated images. To be looked at: every number of the table is of "
    "the last epoch, on all images.",
    "classes": "Which classes gain. Intervals are for one class at a time and not corrected for "
    "the number of classes: of twenty, about one misses zero by chance.",
    "pretraining": "Loss of each pretraining. The dashed lines, where there are some, are "
    "measured on a few fixed validation images at some steps. A dotted line is a prediction that "
    "is the same for every image: a loss that doesn't fall clearly below the dotted line of its "
    "colour has learned nothing from the images.",
    "confusion": "What images of the worst classes are taken for, over all seeds.",
}
