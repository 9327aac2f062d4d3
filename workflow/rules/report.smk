rule figures:
    input:
        results=rules.results.output.csv,
        predictions=get_compared("evaluation", "predictions"),
        metrics=get_compared("run", "metrics"),
        pretrain_metrics=get_pretrain_metrics(),
        summary=rules.link_dataset.output.summary,
        losses=get_losses(),
    output:
        answer=LAYOUT.figure("answer"),
        difference=report(
            LAYOUT.figure("difference"),
            caption="../report/difference.rst",
            category="Comparison",
            labels={"figure": "difference from the baseline"},
        ),
        accuracy=report(
            LAYOUT.figure("accuracy"),
            caption="../report/accuracy.rst",
            category="Comparison",
            labels={"figure": "accuracy by arm"},
        ),
        frontier=report(
            LAYOUT.figure("frontier"),
            caption="../report/frontier.rst",
            category="Comparison",
            labels={"figure": "accuracy against cost"},
        ),
        classes=report(
            LAYOUT.figure("classes"),
            caption="../report/classes.rst",
            category="Comparison",
            labels={"figure": "difference by class"},
        ),
        confusion=report(
            LAYOUT.figure("confusion"),
            caption="../report/confusion.rst",
            category="Comparison",
            labels={"figure": "confusion of the worst classes"},
        ),
        finetuning=report(
            LAYOUT.figure("finetuning"),
            caption="../report/finetuning.rst",
            category="Training",
            labels={"figure": "finetuning loss"},
        ),
        pretraining=report(
            LAYOUT.figure("pretraining"),
            caption="../report/pretraining.rst",
            category="Training",
            labels={"figure": "pretraining loss"},
        ),
        png=expand(
            LAYOUT.figure("{figure}", "png"),
            figure=[
                "difference",
                "accuracy",
                "frontier",
                "classes",
                "confusion",
                "finetuning",
                "pretraining",
            ],
        ),
    log:
        LAYOUT.log("figures"),
    benchmark:
        LAYOUT.benchmark("figures")
    conda:
        "../envs/mfm.yaml"
    params:
        experiment=get_experiment(),
    script:
        "../scripts/figures.py"


rule gallery:
    input:
        results=rules.results.output.csv,
        predictions=get_compared("evaluation", "predictions"),
        # Images of other splits are none of it.
        manifest=ancient(rules.link_dataset.output.manifest),
        images=get_images(get_evaluate_job),
    output:
        gallery=LAYOUT.file("gallery.json"),
    log:
        LAYOUT.log("gallery"),
    benchmark:
        LAYOUT.benchmark("gallery")
    conda:
        "../envs/mfm.yaml"
    params:
        experiment=get_experiment(),
    script:
        "../scripts/gallery.py"


rule report_page:
    input:
        gallery=rules.gallery.output.gallery,
        table=rules.table.output.table,
        plan=rules.plan.output.plan,
        results=rules.results.output.csv,
        metrics=rules.metrics.output,
        summary=rules.link_dataset.output.summary,
        dataset=rules.dataset_report.output.json,
        figures=rules.figures.output,
        losses=get_losses(),
        pictures=get_pictures(),
        further=get_further_pages("csv"),
        further_figures=get_further_figures(),
        frozen=get_frozen(),
        probe=get_probe_page("svg"),
        variants=get_study_pages("csv"),
        tuning=get_tuning_page(),
    output:
        page=report(
            LAYOUT.file("report.html"),
            caption="../report/report_page.rst",
            category="Comparison",
            labels={"figure": "the whole report as one page"},
        ),
    log:
        LAYOUT.log("report_page"),
    benchmark:
        LAYOUT.benchmark("report_page")
    conda:
        "../envs/mfm.yaml"
    params:
        experiment=get_experiment(others=True),
    script:
        "../scripts/report_page.py"
