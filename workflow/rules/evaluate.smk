localrules:
    evaluate,
    evaluate_config,


rule evaluate_config:
    output:
        config=f"{RESULTS}/evaluate/config.json",
    log:
        f"{RESULTS}/logs/evaluate.config.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate.config.tsv"
    conda:
        "../envs/mfm.yaml"
    params:
        text=get_config_json("evaluate"),
    shell:
        "printf '%s\\n' {params.text:q} > {output.config:q} 2> {log:q}"


rule evaluate_run:
    input:
        config=rules.evaluate_config.output.config,
        manifest=rules.link_dataset.output.manifest,
        weights=rules.finetune_run.output.weights,
        metrics=rules.finetune_run.output.metrics,
    output:
        row=f"{RESULTS}/{{labels}}evaluate/{{init}}/seed{{seed}}.csv",
        predictions=f"{RESULTS}/{{labels}}evaluate/{{init}}/seed{{seed}}.parquet",
    log:
        f"{RESULTS}/logs/{{labels}}evaluate/{{init}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{labels}}evaluate/{{init}}/seed{{seed}}.tsv"
    conda:
        "../envs/mfm.yaml"
    threads: 1
    resources:
        gpu=1,
        workers=1,
    params:
        pretrain=get_pretrain_name,
    shell:
        "export OMP_NUM_THREADS={threads}; "
        "exec python -m mfm.start mfm.evaluate --config {input.config:q} --manifest {input.manifest:q} "
        "--weights {input.weights:q} --pretrain {params.pretrain:q} --csv {output.row:q} "
        "--predictions {output.predictions:q} --workers {resources.workers} > {log:q} 2>&1"


rule evaluate:
    input:
        get_stage_files("evaluate", get_all_evaluations(rules.evaluate_run.output.row)),
