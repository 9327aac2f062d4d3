import sys
from pathlib import Path

from mfm import config as schema
from mfm import workflow as experiments
from mfm.errors import UserError, one_line


def get_experiment(values):
    """The checked configuration; a wrong one ends here, in one line, before any job."""
    try:
        experiment = schema.parse(schema.Experiment, values, where="configuration")
        experiments.check(experiment, links_again=get_forces())
    except UserError as error:
        sys.exit(f"mfm: error: {one_line(error)}")
    return experiment


def get_forces():
    """Whether this call forces jobs, maybe the dataset's: what is known of it may be old then.

    Snakemake knows its own options only after it has read this file.
    """
    options = {"-f", "--force", "-F", "--forceall", "-R", "--forcerun"}
    return any(word.split("=")[0] in options for word in sys.argv)


def get_demands(wildcards, output):
    """What the experiment asks of the dataset, for the job that knows the dataset first.

    `output` is here because Snakemake does not compare a parameter that is derived from it with the
    last run's: another batch size does not link the dataset again.
    """
    return schema.dumps(experiments.demands(EXPERIMENT))


def get_stage_files(stage, files):
    """Input function of the rule that asks for all jobs of a stage by the stage's name.

    A rule asked for by name (`snakemake pretrain`) has no wildcards, and a stage's jobs need some,
    so each stage has a target rule of its name and a rule NAME_run for its jobs. Forcing the name
    has to force the jobs: this runs after the rules to force are known and before they are applied.
    """

    def get_files(wildcards):
        settings = workflow.dag_settings
        if stage in settings.forcerun or (settings.forcetargets and stage in settings.targets):
            workflow.dag.forcerules.add(workflow.get_rule(f"{stage}_run"))
        return files

    return get_files


def get_config_json(stage):
    """Input function of the local rules that write a job's own resolved configuration."""

    def get_text(wildcards):
        return schema.dumps(experiments.resolve(EXPERIMENT, stage, **dict(wildcards.items())))

    return get_text


def get_initial_weights(wildcards):
    """The files an arm starts from: a pretraining's backbone, a local file, or none."""
    return experiments.initial_files(EXPERIMENT, wildcards.init)


def get_weights_argument(wildcards):
    """What finetuning is told to load; empty for an arm from scratch."""
    return experiments.weights_argument(EXPERIMENT, wildcards.init)


def get_pretrain_name(wildcards):
    return experiments.pretrain_name(EXPERIMENT, wildcards.init)


def get_ranks(stage):
    """Processes of a job. They are part of the recipe; threads and GPUs come from the profile."""

    def get_count(wildcards):
        if stage == "pretrain":
            return EXPERIMENT.pretrain[wildcards.pretrain].ranks
        return EXPERIMENT.finetune.ranks

    return get_count


def get_pretrain_threads(wildcards):
    """An equal share of the cores for each pretraining: side by side they are faster than in turn.

    A finetuning has one thread by default, because there are many of them.
    """
    return max(1, workflow.cores // len(experiments.used_pretrainings(EXPERIMENT)))


def get_result_rows(wildcards):
    """Every evaluation's row. A deleted one is evaluated again, and the table with it.

    Snakemake does not miss a deleted file while everything made from it is still there.
    """
    rows = get_evaluations(rules.evaluate_run.output.row)
    if not all(Path(row).exists() for row in rows):
        workflow.dag.forcerules.add(workflow.get_rule("results"))
    return rows


def get_pretrain_targets():
    """The backbones that arms start from, and the figures of what the models predict."""
    return expand(
        rules.pretrain_run.output.backbone, pretrain=experiments.used_pretrainings(EXPERIMENT)
    ) + expand(
        rules.reconstructions.output.figure, pretrain=experiments.drawn_pretrainings(EXPERIMENT)
    )


def get_evaluations(pattern, amounts=("",)):
    """`pattern` with every arm and seed of the experiment, and amount of labelled images."""
    return [
        pattern.format(labels=labels, init=init, seed=seed)
        for labels in amounts
        for init, seed in experiments.finetunings(EXPERIMENT)
    ]


def get_efficiency_targets():
    """The comparison over amounts of labelled images, where the configuration lists some."""
    return rules.label_efficiency.output if EXPERIMENT.label_efficiency else []


def get_efficiency_rows(wildcards):
    """The result rows of every amount of labelled images, in the configuration's order."""
    return [
        row
        for amount in EXPERIMENT.label_efficiency
        for row in experiments.evaluations(EXPERIMENT, amount)
    ]


def get_ablation_pages(wildcards):
    """The ablations that have been run, and when: the report takes them in.

    As a parameter: they are targets of their own, which the report shall not start.
    """
    pages = experiments.ablation_pages(EXPERIMENT)
    return [f"{page.name} {page.stat().st_mtime_ns}" for page in pages]


EXPERIMENT = get_experiment(config)
RESULTS = EXPERIMENT.results.rstrip("/")
DATA = f"data/{EXPERIMENT.dataset.name}"
# Folders, below the results, of the finetunings with other amounts of labelled images; the first
# is '': the runs of the table are in no folder of their own.
AMOUNTS = list(experiments.amounts(EXPERIMENT))

# Jobs run with the Python that runs this workflow, also where its environment isn't activated.
# In a conda environment of a rule, that environment's own Python comes first instead.
_environment = "export MFM_END_WITH_PARENT=1; "
if not workflow.deployment_settings.deployment_method:
    _environment += f"export PATH={Path(sys.executable).parent}:$PATH; "
shell.prefix(_environment)


wildcard_constraints:
    pretrain="|".join(EXPERIMENT.pretrain) or "none",
    init="|".join(EXPERIMENT.initialisations),
    seed=r"\d+",
    labels=f"({'|'.join(AMOUNTS)})",  # an empty constraint would be none at all
