# Evaluations on other images of the dataset's classes: each folder has a manifest and evaluations of
# its own, so that one more, or another one in its place, runs nothing else.
if ALSO:

    rule other_images_config:
        output:
            config=f"{OTHER}/config.json",
        log:
            LAYOUT.log("{evaluation}.images.config"),
        benchmark:
            LAYOUT.benchmark("{evaluation}.images.config")
        wildcard_constraints:
            evaluation=either(ALSO),
        localrule: True
        conda:
            "../envs/mfm.yaml"
        params:
            text=get_text(get_other_images_job),
        shell:
            "printf '%s\\n' {params.text:q} > {output.config:q} 2> {log:q}"

    # Before the trainings that could begin as well: what is wrong with an image is told at once.
    rule link_other:
        input:
            config=rules.other_images_config.output.config,
            manifest=ancient(rules.link_dataset.output.manifest),
            images=get_trained_images,
        output:
            manifest=update(f"{OTHER}/manifest.parquet"),
            summary=update(f"{OTHER}/summary.json"),
            images=update(str(images_file(Path(OTHER, MANIFEST), OTHER_SPLIT))),
            record=update(str(record_of(Path(OTHER, MANIFEST)))),
        log:
            LAYOUT.log("{evaluation}.images"),
        benchmark:
            LAYOUT.benchmark("{evaluation}.images")
        wildcard_constraints:
            evaluation=either(ALSO),
        priority: 1
        conda:
            "../envs/mfm.yaml"
        threads: 2
        params:
            folder=subpath(output.manifest, parent=True),
            sha256=get_sha256(get_other_images_job),
        shell:
            "python -m mfm link-other --config {input.config:q} --config-sha256 {params.sha256} "
            "--folder {params.folder:q} --manifest {input.manifest:q} > {log:q} 2>&1 && "
            "(grep '^mfm: note:' {log:q} >&2 || true)"

    use rule evaluate as evaluate_other with:
        input:
            config=rules.evaluate_config.output.config,
            manifest=rules.link_other.output.manifest,
            images=rules.link_other.output.images,
            weights=get_finetuned("weights"),
            metrics=get_finetuned("metrics"),
        output:
            row=FURTHER_EVALUATION.row,
            record=FURTHER_EVALUATION.record,
        log:
            FURTHER_EVALUATION.log,
        benchmark:
            FURTHER_EVALUATION.benchmark
        wildcard_constraints:
            evaluation=either(ALSO),
        params:
            sha256=get_sha256(get_evaluate_job),
            pretraining=get_pretraining_name,
            look=get_look,
            predictions=[],

    rule also:
        input:
            rows=[row for name in ALSO for row in get_evaluations("row", name)],
            summaries=expand(rules.link_other.output.summary, evaluation=ALSO),
        output:
            table=report(
                LAYOUT.file("also.md"),
                caption="../report/also.rst",
                category="Comparison",
                labels={"evaluation": "other images"},
            ),
            csv=LAYOUT.file("also.csv"),
        log:
            LAYOUT.log("also"),
        benchmark:
            LAYOUT.benchmark("also")
        localrule: True
        conda:
            "../envs/mfm.yaml"
        params:
            experiment=get_experiment(others=True),
        script:
            "../scripts/also.py"
