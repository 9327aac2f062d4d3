# What can be read from images, random weights and the weights that arms start from, before any
# finetuning: floors for the trained arms, and what pretraining learned. Features are extracted once
# for any amount of labels.
if FROZEN:

    rule features_config:
        output:
            config=LAYOUT.features("{features}", "{start}", "json"),
        log:
            LAYOUT.log("features/{features}/{start}.config"),
        benchmark:
            LAYOUT.benchmark("features/{features}/{start}.config")
        localrule: True
        conda:
            "../envs/mfm.yaml"
        params:
            text=get_text(get_features_job),
        shell:
            "printf '%s\\n' {params.text:q} > {output.config:q} 2> {log:q}"

    rule features:
        input:
            config=rules.features_config.output.config,
            manifest=ancient(rules.link_dataset.output.manifest),
            images=get_images(get_features_job),
            weights=get_features_files,
        output:
            features=LAYOUT.features("{features}", "{start}"),
        log:
            LAYOUT.log("features/{features}/{start}"),
        benchmark:
            LAYOUT.benchmark("features/{features}/{start}")
        conda:
            "../envs/mfm.yaml"
        threads: 1
        resources:
            gpu=1,
            workers=get_workers,
        params:
            sha256=get_sha256(get_features_job),
            weights=get_features_weights,
        shell:
            "export OMP_NUM_THREADS={threads}; "
            "exec python -m mfm features --config {input.config:q} --config-sha256 {params.sha256} "
            "--manifest {input.manifest:q} "
            "--weights {params.weights:q} --features {output.features:q} "
            "--workers {resources.workers} > {log:q} 2>&1"

    use rule features_config as frozen_config with:
        output:
            config=LAYOUT.frozen("{features}", "json"),
        log:
            LAYOUT.log("frozen/{features}.config"),
        benchmark:
            LAYOUT.benchmark("frozen/{features}.config")
        params:
            text=get_text(get_probe_job),

    rule frozen_features:
        input:
            config=rules.frozen_config.output.config,
            manifest=ancient(rules.link_dataset.output.manifest),
            images=get_images(get_probe_job),
            features=get_features_once,
        output:
            rows=LAYOUT.frozen("{features}"),
        log:
            LAYOUT.log("frozen/{features}"),
        benchmark:
            LAYOUT.benchmark("frozen/{features}")
        conda:
            "../envs/mfm.yaml"
        threads: 1
        params:
            sha256=get_sha256(get_probe_job),
            features=get_features,
            look=get_look,
        shell:
            "export OMP_NUM_THREADS={threads}; "
            "exec python -m mfm frozen --config {input.config:q} --config-sha256 {params.sha256} "
            "--manifest {input.manifest:q} "
            "--features {params.features:q} --csv {output.rows:q} --look {params.look:q} "
            "> {log:q} 2>&1"

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

    rule probe:
        input:
            csv=rules.frozen.output.csv,
        output:
            table=report(
                LAYOUT.probe(),
                caption="../report/probe.rst",
                category="Comparison",
                labels={"shown": "frozen features, table"},
            ),
            svg=report(
                LAYOUT.probe("svg"),
                caption="../report/probe.rst",
                category="Comparison",
                labels={"shown": "frozen features, figure"},
            ),
            png=LAYOUT.probe("png"),
            csv=LAYOUT.probe("csv"),
        log:
            LAYOUT.log("probe"),
        benchmark:
            LAYOUT.benchmark("probe")
        localrule: True
        conda:
            "../envs/mfm.yaml"
        params:
            experiment=get_experiment(),
        script:
            "../scripts/probe.py"
