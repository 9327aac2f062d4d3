# Without values in the configuration there is nothing to compare, and no rule to ask for.
if "val_resize" in ABLATIONS:

    localrules:
        ablation_resize_config,

    use rule evaluate_config as ablation_resize_config with:
        output:
            config=f"{RESULTS}/ablation_val_resize/{{resize}}/config.json",
        log:
            f"{RESULTS}/logs/ablation_val_resize/{{resize}}.config.log",
        benchmark:
            f"{RESULTS}/benchmarks/ablation_val_resize/{{resize}}.config.tsv"

    use rule evaluate_run as ablation_resize_run with:
        input:
            config=rules.ablation_resize_config.output.config,
            manifest=rules.link_dataset.output.manifest,
            weights=f"{RESULTS}/finetune/{{init}}/seed{{seed}}/model.safetensors",
            metrics=f"{RESULTS}/finetune/{{init}}/seed{{seed}}/metrics.csv",
        output:
            row=f"{RESULTS}/ablation_val_resize/{{resize}}/evaluate/{{init}}/seed{{seed}}.csv",
            predictions=f"{RESULTS}/ablation_val_resize/{{resize}}/evaluate/{{init}}/seed{{seed}}.parquet",
        log:
            f"{RESULTS}/logs/ablation_val_resize/{{resize}}/{{init}}/seed{{seed}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/ablation_val_resize/{{resize}}/{{init}}/seed{{seed}}.tsv"


if ABLATIONS:

    localrules:
        ablation,

    rule ablation:
        input:
            rows=get_ablation_rows,
        output:
            table=report(
                f"{RESULTS}/ablation_{{ablation}}.md",
                caption="../report/ablation.rst",
                category="Ablations",
                labels={"ablation": "{ablation}"},
            ),
            csv=f"{RESULTS}/ablation_{{ablation}}.csv",
        log:
            f"{RESULTS}/logs/ablation_{{ablation}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/ablation_{{ablation}}.tsv"
        conda:
            "../envs/mfm.yaml"
        params:
            experiment=schema.dumps_ordered(EXPERIMENT),
        script:
            "../scripts/ablation.py"
