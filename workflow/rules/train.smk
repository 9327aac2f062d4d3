rule pretrain_config:
    output:
        config=PRETRAINING.config,
    log:
        PRETRAINING.config_log,
    benchmark:
        LAYOUT.benchmark("{folder}pretrain/{pretraining}/seed{seed}.config")
    localrule: True
    conda:
        "../envs/mfm.yaml"
    params:
        text=get_text(get_pretrain_job),
    shell:
        "printf '%s\\n' {params.text:q} > {output.config:q} 2> {log:q}"


use rule pretrain_config as finetune_config with:
    output:
        config=FINETUNING.config,
    log:
        FINETUNING.config_log,
    benchmark:
        LAYOUT.benchmark("{folder}finetune/{arm}/seed{seed}.config")
    params:
        text=get_text(get_finetune_job),


# Weights by a name, first of all: without a network they are missed before anything is trained. A
# local rule, because a cluster's login node has a network where its compute nodes may have none.
rule fetch_weights:
    output:
        description=LAYOUT.weights("{arm}", folder="{folder}"),
    log:
        LAYOUT.log("{folder}weights/{arm}"),
    benchmark:
        LAYOUT.benchmark("{folder}weights/{arm}")
    priority: 20
    localrule: True
    conda:
        "../envs/mfm.yaml"
    params:
        weights=get_named_weights,
    shell:
        "python -m mfm fetch {params.weights:q} {output.description:q} > {log:q} 2>&1"


# Every training: the finetunings below have this rule's text.
rule pretrain:
    input:
        config=rules.pretrain_config.output.config,
        manifest=ancient(rules.link_dataset.output.manifest),
        images=get_images(get_pretrain_job),
        weights=get_pretrain_files,
    output:
        weights=PRETRAINING.weights,
        metrics=PRETRAINING.metrics,
        checkpoint=PRETRAINING.checkpoint,
        record=PRETRAINING.record,
    log:
        PRETRAINING.log,
    benchmark:
        PRETRAINING.benchmark
    priority: 10
    conda:
        "../envs/mfm.yaml"
    threads: get_pretrain_threads
    resources:
        ranks=get_ranks("pretrain"),
        gpu=get_gpus("pretrain"),
        nodes=1,
        requeue=0,
        workers=get_workers,
        checkpoint_epochs=1,
        checkpoint_steps=0,
        checkpoint_minutes=10,
        checkpoints=2,
        timeout_minutes=10,
        restarts=3,
    params:
        launcher=get_launcher,
        sha256=get_sha256(get_pretrain_job),
        question=get_question,
        weights=get_pretrain_weights,
        folder=subpath(output.weights, parent=True),
    shell:
        "export OMP_NUM_THREADS=$(( ({threads} * {resources.nodes} + {resources.ranks} - 1)"
        " / {resources.ranks} )); exec python -m mfm {params.launcher} "
        "--max-restarts {resources.restarts} -m mfm train "
        "--config {input.config:q} --config-sha256 {params.sha256} --manifest {input.manifest:q} "
        "--weights {params.weights:q} --folder {params.folder:q} {params.question:q} "
        "--workers {resources.workers} --checkpoint-epochs {resources.checkpoint_epochs} "
        "--checkpoint-steps {resources.checkpoint_steps} "
        "--checkpoint-minutes {resources.checkpoint_minutes} --keep {resources.checkpoints} "
        "--timeout-minutes {resources.timeout_minutes} >> {log:q} 2>&1"


use rule pretrain as finetune with:
    input:
        config=rules.finetune_config.output.config,
        manifest=ancient(rules.link_dataset.output.manifest),
        images=get_images(get_finetune_job),
        weights=get_initial_files,
    output:
        weights=FINETUNING.weights,
        metrics=FINETUNING.metrics,
        subset=FINETUNING.subset,
        record=FINETUNING.record,
    log:
        FINETUNING.log,
    benchmark:
        FINETUNING.benchmark
    priority: 0
    threads: 1
    resources:
        ranks=get_ranks("finetune"),
        gpu=get_gpus("finetune"),
        nodes=1,
        requeue=0,
        workers=get_workers,
        checkpoint_epochs=1,
        checkpoint_steps=0,
        checkpoint_minutes=10,
        checkpoints=2,
        timeout_minutes=10,
        restarts=3,
    params:
        launcher=get_launcher,
        sha256=get_sha256(get_finetune_job),
        question=get_question,
        weights=get_initial_weights,
        folder=subpath(output.weights, parent=True),


rule pictures:
    input:
        config=LAYOUT.pretraining("{pretraining}", "{seed}").config,
        manifest=ancient(rules.link_dataset.output.manifest),
        images=get_images(get_pretrain_job),
        checkpoint=LAYOUT.pretraining("{pretraining}", "{seed}").checkpoint,
    output:
        folder=report(
            directory(LAYOUT.pretraining("{pretraining}", "{seed}").pictures),
            patterns=["{figure}.png"],
            caption="../report/pictures.rst",
            category="Pretraining",
            labels={"pretraining": "{pretraining}", "figure": "{figure}"},
        ),
    log:
        LAYOUT.log("pretrain/{pretraining}/seed{seed}.pictures"),
    benchmark:
        LAYOUT.benchmark("pretrain/{pretraining}/seed{seed}.pictures")
    conda:
        "../envs/mfm.yaml"
    script:
        "../scripts/pictures.py"


if resolve.compared_pretrainings(EXPERIMENT):

    rule losses:
        input:
            configs=get_compared_pretrainings("config"),
            metrics=get_compared_pretrainings("metrics"),
            manifest=ancient(rules.link_dataset.output.manifest),
        output:
            csv=LAYOUT.losses,
        log:
            LAYOUT.log("losses"),
        benchmark:
            LAYOUT.benchmark("losses")
        conda:
            "../envs/mfm.yaml"
        script:
            "../scripts/losses.py"


rule pretrainings:
    input:
        get_pretrainings(),
    localrule: True


rule finetunings:
    input:
        get_all_finetunings(),
    localrule: True
