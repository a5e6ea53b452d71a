"""The study as files: the page from its template, the figures as SVG, the records as JSON. Computes no result.

The page is a function of the records: the same records give the same bytes. Sentences with figures in them come from
`claims` and `summary` or are filled in by the template; what the template says by itself is method, which no result can
change.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from quant.drawing.svg import svg_file
from quant.errors import QuantError
from quant.report.json_dataclass import dataclass_of
from quant.study.chart import drawing
from quant.study.claims import judge_claims, judge_scales
from quant.study.completeness import check_whole
from quant.study.distributions import DEGREES_OF_FREEDOM, DISTRIBUTIONS
from quant.study.expected import mean_absmax
from quant.study.figures_of_data import draw_levels, draw_magnitude, draw_occupancy, draw_sqnr
from quant.study.figures_of_models import draw_layers, draw_model, draw_speed
from quant.study.levels import OFFSET, constructed_sigma
from quant.study.records import Study, to_plain
from quant.study.settings import Settings
from quant.study.summary import in_short
from quant.study.tables import all_tables

NAME = "nf4-vs-linear"
SCHEMA = 1
FIGURES: Mapping[str, Callable[[Study], Figure]] = {
    "levels": draw_levels,
    "occupancy": draw_occupancy,
    "sqnr": draw_sqnr,
    "magnitude": draw_magnitude,
    "layers": draw_layers,
    "model": draw_model,
    "speed": draw_speed,
}


def to_files(study: Study) -> dict[str, str]:
    """Path below the output folder -> text of the page, the records and every figure. Page and figures are made of what
    the records say, to their digits, so that they can be made of them again.
    """
    records = to_json(study)
    study = read_json(records, "the study")
    return {f"{NAME}.md": to_page(study), f"{NAME}.json": records, **figures(study)}


def to_json(study: Study) -> str:
    """The records, a row on a line."""
    parts = {"schema": SCHEMA, **to_plain(study)}
    return "{\n" + ",\n".join(f'"{name}": {_rows(part)}' for name, part in parts.items()) + "\n}\n"


def _rows(part: Any) -> str:
    if not isinstance(part, list):
        return json.dumps(part, allow_nan=False)
    return "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in part) + "\n]"


def read_json(text: str, name: str) -> Study:
    """The study in `text`, a file called `name`.

    Raises:
        QuantError: it is not a study, one of another schema, or not what `to_json` makes of a whole one.
    """
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise QuantError(f"{name} is not the JSON of a study ({error}): {_AGAIN}") from error
    if not isinstance(plain, dict) or "schema" not in plain:
        raise QuantError(f"{name} is not the JSON of a study: {_AGAIN}")
    schema = plain.pop("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise QuantError(f"{name} is a study of another schema than {SCHEMA}: {_AGAIN}")
    try:
        study = dataclass_of(Study, plain, strict=True)
        check_whole(study)
    except ValueError as error:
        raise QuantError(f"{name} is damaged ({error}): {_AGAIN}") from error
    return study


_AGAIN = "measure anew, without --from"


def figures(study: Study) -> dict[str, str]:
    """Path -> SVG."""
    with drawing():
        return {f"{NAME}/{name}.svg": svg_file(draw(study)) for name, draw in FIGURES.items()}


def shortened(study: Study) -> list[str]:
    """What settings of a whole run the study does not have, in words: none if it is one."""
    here, whole = asdict(study.settings), asdict(Settings())
    return [f"{name} {_words(here[name])} for {_words(whole[name])}" for name in whole if here[name] != whole[name]]


def _words(value: int | tuple[Any, ...] | None) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else "all" if value is None else str(value)


def to_page(study: Study) -> str:
    """The page as Markdown."""
    environment = Environment(
        loader=PackageLoader("quant.study"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    page = environment.get_template(f"{NAME}.md.jinja").render(
        study=study,
        name=NAME,
        shortened=shortened(study),
        in_short=in_short(study),
        verdicts=judge_claims(study),
        of_scales=judge_scales(study),
        tables=all_tables(study),
        offset=OFFSET,
        built_absmax=1 / constructed_sigma(),
        absmax={size: mean_absmax(DISTRIBUTIONS["normal"], size) for size in study.settings.block_sizes},
        degrees_of_freedom=DEGREES_OF_FREEDOM,
    )
    return re.sub(r"\n{3,}", "\n\n", page)
