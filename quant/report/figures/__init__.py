"""The figures of the HTML report, from the records alone, with matplotlib. Each is None where there is nothing to draw.

Schemes look the same in every figure (`quant.drawing.palette`). What is not finite cannot be drawn and is left out; the
tables beside the figures have it. What a figure shows in words is in `quant.report.descriptions`.
"""
