"""What the HTML report consists of, in reading order: sections with their tables and figures, and how to read these."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from quant.records import Comparison
from quant.report import descriptions
from quant.report.figures import accuracy, layers, resources
from quant.report.tables import Table, accuracy_table, size_table, speed_table


@dataclass(frozen=True)
class Picture:
    """A figure. name: unique in the page; draw: None where there is nothing to draw; describe: what it shows in words;
    caption: how to read it.
    """

    name: str
    draw: Callable[[Comparison], Figure | None]
    describe: Callable[[Comparison], str]
    title: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading with tables and pictures; name: its anchor."""

    name: str
    title: str
    tables: Sequence[Callable[[Comparison], Table]]
    pictures: Sequence[Picture]


SECTIONS = (
    Section(
        "accuracy",
        "Accuracy",
        (accuracy_table,),
        (
            Picture(
                "accuracy-size",
                accuracy.accuracy_against_size,
                descriptions.accuracy_against_size,
                "Accuracy against size",
                "Best is at the bottom left. Bars are 95 % intervals of the paired difference on the same "
                "tokens: one that reaches 0 means that no difference was found. Hollow markers are bitsandbytes'.",
            ),
        ),
    ),
    Section(
        "loss",
        "Loss per token",
        (),
        (
            Picture(
                "loss-differences",
                accuracy.loss_differences,
                descriptions.loss_differences,
                "Loss of each token, beside the baseline's",
                "The marker is the median over all tokens; the thick bar holds half of them, the middle one nine "
                "tenths, the thin one 98 %. The scale is linear about 0 and logarithmic beyond.",
            ),
            Picture(
                "loss-position",
                accuracy.loss_by_position,
                descriptions.loss_by_position,
                "Mean loss by position in the window",
                "Above the baseline's own loss, which falls as it sees more context; below what each scheme adds. "
                "The first positions are few tokens, so their means scatter.",
            ),
        ),
    ),
    Section(
        "size",
        "Footprint",
        (size_table,),
        (
            Picture(
                "memory",
                resources.memory_by_dtype,
                descriptions.memory_by_dtype,
                "Memory by dtype",
                "Parameters and buffers. Embedding and head stay in float unless a scheme says otherwise.",
            ),
        ),
    ),
    Section(
        "speed",
        "Speed",
        (speed_table,),
        (
            Picture(
                "speeds",
                resources.tokens_per_second,
                descriptions.tokens_per_second,
                "Tokens per second",
                "Of one run on one machine: compare within this page only.",
            ),
        ),
    ),
    Section(
        "layers",
        "Error by layer",
        (),
        (
            Picture(
                "layer-error",
                layers.error_by_layer,
                descriptions.error_by_layer,
                "Signal-to-quantization-noise ratio of the weights",
                "Of each quantized layer against its float weight: 10 dB more are a tenth of the squared error. "
                "bitsandbytes' layers are not measured.",
            ),
        ),
    ),
)
