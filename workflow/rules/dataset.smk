localrules:
    dataset_config,
    dataset_report_config,


rule dataset_config:
    output:
        config=f"{DATA}/config.json",
    log:
        f"{RESULTS}/logs/dataset_config.log",
    benchmark:
        f"{RESULTS}/benchmarks/dataset_config.tsv"
    conda:
        "../envs/mfm.yaml"
    params:
        text=get_config_json("dataset"),
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
        f"{RESULTS}/logs/link_dataset.log",
    benchmark:
        f"{RESULTS}/benchmarks/link_dataset.tsv"
    conda:
        "../envs/mfm.yaml"
    threads: 2
    params:
        folder=subpath(output.manifest, parent=True),
        demands=get_demands,
    shell:
        "python -m mfm.data.link --config {input.config:q} --folder {params.folder:q} "
        "--demands {params.demands:q} > {log:q} 2>&1"


rule dataset_report_config:
    output:
        config=f"{RESULTS}/dataset.config.json",
    log:
        f"{RESULTS}/logs/dataset_report.config.log",
    benchmark:
        f"{RESULTS}/benchmarks/dataset_report.config.tsv"
    conda:
        "../envs/mfm.yaml"
    params:
        text=get_config_json("dataset_report"),
    shell:
        "printf '%s\\n' {params.text:q} > {output.config:q} 2> {log:q}"


rule dataset_report:
    input:
        config=rules.dataset_report_config.output.config,
        manifest=rules.link_dataset.output.manifest,
    output:
        table=report(f"{RESULTS}/dataset.md", caption="../report/dataset.rst", category="Dataset"),
        json=f"{RESULTS}/dataset.json",
    log:
        f"{RESULTS}/logs/dataset_report.log",
    benchmark:
        f"{RESULTS}/benchmarks/dataset_report.tsv"
    conda:
        "../envs/mfm.yaml"
    threads: 2
    shell:
        "python -m mfm.report.dataset --config {input.config:q} --manifest {input.manifest:q} "
        "--markdown {output.table:q} --json {output.json:q} > {log:q} 2>&1"
