# Without a tuning in the configuration there is nothing to choose, and no rule to ask for.
if RUNS.trials:

    # Which trial is an arm's best is known when all have been evaluated, and only its runs follow.
    checkpoint choice:
        input:
            rows=get_trial_rows(),
        output:
            choice=LAYOUT.file("tuning.json"),
            csv=LAYOUT.variants("tuning", "csv"),
        log:
            LAYOUT.log("tuning/choice"),
        benchmark:
            LAYOUT.benchmark("tuning/choice")
        localrule: True
        conda:
            "../envs/mfm.yaml"
        params:
            experiment=get_experiment(others=True),
        script:
            "../scripts/choice.py"

    rule tuning:
        input:
            choice=LAYOUT.file("tuning.json"),
            trials=LAYOUT.variants("tuning", "csv"),
            rows=get_evaluations("row"),
            tuned=get_tuned("evaluation", "row"),
        output:
            table=report(
                LAYOUT.file("tuning.md"), caption="../report/tuning.rst", category="Comparison"
            ),
            csv=LAYOUT.variants("tuned", "csv"),
        log:
            LAYOUT.log("tuning"),
        benchmark:
            LAYOUT.benchmark("tuning")
        localrule: True
        conda:
            "../envs/mfm.yaml"
        params:
            experiment=get_experiment(others=True),
        script:
            "../scripts/tuning.py"
