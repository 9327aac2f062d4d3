include: "workflow/Snakefile"


# An included file's default target doesn't count.
rule default:
    default_target: True
    input:
        rules.all.input,
    localrule: True
