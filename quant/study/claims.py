"""The original report's claims, each judged by a rule on the records. No verdict and no figure is written by hand.

Its claims about NF4 come first, then what it weighed of linear against non-linear quantization. A claim is judged over
the cases in which it can be true or not (`verdicts`), by intervals where what is measured varies. The rule is printed
beside the verdict.
"""

from quant.study import claims_about_linear, claims_about_nf4, claims_about_scale
from quant.study.records import Study
from quant.study.verdicts import Verdict

CLAIMS = (
    claims_about_nf4.equally_likely_codes,
    claims_about_nf4.denser_near_zero,
    claims_about_nf4.precision_by_range,
    claims_about_nf4.less_error_on_normal_data,
    claims_about_nf4.less_error_on_the_weights,
    claims_about_nf4.adapts_to_any_data,
    claims_about_linear.less_accuracy_lost,
    claims_about_linear.closer_to_the_float_model,
    claims_about_linear.better_than_affine,
    claims_about_linear.better_than_affine_of_equal_size,
    claims_about_linear.slower_to_compute,
    claims_about_linear.memory,
    claims_about_linear.hardware_support,
)
OF_SCALES = (
    claims_about_scale.gains_on_data,
    claims_about_scale.still_less_error_than_linear,
    claims_about_scale.gains_in_the_model,
)


def judge_claims(study: Study) -> list[Verdict]:
    """Every claim's verdict, in the order of the page."""
    return [claim(study) for claim in CLAIMS]


def judge_scales(study: Study) -> list[Verdict]:
    """What the original did not claim, and what its claims come to with other scales than its own."""
    return [claim(study) for claim in OF_SCALES]
