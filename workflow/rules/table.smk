rule results:
    input:
        rows=get_rows,
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


rule table:
    input:
        results=rules.results.output.csv,
        question=QUESTION,
        predictions=get_compared("evaluation", "predictions"),
        plan=rules.plan.output.plan,
        summary=rules.link_dataset.output.summary,
        pretrain_metrics=get_pretrain_metrics(),
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
