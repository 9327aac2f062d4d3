localrules:
    finetune,
    finetune_config,


rule finetune_config:
    output:
        config=f"{RESULTS}/{{labels}}finetune/{{init}}/seed{{seed}}/config.json",
    log:
        f"{RESULTS}/logs/{{labels}}finetune/{{init}}/seed{{seed}}.config.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{labels}}finetune/{{init}}/seed{{seed}}.config.tsv"
    wildcard_constraints:
        init="|".join(init for init in RUNS.arms if init not in LONGER),
    conda:
        "../envs/mfm.yaml"
    params:
        text=get_config_json("finetune"),
    shell:
        "printf '%s\\n' {params.text:q} > {output.config:q} 2> {log:q}"


# An arm that is trained as long as another one: its epochs follow from the numbers of images, which
# are known once the dataset is linked.
if LONGER:

    rule longer_config:
        input:
            summary=rules.link_dataset.output.summary,
        output:
            config=f"{RESULTS}/{{labels}}finetune/{{init}}/seed{{seed}}/config.json",
        log:
            f"{RESULTS}/logs/{{labels}}finetune/{{init}}/seed{{seed}}.config.log",
        benchmark:
            f"{RESULTS}/benchmarks/{{labels}}finetune/{{init}}/seed{{seed}}.config.tsv"
        wildcard_constraints:
            init="|".join(LONGER),
        localrule: True
        conda:
            "../envs/mfm.yaml"
        params:
            run=get_longer_json,
        shell:
            "python -m mfm.longer --run {params.run:q} --summary {input.summary:q} "
            "--config {output.config:q} > {log:q} 2>&1"


# torchvision's weights, first of all: without a network they are missed before anything is trained.
# A local rule, because a cluster's login node has a network where its compute nodes may have none.
rule fetch_weights:
    output:
        description=f"{RESULTS}/weights/{{init}}.json",
    log:
        f"{RESULTS}/logs/weights/{{init}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/weights/{{init}}.tsv"
    priority: 20
    localrule: True
    conda:
        "../envs/mfm.yaml"
    params:
        weights=get_weights_argument,
    shell:
        "python -m mfm.weights {params.weights:q} {output.description:q} > {log:q} 2>&1"


rule finetune_run:
    input:
        # A plain string: either of the two rules above makes it.
        config=str(rules.finetune_config.output.config),
        manifest=rules.link_dataset.output.manifest,
        weights=get_initial_weights,
    output:
        weights=f"{RESULTS}/{{labels}}finetune/{{init}}/seed{{seed}}/model.safetensors",
        metrics=f"{RESULTS}/{{labels}}finetune/{{init}}/seed{{seed}}/metrics.csv",
        subset=f"{RESULTS}/{{labels}}finetune/{{init}}/seed{{seed}}/subset.txt",
    log:
        f"{RESULTS}/logs/{{labels}}finetune/{{init}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{labels}}finetune/{{init}}/seed{{seed}}.tsv"
    conda:
        "../envs/mfm.yaml"
    threads: 1
    resources:
        ranks=get_ranks("finetune"),
        gpu=get_ranks("finetune"),
        nodes=1,
        requeue=0,
        workers=1,
        checkpoint_epochs=1,
        checkpoint_steps=0,
        checkpoint_minutes=10,
        checkpoints=2,
        timeout_minutes=10,
        restarts=3,
    params:
        launcher=get_launcher,
        weights=get_weights_argument,
        folder=subpath(output.weights, parent=True),
    shell:
        "export OMP_NUM_THREADS=$(( ({threads} * {resources.nodes} + {resources.ranks} - 1)"
        " / {resources.ranks} )); exec python -m {params.launcher} "
        "--max-restarts {resources.restarts} -m mfm.finetune "
        "--config {input.config:q} --manifest {input.manifest:q} "
        "--weights {params.weights:q} --folder {params.folder:q} "
        "--workers {resources.workers} --checkpoint-epochs {resources.checkpoint_epochs} "
        "--checkpoint-steps {resources.checkpoint_steps} "
        "--checkpoint-minutes {resources.checkpoint_minutes} --keep {resources.checkpoints} "
        "--timeout-minutes {resources.timeout_minutes} >> {log:q} 2>&1"


rule finetune:
    input:
        get_stage_files("finetune", get_all_evaluations(rules.finetune_run.output.weights)),
