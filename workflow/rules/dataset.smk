localrules:
    dataset_config,


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
        manifest=f"{DATA}/manifest.parquet",
        summary=f"{DATA}/summary.json",
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
