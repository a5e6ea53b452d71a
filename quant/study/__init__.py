"""NF4 against linear quantization, measured: the study behind docs/nf4-vs-linear.md (`quant study --out docs`).

The report that this project grew out of argued in prose that levels at the quantiles of a normal distribution lose less
than evenly spaced ones. Here every such claim meets a figure: the same weights, blocks and scales, and only the 16
levels differ. One way through it: `settings` -> what is computed (`levels` and `expected` derive, `errors`, `weights`
and `models` measure) -> `records`, plain data that goes to JSON and comes back -> `claims` (a verdict for each, by
rules on the records) and `summary` (the conclusion, likewise) -> `figures_of_data`, `figures_of_models` and `page`,
which measure nothing. So the page is a function of its JSON, and a run with other results has other words.
"""
