"""The cells of the tables: units, signs, what stands for nothing, and the notes."""

from dataclasses import replace

from quant.report.tables import (
    accuracy_table,
    comparison_notes,
    comparison_tables,
    size_table,
    sizing_notes,
    sizing_tables,
    speed_table,
)
from tests.unit.report.samples import AFTER, COMPARISON, SIZING, SIZING_ALONE


def test_accuracy_cells() -> None:
    table = accuracy_table(COMPARISON)
    assert table.header == (
        "scheme",
        "perplexity",
        "difference",
        "change %",
        "ratio",
        "95 % interval",
        "KL nats",
        "top-1 %",
    )
    assert table.rows == (
        ("baseline", "35.2346", "-", "-", "-", "-", "-", "-"),
        ("w8a16", "35.2356", "+0.0010", "+0.0028", "1.00003", "[0.99990, 1.00010]", "3.25e-05", "99.75"),
        ("nf4", "inf", "+inf", "+inf", "inf", "[1.50000, inf]", "nan", "0.00"),
    )


def test_a_worse_and_a_better_perplexity_have_signs() -> None:
    better = replace(COMPARISON.results[1], perplexity_difference=-0.5, perplexity_relative_change=-0.0125)
    row = accuracy_table(replace(COMPARISON, results=(COMPARISON.results[0], better))).rows[1]
    assert row[2:4] == ("-0.5000", "-1.2500")


def test_size_cells_are_bytes_and_mebibytes() -> None:
    table = size_table(COMPARISON)
    assert table.header == ("scheme", "layers", "footprint bytes", "smaller x", "float32 MiB", "int8 MiB", "uint8 MiB")
    assert table.rows == (
        ("baseline", "0 of 25", "30,000,000", "1.00", "28.61", "0.00", "0.00"),
        ("w8a16", "24 of 25", "12,000,000", "2.50", "6.00", "5.44", "0.00"),
        ("nf4", "24 of 25", "10,000,000", "3.00", "0.00", "0.00", "9.54"),
    )


def test_speed_cells_are_relative_to_the_baseline_and_memory_is_in_gigabytes() -> None:
    table = speed_table(COMPARISON)
    assert table.title == "Generating 32 tokens after a prompt of 64"
    assert table.header == (
        "scheme",
        "seconds",
        "prefill tok/s",
        "decode tok/s",
        "speed x",
        "load s",
        "CPU GB",
        "GPU GB",
    )
    assert table.rows == (
        ("baseline", "2.000", "1234", "40.0", "1.00", "0.50", "1.50", "0.00"),
        ("w8a16", "1.500", "2000", "60.0", "1.50", "0.25", "0.90", "2.25"),
        ("nf4", "1.500", "2000", "-", "-", "0.25", "-0.00", "0.00"),
    )


def test_every_row_is_as_long_as_its_header() -> None:
    for table in (*comparison_tables(COMPARISON), *sizing_tables(SIZING), *sizing_tables(SIZING_ALONE)):
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.header)}


def test_notes_say_what_was_measured_and_what_was_not() -> None:
    text, blocks, machine, times, offloaded, interval, missing = comparison_notes(COMPARISON)
    assert text == "my-model, float32; 12,345 tokens scored, window 256, stride 255, BOS 1 before each window"
    assert blocks == "4-bit schemes in blocks of 128"
    assert machine == "A CPU, 2 cores, AVX2, 2 threads, device cpu, 2 processes; python 3.11.7, torch 2.13.0"
    assert times.startswith("times are of this run alone")
    assert offloaded.startswith("baseline: 4,000,000 bytes did not fit on the device and are fetched for every call")
    assert missing == "bnb-nf4 not measured: bnb-nf4 needs bitsandbytes: pip install 'quant[bitsandbytes]'"
    assert interval == "no 95 % interval: a token had probability 0"
    first, second, *others = COMPARISON.results
    searched = replace(COMPARISON, results=(first, replace(second, scale="mse"), *others))
    notes = comparison_notes(searched)
    assert [note for note in notes if "searched" in note] == ["scales searched for the least squared error: w8a16"]
    without_bos = replace(COMPARISON, environment=replace(COMPARISON.environment, bos_id=None))
    assert comparison_notes(without_bos)[0].endswith("stride 255, no BOS")
    assert "2 threads, device cpu; python" in comparison_notes(replace(COMPARISON, processes=1))[2]


def test_bitsandbytes_has_blocks_of_its_own() -> None:
    results = (*COMPARISON.results[:3], replace(COMPARISON.results[2], scheme="bnb-nf4", error=None))
    (note,) = [note for note in comparison_notes(replace(COMPARISON, results=results)) if "in blocks of" in note]
    assert note == "our 4-bit schemes in blocks of 128, bitsandbytes' in its default"


def test_sizing_cells_before_and_after() -> None:
    footprint, memory, modules, example = sizing_tables(SIZING)
    assert footprint.header == ("", "before", "after w8a16")
    assert footprint.rows == (
        ("parameters", "15,284,318,208", "4,416,745,472"),
        ("buffers", "384", "384"),
        ("total", "15,284,318,592", "4,416,745,856"),
    )
    assert memory.rows == (("float32", "14,576.26", "756.14"), ("int8", "0.00", "3,456.00"))
    assert modules.rows == (("Linear", "25", "1"), ("Phi3RMSNorm", "13", "13"), ("W8A16Linear", "0", "24"))
    assert example.title == "Tensors of model.layers.0.mlp.down_proj"
    assert example.rows == (("weight", "int8 [64, 128]"), ("weight_scale", "float32 [64]"))
    assert tuple(sizing_notes(SIZING)) == (
        "phi-3-mini in float32: 25 linear layers",
        "24 of 25 linear layers quantized",
        "left lm_head: output head",
    )


def test_sizing_without_scheme_has_one_column() -> None:
    tables = sizing_tables(SIZING_ALONE)
    assert len(tables) == 3
    assert tables[0].header == ("", "before")
    assert tuple(sizing_notes(SIZING_ALONE)) == ("phi-3-mini in float32: 25 linear layers",)


def test_dtypes_of_one_side_only_have_a_row() -> None:
    swapped = replace(SIZING, before=AFTER, after=replace(SIZING.before, example_name="x"))
    assert sizing_tables(swapped)[1].rows == (("int8", "3,456.00", "0.00"), ("float32", "756.14", "14,576.26"))
