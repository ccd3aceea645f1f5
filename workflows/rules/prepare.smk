rule prepare:
    """Splits of a data set as arrays that can be mapped into memory."""
    input:
        lambda wildcards: PLAN.stamp(wildcards.dataset),
    output:
        multiext(f"{PREPARED}/", "train.npy", "val.npy", "test.npy", "meta.json"),
    log:
        f"{RUN}/logs/prepare/{{dataset}}.log",
    params:
        made_of=lambda wildcards: PLAN.preparing(wildcards.dataset),
    resources:
        mem_mb=2000,
    message:
        "prepare {wildcards.dataset}"
    shell:
        "{BENCH} prepare {wildcards.dataset} {PLAN.options} > {log} 2>&1"
