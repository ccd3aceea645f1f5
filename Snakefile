"""snakemake --cores all: from raw files to tables, one job per cell (a row of a table on a data set, all seeds).

Settings: config/config.yaml, or after --config, as in `--config tier=paper mirror=/path/to/raw/files`.
"""

import sys

from bench import workflow as bench_workflow
from bench.errors import UserError


def refuse(error: UserError):
    """A user's mistake: one line, exit code 2."""
    print(f"relaxbench: {error}", file=sys.stderr, flush=True)
    sys.exit(2)


try:
    PLAN = bench_workflow.plan(config)
except UserError as error:
    refuse(error)

RUN = PLAN.config.run_folder.as_posix()
DATA = PLAN.config.data.as_posix()
PREPARED = PLAN.config.prepared("{dataset}").as_posix()
BENCH = f"{sys.executable} -m bench"
# Jobs use the code beside this file, from whatever folder they run in.
shell.prefix(f"export PYTHONPATH={workflow.basedir}${{{{PYTHONPATH:+:$PYTHONPATH}}}}; ")


localrules:
    all,
    fetch,
    tables,
    report,


wildcard_constraints:
    row="[^/]+",
    dataset="[^/]+",


rule all:
    input:
        expand(f"{RUN}/tables/{{table}}.{{format}}", table=bench_workflow.TABLES, format=("md", "csv")),
        f"{RUN}/report/index.html",


include: "workflows/rules/fetch.smk"
include: "workflows/rules/prepare.smk"
include: "workflows/rules/train.smk"
include: "workflows/rules/tables.smk"
include: "workflows/rules/report.smk"


onstart:
    try:
        LOCK = bench_workflow.lone_run()
    except UserError as error:
        refuse(error)


onsuccess:
    print(f"tables: {RUN}/tables    report: {RUN}/report/index.html", file=sys.stderr)
