"""How everything that is drawn looks: the figures of the HTML report, of `quant study` and of `quant sensitivity`.

One palette, one look for each scheme, one style for matplotlib, and two ways out as SVG. It knows no records; who has
something to draw makes a figure inside `style.drawing` and gives it to `svg`. Only `palette` can be imported without
matplotlib, which takes a second.
"""
