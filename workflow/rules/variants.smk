# Without values in the configuration there is nothing to compare, and no rule to ask for.
if RUNS.studies:

    rule variants:
        input:
            rows=get_study_rows,
        output:
            table=report(
                LAYOUT.variants("{study}"),
                caption="../report/variants.rst",
                category="Variants",
                labels={"variants": "{study}", "shown": "table"},
            ),
            svg=report(
                LAYOUT.variants("{study}", "svg"),
                caption="../report/variants.rst",
                category="Variants",
                labels={"variants": "{study}", "shown": "figure"},
            ),
            png=LAYOUT.variants("{study}", "png"),
            csv=LAYOUT.variants("{study}", "csv"),
        log:
            LAYOUT.log("variants/{study}"),
        benchmark:
            LAYOUT.benchmark("variants/{study}")
        localrule: True
        conda:
            "../envs/mfm.yaml"
        params:
            experiment=get_experiment(others=True),
        script:
            "../scripts/variants.py"
