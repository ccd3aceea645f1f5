rule fetch:
    """Raw files of a published data set, verified, from the mirror or their addresses."""
    output:
        touch(f"{DATA}/raw/.{{dataset}}.fetched"),
    log:
        f"{RUN}/logs/fetch/{{dataset}}.log",
    params:
        pins=lambda wildcards: PLAN.fetching(wildcards.dataset),
    message:
        "raw files of {wildcards.dataset}"
    shell:
        "{BENCH} fetch {wildcards.dataset} {PLAN.options} > {log} 2>&1"
