rule figures:
    input:
        results=rules.results.output.csv,
        predictions=get_evaluations(rules.evaluate_run.output.predictions),
        metrics=get_evaluations(rules.finetune_run.output.metrics),
        pretrain_metrics=rules.table.input.pretrain_metrics,
        losses=expand(
            rules.reconstructions.output.losses,
            pretrain=experiments.drawn_pretrainings(EXPERIMENT),
        ),
    output:
        difference=report(
            f"{RESULTS}/figures/difference.svg",
            caption="../report/difference.rst",
            category="Comparison",
            labels={"figure": "difference from the baseline"},
        ),
        accuracy=report(
            f"{RESULTS}/figures/accuracy.svg",
            caption="../report/accuracy.rst",
            category="Comparison",
            labels={"figure": "accuracy by arm"},
        ),
        classes=report(
            f"{RESULTS}/figures/classes.svg",
            caption="../report/classes.rst",
            category="Comparison",
            labels={"figure": "difference by class"},
        ),
        confusion=report(
            f"{RESULTS}/figures/confusion.svg",
            caption="../report/confusion.rst",
            category="Comparison",
            labels={"figure": "confusion of the worst classes"},
        ),
        finetuning=report(
            f"{RESULTS}/figures/finetuning.svg",
            caption="../report/finetuning.rst",
            category="Training",
            labels={"figure": "finetuning loss"},
        ),
        pretraining=report(
            f"{RESULTS}/figures/pretraining.svg",
            caption="../report/pretraining.rst",
            category="Training",
            labels={"figure": "pretraining loss"},
        ),
        png=expand(
            f"{RESULTS}/figures/{{figure}}.png",
            figure=["difference", "accuracy", "classes", "confusion", "finetuning", "pretraining"],
        ),
    log:
        f"{RESULTS}/logs/figures.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures.tsv"
    conda:
        "../envs/mfm.yaml"
    params:
        experiment=get_table_experiment(),
    script:
        "../scripts/figures.py"


if "val_resize" in ABLATIONS:

    rule resize_figure:
        input:
            rows=f"{RESULTS}/ablation_val_resize.csv",
        output:
            svg=report(
                f"{RESULTS}/figures/val_resize.svg",
                caption="../report/val_resize.rst",
                category="Ablations",
                labels={"ablation": "val_resize, as a figure"},
            ),
            png=f"{RESULTS}/figures/val_resize.png",
        log:
            f"{RESULTS}/logs/resize_figure.log",
        benchmark:
            f"{RESULTS}/benchmarks/resize_figure.tsv"
        conda:
            "../envs/mfm.yaml"
        params:
            experiment=schema.dumps_ordered(EXPERIMENT),
        script:
            "../scripts/resize_figure.py"


rule report_page:
    input:
        table=rules.table.output.table,
        plan=rules.plan.output.plan,
        results=rules.results.output.csv,
        dataset=rules.dataset_report.output.table,
        figures=rules.figures.output,
        reconstructions=expand(
            [
                rules.reconstructions.output.figure,
                rules.reconstructions.output.spectra,
                rules.reconstructions.output.epochs,
            ],
            pretrain=experiments.drawn_pretrainings(EXPERIMENT),
        ),
        label_efficiency=get_efficiency_targets(),
        ablations=get_ablation_targets(),
        resize=rules.resize_figure.output if "val_resize" in ABLATIONS else [],
    output:
        page=report(
            f"{RESULTS}/report.html",
            caption="../report/report_page.rst",
            category="Comparison",
            labels={"figure": "the whole report as one page"},
        ),
    log:
        f"{RESULTS}/logs/report_page.log",
    benchmark:
        f"{RESULTS}/benchmarks/report_page.tsv"
    conda:
        "../envs/mfm.yaml"
    params:
        experiment=schema.dumps_ordered(EXPERIMENT),
    script:
        "../scripts/report_page.py"
