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
        text=dumps(resolve.dataset_job(EXPERIMENT)),
    shell:
        "printf '%s\\n' {params.text:q} > {output.config:q} 2> {log:q}"


# A shell command and not a script: for a script, Snakemake counts its text as code, and an edit of
# it would train everything again.
rule link_dataset:
    input:
        config=rules.dataset_config.output.config,
    output:
        # Where linking again fails, on an image that has gone bad, the old ones are still there.
        manifest=update(f"{DATA}/manifest.parquet"),
        summary=update(f"{DATA}/summary.json"),
    log:
        LAYOUT.log("link_dataset"),
    benchmark:
        LAYOUT.benchmark("link_dataset")
    conda:
        "../envs/mfm.yaml"
    threads: 2
    params:
        folder=subpath(output.manifest, parent=True),
        demands=get_demands,
    shell:
        "python -m mfm link --config {input.config:q} --folder {params.folder:q} "
        "--demands {params.demands:q} > {log:q} 2>&1"


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
        text=dumps(resolve.dataset_report_job(EXPERIMENT)),
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
    shell:
        "python -m mfm dataset --config {input.config:q} --manifest {input.manifest:q} "
        "--markdown {output.table:q} --json {output.json:q} > {log:q} 2>&1"
