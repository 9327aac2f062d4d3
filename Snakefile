from snakemake.utils import min_version

min_version("9.27")


# A configuration given with --configfile stands alone: none of its keys come from config.yaml.
if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/table.smk"
include: "workflow/rules/label_efficiency.smk"
include: "workflow/rules/ablations.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.table.output,
        rules.dataset_report.output,
        get_efficiency_targets(),
        get_ablation_targets(),
        get_pretrain_targets(),
        rules.report_page.output,
