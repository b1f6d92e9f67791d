"""National Early Warning Score 2, on both scales of oxygen saturation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

#: Upper limit of a band -> points, in the order of the chart; a value over the last limit has the last points.
RESPIRATION = ((8, 3), (11, 1), (20, 0), (24, 2), (None, 3))
SATURATION_1 = ((91, 3), (93, 2), (95, 1), (None, 0))
#: Scale 2 for target saturations of 88-92 %: without oxygen nothing is too high.
SATURATION_2_AIR = ((83, 3), (85, 2), (87, 1), (None, 0))
SATURATION_2_OXYGEN = ((83, 3), (85, 2), (87, 1), (92, 0), (94, 1), (96, 2), (None, 3))
SYSTOLIC = ((90, 3), (100, 2), (110, 1), (219, 0), (None, 3))
PULSE = ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2), (None, 3))
#: In tenths of a degree, so that a limit is a whole number.
TEMPERATURE = ((350, 3), (360, 1), (380, 0), (390, 1), (None, 2))


def news2(
    respiration: pl.Expr,
    saturation: pl.Expr,
    scale_2: pl.Expr,
    oxygen: pl.Expr,
    systolic: pl.Expr,
    pulse: pl.Expr,
    alert: pl.Expr,
    temperature: pl.Expr,
) -> pl.Expr:
    """National Early Warning Score 2, 0 to 20 points; null where any of the seven components is missing.

    Source: Royal College of Physicians, National Early Warning Score (NEWS) 2, London 2017, chart 1. A total is
    valid with all parameters alone: a missing one is not the normal one. Values are read as the chart reads them, in
    whole units and tenths of a degree.

    Args:
        respiration: Breaths/min.
        saturation: Oxygen saturation in %.
        scale_2: 1 where scale 2 was prescribed (hypercapnic respiratory failure), else 0.
        oxygen: 1 on supplemental oxygen, 0 on air.
        systolic: Systolic blood pressure in mmHg.
        pulse: Beats/min.
        alert: 1 alert, 0 for new confusion, or reacting to voice or pain alone, or not at all.
        temperature: Degrees Celsius.
    """
    import polars as pl

    points = _components(respiration, saturation, scale_2, oxygen, systolic, pulse, alert, temperature)
    return pl.when(pl.all_horizontal(p.is_not_null() for p in points)).then(pl.sum_horizontal(points))


def news2_red(
    respiration: pl.Expr,
    saturation: pl.Expr,
    scale_2: pl.Expr,
    oxygen: pl.Expr,
    systolic: pl.Expr,
    pulse: pl.Expr,
    alert: pl.Expr,
    temperature: pl.Expr,
) -> pl.Expr:
    """1 where one parameter alone scores 3, which asks for an urgent review whatever the total; else 0.

    Source, arguments and the rule for missing components as in `news2`.
    """
    import polars as pl

    points = _components(respiration, saturation, scale_2, oxygen, systolic, pulse, alert, temperature)
    red = pl.any_horizontal(p == 3 for p in points).cast(pl.Float64)
    return pl.when(pl.all_horizontal(p.is_not_null() for p in points)).then(red)


def _components(
    respiration: pl.Expr,
    saturation: pl.Expr,
    scale_2: pl.Expr,
    oxygen: pl.Expr,
    systolic: pl.Expr,
    pulse: pl.Expr,
    alert: pl.Expr,
    temperature: pl.Expr,
) -> list[pl.Expr]:
    import polars as pl

    on_air, on_oxygen = _banded(saturation, SATURATION_2_AIR), _banded(saturation, SATURATION_2_OXYGEN)
    second = pl.when(oxygen == 1).then(on_oxygen).when(oxygen == 0).then(on_air)
    saturated = pl.when(scale_2 == 1).then(second).when(scale_2 == 0).then(_banded(saturation, SATURATION_1))
    return [
        _banded(respiration, RESPIRATION),
        pl.when(saturation <= 100).then(saturated),
        pl.when(oxygen == 1).then(2.0).when(oxygen == 0).then(0.0),
        _banded(systolic, SYSTOLIC),
        _banded(pulse, PULSE),
        pl.when(alert == 1).then(0.0).when(alert == 0).then(3.0),
        _banded(temperature * 10, TEMPERATURE),
    ]


def _banded(value: pl.Expr, bands: Sequence[tuple[int | None, int]]) -> pl.Expr:
    """Points of a value, rounded half up; null for none and for a negative one."""
    import polars as pl

    whole = (value + 0.5).floor()
    points = pl.lit(float(bands[-1][1]))
    for limit, score in reversed(bands[:-1]):
        points = pl.when(whole <= limit).then(float(score)).otherwise(points)
    return pl.when(value >= 0).then(points)
