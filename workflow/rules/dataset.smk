rule dataset_config:
    output:
        config=f"{DATA}/config.json",
    log:
        LAYOUT.log("dataset_config"),
    benchmark:
        LAYOUT.benchmark("dataset_config")
    localrule: True
    conda:
        "../envs/mfm.yaml"
    params:
        text=get_text(get_dataset_job),
    shell:
        "printf '%s\\n' {params.text:q} > {output.config:q} 2> {log:q}"


# A checkpoint, so that what follows is decided when it is done: where a split's images are the same
# as before, byte by byte, nothing that reads them runs again.
# A shell command and not a script: for a script, Snakemake counts its text as code, and an edit of
# it would train everything again.
checkpoint link_dataset:
    input:
        config=rules.dataset_config.output.config,
    output:
        # Where linking again fails, on an image that has gone bad, the old ones are still there.
        manifest=update(f"{DATA}/manifest.parquet"),
        summary=update(f"{DATA}/summary.json"),
        images=update(get_linked_images()),
        # The last one: Snakemake touches all when the job is done, and what is newer was changed.
        record=update(str(record_of(DATA / MANIFEST))),
    log:
        LAYOUT.log("link_dataset"),
    benchmark:
        LAYOUT.benchmark("link_dataset")
    conda:
        "../envs/mfm.yaml"
    threads: 2
    params:
        folder=subpath(output.manifest, parent=True),
        sha256=get_sha256(get_dataset_job),
        demands=get_demands,
    shell:
        "python -m mfm link --config {input.config:q} --config-sha256 {params.sha256} "
        "--folder {params.folder:q} "
        "--demands {params.demands:q} > {log:q} 2>&1 && "
        # What was left out, and what is in train and val both: to be seen before the training.
        "(grep '^mfm: note:' {log:q} >&2 || true)"


rule dataset_report_config:
    output:
        config=LAYOUT.file("dataset.config.json"),
    log:
        LAYOUT.log("dataset_report.config"),
    benchmark:
        LAYOUT.benchmark("dataset_report.config")
    localrule: True
    conda:
        "../envs/mfm.yaml"
    params:
        text=get_text(get_dataset_report_job),
    shell:
        "printf '%s\\n' {params.text:q} > {output.config:q} 2> {log:q}"


rule dataset_report:
    input:
        config=rules.dataset_report_config.output.config,
        manifest=rules.link_dataset.output.manifest,
    output:
        table=report(LAYOUT.file("dataset.md"), caption="../report/dataset.rst", category="Dataset"),
        json=LAYOUT.file("dataset.json"),
    log:
        LAYOUT.log("dataset_report"),
    benchmark:
        LAYOUT.benchmark("dataset_report")
    conda:
        "../envs/mfm.yaml"
    threads: 2
    params:
        sha256=get_sha256(get_dataset_report_job),
    shell:
        "python -m mfm dataset --config {input.config:q} --config-sha256 {params.sha256} --manifest {input.manifest:q} "
        "--markdown {output.table:q} --json {output.json:q} > {log:q} 2>&1"
