import hashlib
import json
import os
import re
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import mfm
from mfm.data.settings import MANIFEST, OTHER_SPLIT, images_file
from mfm.errors import explain
from mfm.evaluation import also_evaluations
from mfm.evaluation.frozen.settings import FLOORS
from mfm.experiment import preflight, resolve
from mfm.experiment.demands import demands_of
from mfm.experiment.layout import Layout, dataset_folder, locate, other_images_folder
from mfm.experiment.settings import Experiment
from mfm.experiment.tuning import Choice
from mfm.experiment.variants import Runs
from mfm.files.records import record_of
from mfm.files.atomic import check_writable, write_text
from mfm.processes import devices, gpus
from mfm.settings.section import dumps, dumps_ordered, load_json
from mfm.settings.section import parse as parse_settings
from mfm.statistics.planned import judge


@contextmanager
def one_line():
    """What a user can mend ends the workflow in one line."""
    try:
        yield
    except Exception as error:
        if (told := explain(error)) is None:
            raise
        sys.exit(f"mfm: error: {told}")


def get_runs(values):
    """The runs of the checked configuration; a wrong one ends here, in one line, before any job."""
    with one_line():
        runs = Runs(parse_settings(Experiment, values, where="configuration"))
        if runs.experiment.device != "auto":
            os.environ[devices.VARIABLE] = runs.experiment.device  # jobs have it from here
        if workflow.is_main_process:  # and not again in those of jobs
            preflight.check(runs, links_again=get_links_again(), forces=get_forces())
            check_writable(Path(".snakemake/log"))
            if get_writes():
                check_writable(dataset_folder(runs.experiment.dataset.name))
                check_writable(Path(runs.experiment.results), deep=True)
            for line in get_remarks(runs):
                print(f"mfm: note: {line}", file=sys.stderr)
    return runs


def get_remarks(runs):
    """What to know before anything is trained."""
    found, experiment = preflight.remarks(runs, here=bool(get_cores())), runs.experiment
    if experiment.question and not Path(runs.layout.rows).exists():
        from mfm.reporting.measure import Measure  # scipy takes a second

        asked, about = resolve.asked(experiment), experiment.question
        found.append(
            "question: "
            + judge(
                runs=asked["runs"],
                pretrainings=asked["pretrainings"],
                difference=about.difference,
                deviation=about.deviation,
                unit=Measure(about.metric, experiment.evaluate.top_k).unit,
            )
        )
    return found


def get_writes():
    """Whether this call is to run jobs, and not only to tell of them."""
    tells = {"--lint", "--list", "--list-rules", "--dag", "--rulegraph", "--filegraph", "--unlock"}
    tells |= {"--report", "--summary", "--detailed-summary", "--dry-run", "--dryrun"}
    short = [word for word in sys.argv if word.startswith("-") and not word.startswith("--")]
    words = {word.split("=")[0] for word in sys.argv}
    return not tells & words and not any(set(word) & set("nlSD") for word in short)


def begin():
    """Leave what this configuration asks for to `mfm watch`: of others, runs may be there too."""
    with one_line():
        write_text(Path(LAYOUT.asked), "".join(f"{folder}\n" for folder in RUNS.trainings))


def get_forces():
    """Whether this call forces jobs: files that were changed are made again then."""
    options = {"-f", "--force", "-F", "--forceall", "-R", "--forcerun"}
    return any(word.split("=")[0] in options for word in sys.argv)


def get_links_again():
    """Whether this call forces the dataset to be linked: what is known of it may be old then."""
    words = {word.split("=")[-1] for word in sys.argv}
    linking = {"link_dataset", "dataset_config", "-F", "--forceall"} & words
    return get_forces() and bool(linking or any(word.startswith("data/") for word in words))


def get_experiment(others=False):
    """The experiment as JSON; without what else is compared, unless a page is about that."""
    if others:
        return dumps_ordered(EXPERIMENT)
    others = dict.fromkeys(FURTHER.values()) | {"also": {}}
    evaluate = EXPERIMENT.evaluate.model_copy(update=others)
    alone = EXPERIMENT.model_copy(update={"variants": {}, "evaluate": evaluate})
    if EXPERIMENT.tuning is not None and EXPERIMENT.tuning.use == "shared":
        alone = alone.model_copy(update={"tuning": None})
    return dumps_ordered(alone)


def get_question(wildcards, output):
    """Words with which a training declares the question before it begins.

    `output` as in get_demands: another question trains nothing again.
    """
    if EXPERIMENT.question is None:
        return []
    return ["--question", LAYOUT.question, json.dumps(resolve.asked(EXPERIMENT))]


def get_look(wildcards, output):
    """Words with which an evaluation is counted. `output` as in get_demands: one more arm makes
    another experiment, and evaluates no other again."""
    return [resolve.experiment_hash(RUNS.at(wildcards.get("folder", ""))), LAYOUT.results]


def get_demands(wildcards, output):
    """What the experiment asks of the dataset, for the job that knows the dataset first.

    `output` is here because Snakemake does not compare a parameter that is derived from it with the
    last run's: another batch size does not link the dataset again.
    """
    return dumps(demands_of(RUNS))


def get_dataset_job(wildcards):
    return resolve.dataset_job(EXPERIMENT)


def get_other_images_job(wildcards):
    return resolve.other_images_job(EXPERIMENT, wildcards.evaluation)


def get_dataset_report_job(wildcards):
    return resolve.dataset_report_job(EXPERIMENT)


def get_pretrain_job(wildcards):
    experiment = RUNS.at(wildcards.get("folder", ""))
    return resolve.pretrain_job(experiment, wildcards.pretraining, int(wildcards.seed))


def get_finetune_job(wildcards):
    experiment = RUNS.at(wildcards.folder)
    return resolve.finetune_job(experiment, wildcards.arm, int(wildcards.seed))


def get_evaluate_job(wildcards):
    name = wildcards.get("evaluation", "evaluate")
    return resolve.evaluate_job(RUNS.at(wildcards.get("folder", "")), name)


def get_features_job(wildcards):
    return resolve.features_job(EXPERIMENT, wildcards.features, wildcards.start)


def get_probe_job(wildcards):
    return resolve.probe_job(EXPERIMENT, wildcards.features)


def get_text(get_job):
    """Parameter function: what a job's own settings file says."""
    return lambda wildcards: dumps(get_job(wildcards))


def get_sha256(get_job):
    """Parameter function: its sum, for the job to see whether the file was edited since.

    `output` as in get_demands: the file itself is what Snakemake compares.
    """

    def get_sum(wildcards, output):
        return hashlib.sha256(f"{dumps(get_job(wildcards))}\n".encode()).hexdigest()

    return get_sum


def get_linked_images():
    """What says of each split of the linked dataset which images it has."""
    return [str(images_file(DATA / MANIFEST, split)) for split in EXPERIMENT.dataset.splits]


def get_images(get_job):
    """Input function: the same of the splits that a job reads, once the dataset is linked."""

    def get_files(wildcards):
        manifest = Path(checkpoints.link_dataset.get().output.manifest)
        return [str(images_file(manifest, split)) for split in get_job(wildcards).splits]

    return get_files


def get_trained_images(wildcards):
    """Input function: the same of the images that are trained on, which others are compared with."""
    manifest = Path(checkpoints.link_dataset.get().output.manifest)
    return [str(images_file(manifest, "train"))]


def get_first_seed(wildcards):
    """The first of the seeds that start from the weights of a features file."""
    starts = resolve.feature_starts(EXPERIMENT, wildcards.features)
    return next(seed for seed, start in starts.items() if start == wildcards.start)


def get_features_weights(wildcards):
    """What features are of; 'scratch' for those that no weights are read for."""
    if wildcards.features in FLOORS:
        return "scratch"
    return RUNS.initial_weights(wildcards.features, get_first_seed(wildcards))


def get_features_files(wildcards):
    if wildcards.features in FLOORS:
        return []
    return RUNS.initial_files(wildcards.features, get_first_seed(wildcards))


def get_features(wildcards):
    """The features file of each seed."""
    starts = resolve.feature_starts(EXPERIMENT, wildcards.features)
    return [LAYOUT.features(wildcards.features, start) for start in starts.values()]


def get_features_once(wildcards):
    return list(dict.fromkeys(get_features(wildcards)))


def get_frozen():
    """The accuracies on frozen features, where they are asked for."""
    return LAYOUT.frozen() if FROZEN else []


def get_probe_page(*endings):
    """The page on frozen features, and its numbers and figure."""
    return [LAYOUT.probe(ending) for ending in endings or ["md"]] if FROZEN else []


def get_initial_weights(wildcards):
    """What a finetuning is told to load; 'scratch' for an arm from scratch."""
    return RUNS.initial_weights(wildcards.arm, int(wildcards.seed), folder=wildcards.folder)


def get_named_weights(wildcards):
    """The weights that an arm of every seed starts from, which are not a pretraining's."""
    return RUNS.at(wildcards.folder).arms[wildcards.arm].weights


def get_initial_files(wildcards):
    """The files that a finetuning waits for; a change in them runs it again."""
    return RUNS.initial_files(wildcards.arm, int(wildcards.seed), folder=wildcards.folder)


def get_pretrain_weights(wildcards):
    """The file that a pretraining goes on from, or 'scratch'."""
    return RUNS.at(wildcards.folder).pretrain[wildcards.pretraining].weights or "scratch"


def get_pretrain_files(wildcards):
    weights = get_pretrain_weights(wildcards)
    return [] if weights == "scratch" else [weights]


def get_finetuning(wildcards):
    """Files of the finetuning that an evaluation is of."""
    arm, seed = wildcards.arm, int(wildcards.seed)
    folder = RUNS.finetuning(arm, seed, folder=wildcards.folder)
    return LAYOUT.finetuning(arm, seed, folder=folder)


def get_finetuned(kind):
    """Input function: one of these files."""
    return lambda wildcards: getattr(get_finetuning(wildcards), kind)


def get_pretraining_name(wildcards):
    return resolve.pretraining_of(RUNS.at(wildcards.folder), wildcards.arm) or "-"


def get_ranks(stage):
    """Processes of a job. They are part of the recipe; threads and GPUs come from the profile."""

    def get_count(wildcards):
        experiment = RUNS.at(wildcards.folder)
        if stage == "pretrain":
            return experiment.pretrain[wildcards.pretraining].ranks
        return experiment.finetune.ranks

    return get_count


def get_gpus(stage):
    """GPUs of a job: one a process, counted in runs where several may share one."""

    def get_count(wildcards):
        if EXPERIMENT.device in ("cpu", "mps"):
            return 0
        ranks = get_ranks(stage)(wildcards)
        here = workflow.cores and workflow.is_main_process
        return gpus.share(ranks) if here else ranks  # a cluster gives whole ones

    return get_count


def get_cores():
    """Cores that jobs have here; none where a cluster runs them, or nothing is run."""
    try:
        return workflow.cores
    except WorkflowError:
        return None


def get_pretrain_threads(wildcards):
    """An equal share of the cores for each pretraining: side by side they are faster than in turn.

    A finetuning has one thread by default, because there are many of them.
    """
    # A cluster's jobs have no cores to share; its profile says how many each gets.
    return max(1, (get_cores() or 1) // len(RUNS.pretrainings))


def get_workers(wildcards, threads):
    """Loader processes of a rank: none where a job has one core alone, which they would share.

    (A finetuning of 250 images of 28 px took 15% less of the processor without.) A GPU's core has
    time for one.
    """
    return 1 if threads > 1 or shutil.which("nvidia-smi") else 0


def get_launcher(wildcards, threads, resources):
    """The command that starts a training's processes: here, or on the nodes of a SLURM job.

    `resources` is here also because Snakemake then does not compare the text with the last run's:
    another number of nodes, or the profile of a cluster, does not repeat finished runs.
    """
    ranks, nodes = resources.ranks, resources.nodes
    if nodes == 1 and not resources.requeue:
        return f"launch --standalone --nproc-per-node {ranks}"
    options = f"--nodes {nodes} --ranks {ranks} --threads {threads} --gpus {resources.gpu}"
    return f"slurm {options}{' --requeue' if resources.requeue else ''} --"


def get_rows(wildcards):
    """Every evaluation's row, and a note of those that were deleted, or their predictions.

    Snakemake does not miss a deleted file while everything made from it is still there. The note is
    an input that changes then: the model is evaluated again, and the table made with it.
    """
    rows = get_compared("evaluation", "row")
    if callable(rows):
        rows = rows(wildcards)
    gone = [
        row
        for row in rows
        if not all(map(os.path.exists, [row, Path(row).with_suffix(".parquet")]))
    ]
    note = Path(LAYOUT.file("evaluate/deleted.txt"))
    if Path(LAYOUT.rows).exists() and gone:
        from mfm.evaluation.results import read_results  # pandas takes half a second

        known = read_results(LAYOUT.rows)
        known = {locate(checkpoint).evaluation.row for checkpoint in known["checkpoint"]}
        deleted = [row for row in gone if row in known]
        if deleted and os.access(note.parent, os.W_OK):
            write_text(note, "".join(f"{row}\n" for row in deleted))
    return rows + ([str(note)] if note.exists() else [])


def get_evaluations(kind, evaluation="evaluate"):
    """`row` or `predictions` of every evaluation of the experiment itself."""
    return [
        getattr(LAYOUT.evaluation(arm, seed, name=evaluation), kind)
        for arm, seed in resolve.finetunings(EXPERIMENT)
    ]


def get_trial_rows():
    """The rows of all trials of the tuning, in the grid's order."""
    return [row for trial in RUNS.trials.values() for row in RUNS.rows(trial)]


def get_tuned(of, kind):
    """Input function: a file of each of the table's models with its arm's best trial.

    `of` is 'run' or 'evaluation'. Which trial is best is known when all have been evaluated.
    """

    def get_files(wildcards):
        choice = load_json(Choice, Path(checkpoints.choice.get().output.choice))
        models = RUNS.tuned_models(choice.best)
        return [getattr(getattr(model, of), kind) for model in models]

    return get_files


def get_compared(of, kind):
    """A file of each model in the table: with the shared recipe, or with its arm's best trial."""
    if EXPERIMENT.tuning is not None and EXPERIMENT.tuning.use == "own":
        return get_tuned(of, kind)
    return get_evaluations(kind) if of == "evaluation" else get_finetunings(kind)


def get_finetunings(kind):
    """A file of every finetuning of the experiment itself."""
    return [
        getattr(LAYOUT.finetuning(arm, seed), kind) for arm, seed in resolve.finetunings(EXPERIMENT)
    ]


def get_pretrain_metrics():
    return [LAYOUT.pretraining(*run).metrics for run in resolve.pretrainings(EXPERIMENT)]


def get_compared_pretrainings(kind):
    """A file of each run whose loss is compared with a constant's."""
    runs = resolve.compared_pretrainings(EXPERIMENT)
    return [getattr(LAYOUT.pretraining(*run), kind) for run in runs]


def get_losses():
    """The pretrainings' losses beside those of constants, where there are any."""
    return LAYOUT.losses if resolve.compared_pretrainings(EXPERIMENT) else []


def get_pictures():
    """Pictures of the first of each pretraining's runs, where it has some."""
    pictured = resolve.pictured_pretrainings(EXPERIMENT)
    return [LAYOUT.pretraining(*run).pictures for run in pictured]


def get_pretrainings():
    """All backbones, also of variants, and the pictures."""
    runs = RUNS.pretrainings
    backbones = [LAYOUT.pretraining(*run, folder=folder).weights for folder, *run in runs]
    return backbones + get_pictures()


def get_all_finetunings():
    runs = RUNS.finetunings
    return [LAYOUT.finetuning(arm, seed, folder=folder).weights for folder, arm, seed in runs]


def get_all_evaluations():
    """All result rows, also of variants and of further evaluations."""
    return [
        LAYOUT.evaluation(arm, seed, folder=folder, name=name).row
        for name in resolve.evaluated_names(EXPERIMENT)
        for folder, arm, seed in RUNS.evaluations(name)
    ]


def get_further_name(wildcards):
    """The evaluation that a page is of."""
    return FURTHER[wildcards.page]


def get_further_rows(wildcards):
    return get_evaluations("row", get_further_name(wildcards))


def get_figure_rows(wildcards):
    """The rows of the page that a figure is in."""
    return LAYOUT.file(f"{FURTHER_FIGURES[wildcards.figure]}.csv")


def get_further_pages(ending="md"):
    """The pages of the further evaluations that the configuration asks for."""
    return [LAYOUT.file(f"{page}.{ending}") for page in [*FURTHER, *["also"] * bool(ALSO)]]


def get_further_figures(kind="svg"):
    """Their figures."""
    return [LAYOUT.figure(figure, kind) for figure in FURTHER_FIGURES]


def get_study_rows(wildcards):
    """The result rows of a study: of each value, arm and seed."""
    variants = RUNS.studies[wildcards.study]
    return sorted({row for variant in variants for row in RUNS.rows(variant)})


def get_study_pages(ending="md"):
    """The pages of the variants that the configuration asks for."""
    return [LAYOUT.variants(study, ending) for study in RUNS.studies]


def get_tuning_page():
    return [LAYOUT.file("tuning.md")] if RUNS.trials else []


def either(names):
    """A wildcard's constraint: one of the names. There is none that no name could have."""
    return "|".join(re.escape(name) for name in names) or "-"


RUNS = get_runs(config)
EXPERIMENT = RUNS.experiment
LAYOUT = RUNS.layout
DATA = dataset_folder(EXPERIMENT.dataset.name)
FURTHER = resolve.further_pages(EXPERIMENT)
FURTHER_FIGURES = resolve.further_figures(EXPERIMENT)
ALSO = list(also_evaluations(EXPERIMENT.evaluate))
FROZEN = resolve.frozen_features(EXPERIMENT)

# Paths with wildcards. `folder` is empty for the experiment's own runs.
PRETRAINING = LAYOUT.pretraining("{pretraining}", "{seed}", folder="{folder}")
FINETUNING = LAYOUT.finetuning("{arm}", "{seed}", folder="{folder}")
EVALUATION = LAYOUT.evaluation("{arm}", "{seed}", folder="{folder}")
OTHER = str(other_images_folder(EXPERIMENT.dataset.name, "{evaluation}"))
FURTHER_EVALUATION = LAYOUT.evaluation("{arm}", "{seed}", folder="{folder}", name="{evaluation}")

# Jobs run with the Python that runs this workflow, also where its environment isn't activated. In
# a rule's conda environment, which has been activated by then, that environment's own comes first.
_conda = os.environ.get("CONDA_PREFIX", "")
os.environ.update(MFM_PACKAGE=str(Path(mfm.__file__).parent))  # for envs/mfm.post-deploy.sh
shell.prefix(
    'export MFM_END_WITH_PARENT=1; [ "$CONDA_PREFIX" != "%s" ] || export PATH="%s:$PATH"; '
    % (_conda, Path(sys.executable).parent)
)


wildcard_constraints:
    folder=f"({'|'.join(re.escape(folder) for folder in RUNS.folders)})",
    pretraining=either(dict.fromkeys(name for _, name, _ in RUNS.pretrainings)),
    arm=either(EXPERIMENT.arms),
    seed=r"\d+",
    study=either(RUNS.studies),
    evaluation=either(resolve.evaluated_names(EXPERIMENT)),
    features=either(FROZEN),
    start=r"seed\d+|all",
