rule tables:
    """Every table of the run, the survey's claims among them, from its records."""
    input:
        PLAN.records(),
    output:
        expand(f"{RUN}/tables/{{table}}.{{format}}", table=bench_workflow.TABLES, format=("md", "csv")),
    log:
        f"{RUN}/logs/tables.log",
    params:
        made_of=PLAN.rendering("tables", "claims"),
    message:
        "tables and claims"
    shell:
        "{BENCH} render {PLAN.options} > {log} 2>&1"
