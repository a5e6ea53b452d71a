"""Tables of a run with known numbers: medians, ratios round by round, and what is missing."""

from typing import Any

from tests.full_size.tables import LLAMA_CPP, markdown

MB, GB = 10**6, 10**9


def record(decode: float, prefill: float, size: int = 4 * GB, calculated: int | None = 4 * GB) -> dict[str, Any]:
    memory = {"peak": 900 * MB, "anonymous": 300 * MB, "file": 600 * MB}
    return {
        "decode_seconds": [[decode, decode / 2, 2 * decode]],
        "prefill_seconds": {"64": [prefill / 8], "512": [prefill]},
        "loading": {
            "cached_share": 0.5,
            "seconds": 1.25,
            "first_forward_seconds": 0.75,
            "footprint_bytes": size,
            "calculated_bytes": calculated,
            "memory_after_forward": memory,
        },
    }


RUN: dict[str, Any] = {
    "model": {"name": "phi3", "bytes": 7_642_000_000},
    "environment": {
        "cpu": "CPU", "threads": 2, "wait_policy": "default",
        "kernels": "avx512", "torch": "2", "transformers": "5", "date": "2026-01-01",
    },
    "sizes": {"prompt": 64, "long_prompt": 512, "new_tokens": 4, "rounds": 3, "threads": 2},
    "quantize": {
        "w8a16": {
            "seconds": 50.0, "read_seconds": 4.0, "cached_share": None, "peak_bytes": 700 * MB,
            "bare_bytes": {"interpreter": 11 * MB, "imports": 300 * MB}, "bytes_in": 7_640 * MB, "bytes_out": 4 * GB,
        }
    },
    "generate": {
        "bnb-nf4": [record(0.5, 16.0, 3 * GB, None)],
        "nf4": [record(0.1, 16.0), record(0.1, 8.0), record(0.1, 8.0)],
        "w8a16": [record(0.2, 8.0), record(0.2, 8.0), record(0.4, 8.0)],
        "bf16": [record(0.4, 8.0, 8 * GB, 8 * GB), record(0.5, 8.0), record(4.0, 8.0)],
    },
    "compile": {"w8a16": [{"first_call_seconds": 60.0, "graphs": 2, "recompiled": 0, "decode_seconds": [[0.1, 0.1]]}]},
    "outside": {
        "nf4": [
            {"step_seconds": 0.1, "layer_seconds": 0.07, "head_seconds": 0.01, "outside_seconds": 0.02, "layers": 129}
        ]
    },
}  # fmt: skip


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def rows(text: str, title: str) -> dict[str, dict[str, list[str]]]:
    """First cell -> column -> its cells, for columns may share a name."""
    table = text.split(f"**{title}**\n\n")[1].split("\n\n", maxsplit=1)[0].splitlines()
    header = cells(table[0])[1:]
    found: dict[str, dict[str, list[str]]] = {}
    for line in table[2:]:
        name, *values = cells(line)
        assert len(values) == len(header)
        for column, value in zip(header, values, strict=True):
            found.setdefault(name, {}).setdefault(column, []).append(value)
    return found


def test_quantizing_stands_beside_reading_and_idling() -> None:
    assert rows(markdown(RUN), "Quantizing on disk")["w8a16"] == {
        "s": ["50.0"], "s to read": ["4.0"], "of it cached": ["unknown"],
        "peak MB": ["700"], "bare Python": ["11"], "with imports": ["300"], "GB in": ["7.64"], "GB out": ["4.00"],
    }  # fmt: skip


def test_loading_shows_calculated_and_held_bytes() -> None:
    found = rows(markdown(RUN), "Loading")
    assert found["nf4"] == {
        "s to load": ["1.2"], "of it cached": ["50 %"], "s, first token": ["0.8"], "peak MB": ["900"],
        "own MB": ["300"], "bytes": ["4,000,000,000"], "calculated": ["4,000,000,000"], "of bf16": ["0.500"],
    }  # fmt: skip
    assert (found["bnb-nf4"]["calculated"], found["bnb-nf4"]["of bf16"]) == (["-"], ["0.375"])


def test_speeds_are_medians_and_ratios_those_within_a_round() -> None:
    found = rows(markdown(RUN), "Generating, tokens per second")
    assert list(found) == ["bf16", "w8a16", "nf4", "bnb-nf4", "llama.cpp Q8_0", "llama.cpp Q4_0"]
    assert found["w8a16"] == {
        "prefill 64": ["64.0"],
        "prefill 512": ["64.0"],
        "decode": ["5.00"],
        "vs bf16": ["1.00", "2.50"],  # of 2, 2.5 and 10; the ratio of medians were 2.5 as well, that of means 6.1
        "vs float32": ["-"],
        "vs w8a16": ["1.00"],
        "vs llama.cpp": [f"{64 / LLAMA_CPP['Q8_0']['prefill']:.2f}", f"{5 / LLAMA_CPP['Q8_0']['decode']:.2f}"],
    }
    assert found["nf4"]["vs bf16"] == ["1.00", "5.00"]
    assert found["nf4"]["vs w8a16"] == ["2.00"]
    assert found["bnb-nf4"]["vs bf16"] == ["0.50", "0.80"]  # against the first round, in which it ran
    assert found["llama.cpp Q8_0"]["decode"] == ["5.80"]


def test_compiled_decoding_stands_beside_eager() -> None:
    assert rows(markdown(RUN), "Static cache and torch.compile, tokens per second")["w8a16"] == {
        "s, first call": ["60.0"], "graphs": ["2"], "compiled anew": ["0"], "decode": ["10.00"],
        "vs eager": ["2.00"], "vs bf16 compiled": ["-"],
    }  # fmt: skip


def test_a_step_is_divided() -> None:
    assert rows(markdown(RUN), "What is not linear layers")["nf4"] == {
        "step": ["100.0"], "linear layers": ["70.0"], "head": ["10.0"], "rest": ["20.0"], "rest %": ["20.0"],
        "linear layers in it": ["129"],
    }  # fmt: skip


def test_parts_that_were_not_run_are_left_out_and_the_machine_is_named() -> None:
    text = markdown({key: RUN[key] for key in ("model", "environment", "sizes", "outside")})
    assert text.count("**") == 2
    assert text.splitlines()[-1] == (
        "phi3, 7.64 GB; CPU, 2 threads, OMP_WAIT_POLICY default, torch 2, transformers 5, avx512 kernels; decoding "
        "3 tokens after 64, 3 rounds, 2026-01-01."
    )
