# What can be read from images, random weights and the weights that arms start from, before any
# finetuning: floors for the trained arms, and what pretraining learned.
if FROZEN:

    rule frozen_config:
        output:
            config=LAYOUT.frozen("{features}", "json"),
        log:
            LAYOUT.log("frozen/{features}.config"),
        benchmark:
            LAYOUT.benchmark("frozen/{features}.config")
        localrule: True
        conda:
            "../envs/mfm.yaml"
        params:
            text=get_text(get_frozen_job),
        shell:
            "printf '%s\\n' {params.text:q} > {output.config:q} 2> {log:q}"

    rule frozen_features:
        input:
            config=rules.frozen_config.output.config,
            manifest=ancient(rules.link_dataset.output.manifest),
            images=get_images(get_frozen_job),
            weights=get_frozen_files,
        output:
            rows=LAYOUT.frozen("{features}"),
        log:
            LAYOUT.log("frozen/{features}"),
        benchmark:
            LAYOUT.benchmark("frozen/{features}")
        conda:
            "../envs/mfm.yaml"
        threads: 1
        resources:
            gpu=1,
            workers=get_workers,
        params:
            sha256=get_sha256(get_frozen_job),
            weights=get_frozen_weights,
            look=get_look,
        shell:
            "export OMP_NUM_THREADS={threads}; "
            "exec python -m mfm frozen --config {input.config:q} --config-sha256 {params.sha256} "
            "--manifest {input.manifest:q} "
            "--weights {params.weights:q} --csv {output.rows:q} --look {params.look:q} "
            "--workers {resources.workers} > {log:q} 2>&1"

    rule frozen:
        input:
            rows=expand(LAYOUT.frozen("{features}"), features=FROZEN),
        output:
            csv=LAYOUT.frozen(),
        log:
            LAYOUT.log("frozen"),
        benchmark:
            LAYOUT.benchmark("frozen")
        localrule: True
        conda:
            "../envs/mfm.yaml"
        script:
            "../scripts/frozen.py"
