localrules:
    pretrain,
    pretrain_config,


rule pretrain_config:
    output:
        config=f"{RESULTS}/pretrain/{{pretrain}}/config.json",
    log:
        f"{RESULTS}/logs/pretrain/{{pretrain}}.config.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain/{{pretrain}}.config.tsv"
    conda:
        "../envs/mfm.yaml"
    params:
        text=get_config_json("pretrain"),
    shell:
        "printf '%s\\n' {params.text:q} > {output.config:q} 2> {log:q}"


rule pretrain_run:
    input:
        config=rules.pretrain_config.output.config,
        manifest=rules.link_dataset.output.manifest,
        weights=get_pretrain_weights,
    output:
        backbone=f"{RESULTS}/pretrain/{{pretrain}}/backbone.safetensors",
        checkpoint=f"{RESULTS}/pretrain/{{pretrain}}/checkpoint.pt",
        metrics=f"{RESULTS}/pretrain/{{pretrain}}/metrics.csv",
    log:
        f"{RESULTS}/logs/pretrain/{{pretrain}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain/{{pretrain}}.tsv"
    priority: 10
    conda:
        "../envs/mfm.yaml"
    threads: get_pretrain_threads
    resources:
        ranks=get_ranks("pretrain"),
        gpu=get_ranks("pretrain"),
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
        folder=subpath(output.backbone, parent=True),
    shell:
        "export OMP_NUM_THREADS=$(( ({threads} * {resources.nodes} + {resources.ranks} - 1)"
        " / {resources.ranks} )); exec python -m {params.launcher} "
        "--max-restarts {resources.restarts} -m mfm.pretrain "
        "--config {input.config:q} --manifest {input.manifest:q} "
        "--folder {params.folder:q} "
        "--workers {resources.workers} --checkpoint-epochs {resources.checkpoint_epochs} "
        "--checkpoint-steps {resources.checkpoint_steps} "
        "--checkpoint-minutes {resources.checkpoint_minutes} --keep {resources.checkpoints} "
        "--timeout-minutes {resources.timeout_minutes} >> {log:q} 2>&1"


rule reconstructions:
    input:
        config=rules.pretrain_config.output.config,
        manifest=rules.link_dataset.output.manifest,
        checkpoint=rules.pretrain_run.output.checkpoint,
    output:
        figure=report(
            f"{RESULTS}/pretrain/{{pretrain}}/reconstructions.png",
            caption="../report/reconstructions.rst",
            category="Pretraining",
            labels={"pretraining": "{pretrain}", "figure": "reconstructions"},
        ),
        spectra=report(
            f"{RESULTS}/pretrain/{{pretrain}}/spectra.png",
            caption="../report/spectra.rst",
            category="Pretraining",
            labels={"pretraining": "{pretrain}", "figure": "spectra"},
        ),
        epochs=report(
            f"{RESULTS}/pretrain/{{pretrain}}/epochs.png",
            caption="../report/epochs.rst",
            category="Pretraining",
            labels={"pretraining": "{pretrain}", "figure": "reconstructions over epochs"},
        ),
        losses=f"{RESULTS}/pretrain/{{pretrain}}/fixed_images.csv",
    log:
        f"{RESULTS}/logs/pretrain/{{pretrain}}.reconstructions.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain/{{pretrain}}.reconstructions.tsv"
    conda:
        "../envs/mfm.yaml"
    script:
        "../scripts/reconstructions.py"


rule pretrain:
    input:
        get_stage_files("pretrain", get_pretrain_targets()),
