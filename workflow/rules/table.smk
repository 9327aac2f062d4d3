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


rule table:
    input:
        results=rules.results.output.csv,
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
