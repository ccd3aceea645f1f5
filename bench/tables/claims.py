"""The survey's claims as a table: sentence, effect, verdict; and the rule each was held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.claims import Result, evaluate_all
from bench.recipes import Recipe
from bench.tables.layout import Cell, Section, Table

COLUMNS = (
    "id", "theme", "sentence", "survey_section", "experiment", "statistic", "rule", "verdict", "effect", "low", "high",
    "unit", "seeds", "detail",
)  # fmt: skip
CAPTION = (
    "Sentences of the survey (paraphrased) and of the papers it reviews, each held to a rule fixed in code before the "
    "runs. The effect comes with its 95 % confidence interval over seeds; fewer than three seeds on either side decide "
    "nothing. A verdict is about these models, at this size and budget, on these data."
)


def build(records: Sequence[dict], tier: str, recipes: Mapping[str, Recipe]) -> Table:
    results = evaluate_all(records)
    verdicts = Section(
        "Verdicts", ("claim", "the survey says", "verdict", "effect [95 % interval]", "seeds"),
        tuple(_verdict(r) for r in results), text_columns=5, wrap=True,
    )  # fmt: skip
    rules = Section(
        "Rules and details", ("claim", "experiment", "statistic", "rule", "what was found"),
        tuple(_rule(r) for r in results), text_columns=5, wrap=True,
    )  # fmt: skip
    return Table(
        name="claims",
        title=f"The survey's claims, tested ({tier} tier)",
        caption=CAPTION,
        sections=(verdicts, rules),
        columns=COLUMNS,
        data=tuple(_datum(r) for r in results),
    )


def _verdict(result: Result) -> tuple[Cell, ...]:
    claim, finding = result.claim, result.finding
    verdict = Cell(
        finding.verdict, bold=finding.verdict in ("supported", "refuted"), tone=finding.verdict.replace(" ", "-")
    )
    sentence = Cell(f"{claim.sentence} ({claim.section})")
    return Cell(claim.id), sentence, verdict, Cell(result.effect_text()), Cell(str(finding.seeds or "—"))


def _rule(result: Result) -> tuple[Cell, ...]:
    claim = result.claim
    texts = (claim.id, claim.experiment, claim.statistic, claim.rule, result.finding.detail or "—")
    return tuple(Cell(text) for text in texts)


def _datum(result: Result) -> dict:
    content = result.to_json()
    low, high = content["interval"] or (None, None)
    return {**content, "survey_section": content["section"], "low": low, "high": high}
