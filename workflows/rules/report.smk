rule report:
    """One static page: tables, claims with their evidence, curves, densities, samples."""
    input:
        PLAN.records(),
        rules.tables.output,
    output:
        f"{RUN}/report/index.html",
    log:
        f"{RUN}/logs/report.log",
    params:
        made_of=PLAN.rendering("report", "tables", "claims"),
    message:
        "report"
    shell:
        "{BENCH} report {PLAN.options} > {log} 2>&1"
