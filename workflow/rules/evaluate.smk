rule evaluate_config:
    output:
        config=LAYOUT.evaluation_config(folder="{folder}", name="{evaluation}"),
    log:
        LAYOUT.log("{folder}{evaluation}.config"),
    benchmark:
        LAYOUT.benchmark("{folder}{evaluation}.config")
    localrule: True
    conda:
        "../envs/mfm.yaml"
    params:
        text=get_text(get_evaluate_job),
    shell:
        "printf '%s\\n' {params.text:q} > {output.config:q} 2> {log:q}"


rule evaluate:
    input:
        config=LAYOUT.evaluation_config(folder="{folder}"),
        manifest=ancient(rules.link_dataset.output.manifest),
        images=get_images(get_evaluate_job),
        weights=get_finetuned("weights"),
        metrics=get_finetuned("metrics"),
    output:
        row=EVALUATION.row,
        predictions=EVALUATION.predictions,
        record=EVALUATION.record,
    log:
        EVALUATION.log,
    benchmark:
        EVALUATION.benchmark
    conda:
        "../envs/mfm.yaml"
    threads: 1
    resources:
        gpu=1,
        workers=get_workers,
    params:
        sha256=get_sha256(get_evaluate_job),
        pretraining=get_pretraining_name,
        look=get_look,
        predictions=lambda wildcards, output: ["--predictions", output.predictions],
    shell:
        "export OMP_NUM_THREADS={threads}; "
        "exec python -m mfm evaluate --config {input.config:q} --config-sha256 {params.sha256} "
        "--manifest {input.manifest:q} "
        "--weights {input.weights:q} --pretraining {params.pretraining:q} --csv {output.row:q} "
        "{params.predictions:q} --look {params.look:q} --workers {resources.workers} > {log:q} 2>&1"


if FURTHER:

    use rule evaluate as evaluate_further with:
        input:
            config=rules.evaluate_config.output.config,
            manifest=ancient(rules.link_dataset.output.manifest),
            images=get_images(get_evaluate_job),
            weights=get_finetuned("weights"),
            metrics=get_finetuned("metrics"),
        output:
            row=FURTHER_EVALUATION.row,
            record=FURTHER_EVALUATION.record,
        log:
            FURTHER_EVALUATION.log,
        benchmark:
            FURTHER_EVALUATION.benchmark
        wildcard_constraints:
            evaluation=either(FURTHER.values()),
        params:
            sha256=get_sha256(get_evaluate_job),
            pretraining=get_pretraining_name,
            look=get_look,
            predictions=[],

    rule further:
        input:
            rows=get_further_rows,
        output:
            table=report(
                LAYOUT.file("{page}.md"),
                caption="../report/further.rst",
                category="Comparison",
                labels={"evaluation": "{page}", "shown": "table"},
            ),
            csv=LAYOUT.file("{page}.csv"),
        log:
            LAYOUT.log("further/{page}"),
        benchmark:
            LAYOUT.benchmark("further/{page}")
        wildcard_constraints:
            page=either(FURTHER),
        localrule: True
        conda:
            "../envs/mfm.yaml"
        params:
            experiment=get_experiment(others=True),
            name=get_further_name,
        script:
            "../scripts/further.py"

    rule further_figure:
        input:
            rows=get_figure_rows,
        output:
            svg=report(
                LAYOUT.figure("{figure}"),
                caption="../report/further.rst",
                category="Comparison",
                labels={"evaluation": "{figure}", "shown": "figure"},
            ),
            png=LAYOUT.figure("{figure}", "png"),
        log:
            LAYOUT.log("further/figures/{figure}"),
        benchmark:
            LAYOUT.benchmark("further/figures/{figure}")
        wildcard_constraints:
            figure=either(FURTHER_FIGURES),
        localrule: True
        conda:
            "../envs/mfm.yaml"
        params:
            experiment=get_experiment(others=True),
        script:
            "../scripts/further_figure.py"


rule evaluations:
    input:
        get_all_evaluations(),
    localrule: True
