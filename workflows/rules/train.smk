rule train:
    """Every seed of one cell. A run that diverges or fails a gate is a record too, so the job succeeds."""
    input:
        f"{PREPARED}/meta.json",
    output:
        expand(f"{RUN}/cells/{{{{dataset}}}}/{{{{row}}}}/seed{{seed}}.json", seed=PLAN.config.tier.seeds),
    log:
        f"{RUN}/logs/train/{{dataset}}/{{row}}.log",
    params:
        made_of=lambda wildcards: PLAN.training(wildcards.row, wildcards.dataset),
    threads: 1
    resources:
        gpu=bench_workflow.gpus(PLAN.config),
        mem_mb=4000,
    message:
        "train {wildcards.row} on {wildcards.dataset}"
    shell:
        "{BENCH} train {wildcards.row} {wildcards.dataset} {PLAN.options} > {log} 2>&1"
