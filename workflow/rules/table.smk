localrules:
    results,
    table,


rule results:
    input:
        rows=get_result_rows,
    output:
        csv=f"{RESULTS}/results.csv",
    log:
        f"{RESULTS}/logs/results.log",
    benchmark:
        f"{RESULTS}/benchmarks/results.tsv"
    conda:
        "../envs/mfm.yaml"
    script:
        "../scripts/results.py"


# Asked for alone, this takes the runs that are finished and starts none.
rule plan:
    input:
        rows=get_plan_rows,
    output:
        plan=report(f"{RESULTS}/plan.md", caption="../report/plan.rst", category="Comparison"),
    log:
        f"{RESULTS}/logs/plan.log",
    benchmark:
        f"{RESULTS}/benchmarks/plan.tsv"
    conda:
        "../envs/mfm.yaml"
    params:
        experiment=get_table_experiment(),
        finished=get_finished_rows,
    script:
        "../scripts/plan.py"


rule table:
    input:
        results=rules.results.output.csv,
        predictions=get_evaluations(rules.evaluate_run.output.predictions),
        plan=rules.plan.output.plan,
        summary=rules.link_dataset.output.summary,
        pretrain_metrics=expand(
            rules.pretrain_run.output.metrics, pretrain=experiments.used_pretrainings(EXPERIMENT)
        ),
    output:
        table=report(f"{RESULTS}/table.md", caption="../report/table.rst", category="Comparison"),
    log:
        f"{RESULTS}/logs/table.log",
    benchmark:
        f"{RESULTS}/benchmarks/table.tsv"
    conda:
        "../envs/mfm.yaml"
    params:
        experiment=get_table_experiment(),
    script:
        "../scripts/table.py"
