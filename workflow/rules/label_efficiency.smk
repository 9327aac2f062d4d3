# Without amounts in the configuration there is nothing to compare, and no rule to ask for.
if EXPERIMENT.label_efficiency:

    localrules:
        label_efficiency,

    rule label_efficiency:
        input:
            rows=get_efficiency_rows,
        output:
            table=report(
                f"{RESULTS}/label_efficiency.md",
                caption="../report/label_efficiency.rst",
                category="Comparison",
            ),
            figure=report(
                f"{RESULTS}/label_efficiency.png",
                caption="../report/label_efficiency.rst",
                category="Comparison",
            ),
            csv=f"{RESULTS}/label_efficiency.csv",
        log:
            f"{RESULTS}/logs/label_efficiency.log",
        benchmark:
            f"{RESULTS}/benchmarks/label_efficiency.tsv"
        conda:
            "../envs/mfm.yaml"
        params:
            experiment=schema.dumps_ordered(EXPERIMENT),
        script:
            "../scripts/label_efficiency.py"
