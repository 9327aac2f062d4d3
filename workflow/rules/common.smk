import sys
from pathlib import Path

from mfm import ablations
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
        experiment = RUNS if stage in ("pretrain", "finetune") else EXPERIMENT
        return schema.dumps(experiments.resolve(experiment, stage, **dict(wildcards.items())))

    return get_text


def get_longer_json(wildcards):
    """What determines a run of an arm that is trained as long as another, besides the images."""
    return schema.dumps(experiments.resolve_longer(EXPERIMENT, **dict(wildcards.items())))


def get_initial_weights(wildcards):
    """The files an arm starts from: a pretraining's backbone, a local file, or none."""
    return experiments.initial_files(RUNS, wildcards.init)


def get_pretrain_weights(wildcards):
    """The file that a pretraining goes on from, or none."""
    return experiments.pretrain_files(RUNS, wildcards.pretrain)


def get_weights_argument(wildcards):
    """What finetuning is told to load; empty for an arm from scratch."""
    return experiments.weights_argument(RUNS, wildcards.init)


def get_pretrain_name(wildcards):
    return experiments.pretrain_name(RUNS, wildcards.init)


def get_ranks(stage):
    """Processes of a job. They are part of the recipe; threads and GPUs come from the profile."""

    def get_count(wildcards):
        if stage == "pretrain":
            return RUNS.pretrain[wildcards.pretrain].ranks
        return EXPERIMENT.finetune.ranks

    return get_count


def get_pretrain_threads(wildcards):
    """An equal share of the cores for each pretraining: side by side they are faster than in turn.

    A finetuning has one thread by default, because there are many of them.
    """
    # A cluster's jobs have no cores to share; its profile says how many each gets.
    return max(1, (workflow.cores or 1) // len(experiments.used_pretrainings(EXPERIMENT)))


def get_launcher(wildcards, threads, resources):
    """The module that starts a training's processes: here, or on the nodes of a SLURM job.

    `resources` is here also because Snakemake then does not compare the text with the last run's:
    another number of nodes, or the profile of a cluster, does not repeat finished runs.
    """
    ranks, nodes = resources.ranks, resources.nodes
    if nodes == 1 and not resources.requeue:
        return f"mfm.launch --standalone --nproc-per-node {ranks}"
    options = f"--nodes {nodes} --ranks {ranks} --threads {threads} --gpus {resources.gpu}"
    return f"mfm.slurm {options}{' --requeue' if resources.requeue else ''} --"


def get_result_rows(wildcards):
    """Every evaluation's row. A deleted one is evaluated again, and the table with it.

    Snakemake does not miss a deleted file while everything made from it is still there.
    """
    rows = get_evaluations(rules.evaluate_run.output.row)
    if not all(Path(row).exists() for row in rows):
        workflow.dag.forcerules.add(workflow.get_rule("results"))
    return rows


def get_plan_rows(wildcards):
    """Every evaluation's row; none where the plan alone is asked for: then nothing is run for it."""
    if set(workflow.dag_settings.targets) in ({"plan"}, {f"{RESULTS}/plan.md"}):
        workflow.dag.forcerules.add(workflow.get_rule("plan"))
        return []
    return get_evaluations(rules.evaluate_run.output.row)


def get_finished_rows(wildcards, input):
    """The rows that a plan is made from: its inputs, or those that are there.

    `input` is here because Snakemake does not compare a parameter that is derived from it with the
    last run's: the rows themselves are compared.
    """
    rows = get_evaluations(rules.evaluate_run.output.row)
    return list(input.rows) or [row for row in rows if Path(row).exists()]


def get_pretrain_targets():
    """The backbones that arms start from, and the figures of what the models predict."""
    return expand(
        rules.pretrain_run.output.backbone, pretrain=experiments.used_pretrainings(RUNS)
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


def get_table_experiment():
    """The experiment as the table sees it: what else is compared doesn't change it."""
    others = {"label_efficiency": [], "ablations": schema.Ablations()}
    return schema.dumps_ordered(EXPERIMENT.model_copy(update=others))


def get_all_evaluations(pattern):
    """`pattern` with everything that is finetuned: also other amounts, and the ablations' arms."""
    variants = [
        pattern.format(labels="", init=init, seed=seed)
        for init, seed in experiments.finetunings(RUNS)
        if init not in EXPERIMENT.arms
    ]
    return get_evaluations(pattern, AMOUNTS) + variants


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


def get_ablation_targets():
    """The ablations that the configuration gives values for."""
    return expand(rules.ablation.output, ablation=ABLATIONS) if ABLATIONS else []


def get_ablation_rows(wildcards):
    """The result rows of an ablation: of each value, arm and seed."""
    rows = ablations.rows(EXPERIMENT, wildcards.ablation)
    return sorted({row for part in rows.values() for row in part})


EXPERIMENT = get_experiment(config)
# With the ablations' further pretrainings and arms: what there may be a job for.
RUNS = ablations.with_variants(EXPERIMENT)
ABLATIONS = ablations.asked(EXPERIMENT)
RESULTS = EXPERIMENT.results.rstrip("/")
DATA = f"data/{EXPERIMENT.dataset.name}"
# Folders, below the results, of finetunings with other recipes; the first is '': the runs of the
# table are in no folder of their own.
AMOUNTS = list(experiments.amounts(EXPERIMENT))
LONGER = list(experiments.longer_arms(EXPERIMENT))

# Jobs run with the Python that runs this workflow, also where its environment isn't activated.
# In a conda environment of a rule, that environment's own Python comes first instead.
_environment = "export MFM_END_WITH_PARENT=1; "
if not workflow.deployment_settings.deployment_method:
    _environment += f"export PATH={Path(sys.executable).parent}:$PATH; "
shell.prefix(_environment)


wildcard_constraints:
    pretrain="|".join(RUNS.pretrain) or "none",
    init="|".join(RUNS.arms),
    seed=r"\d+",
    ablation="|".join(ABLATIONS) or "none",
    resize=r"\d+",
    labels=f"({'|'.join(AMOUNTS)})",  # an empty constraint would be none at all
