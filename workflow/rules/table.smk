rule results:
    input:
        rows=get_rows,
        predictions=get_compared("evaluation", "predictions"),
    output:
        csv=LAYOUT.rows,
    log:
        LAYOUT.log("results"),
    benchmark:
        LAYOUT.benchmark("results")
    localrule: True
    conda:
        "../envs/mfm.yaml"
    params:
        rows=lambda wildcards, input: [row for row in input.rows if row.endswith(".csv")],
        asked={"metric": EXPERIMENT.metric, "k": EXPERIMENT.evaluate.top_k},
    script:
        "../scripts/results.py"


rule plan:
    input:
        results=rules.results.output.csv,
    output:
        plan=report(LAYOUT.file("plan.md"), caption="../report/plan.rst", category="Comparison"),
    log:
        LAYOUT.log("plan"),
    benchmark:
        LAYOUT.benchmark("plan")
    localrule: True
    conda:
        "../envs/mfm.yaml"
    params:
        experiment=get_experiment(),
    script:
        "../scripts/plan.py"


if EXPERIMENT.question:

    # The trainings declare it, before they begin. One that is changed later adds a line here, and
    # is no reason to train again.
    rule question:
        output:
            question=update(LAYOUT.question),
        log:
            LAYOUT.log("question"),
        benchmark:
            LAYOUT.benchmark("question")
        localrule: True
        conda:
            "../envs/mfm.yaml"
        params:
            asked=json.dumps(resolve.asked(EXPERIMENT)),
        shell:
            "python -m mfm declare {output.question:q} {params.asked:q} > {log:q} 2>&1"


rule table:
    input:
        results=rules.results.output.csv,
        question=[LAYOUT.question] if EXPERIMENT.question else [],
        predictions=get_compared("evaluation", "predictions"),
        plan=rules.plan.output.plan,
        summary=rules.link_dataset.output.summary,
        pretrain_metrics=get_pretrain_metrics(),
        losses=get_losses(),
        frozen=get_frozen(),
    output:
        table=report(LAYOUT.file("table.md"), caption="../report/table.rst", category="Comparison"),
    log:
        LAYOUT.log("table"),
    benchmark:
        LAYOUT.benchmark("table")
    localrule: True
    conda:
        "../envs/mfm.yaml"
    params:
        experiment=get_experiment(),
    script:
        "../scripts/table.py"


rule metrics:
    input:
        results=rules.results.output.csv,
        predictions=get_compared("evaluation", "predictions"),
    output:
        page=report(
            LAYOUT.file("metrics.md"), caption="../report/metrics.rst", category="Comparison"
        ),
        csv=LAYOUT.file("metrics.csv"),
        classes=LAYOUT.file("metrics_classes.csv"),
        svg=report(
            LAYOUT.figure("metrics"),
            caption="../report/metrics.rst",
            category="Comparison",
            labels={"figure": "difference by metric"},
        ),
        png=LAYOUT.figure("metrics", "png"),
    log:
        LAYOUT.log("metrics"),
    benchmark:
        LAYOUT.benchmark("metrics")
    localrule: True
    conda:
        "../envs/mfm.yaml"
    params:
        experiment=get_experiment(),
    script:
        "../scripts/metrics.py"
