"""One entry of the catalogue of known faults, as data.

The catalogue (`tests/faults/catalogue`) is what `docs/known-faults.md` is written from and what
`tests/faults/test_catalogue.py` holds to the tests that exist.
"""

from dataclasses import dataclass

REPOSITORIES = {
    "bnb": "bitsandbytes-foundation/bitsandbytes",
    "ao": "pytorch/ao",
    "quanto": "huggingface/optimum-quanto",
    "tf": "huggingface/transformers",
    "peft": "huggingface/peft",
    "gptqm": "ModelCloud/GPTQModel",
    "autogptq": "AutoGPTQ/AutoGPTQ",
    "awq": "casper-hansen/AutoAWQ",
    "lcpp": "ggml-org/llama.cpp",
    "pt": "pytorch/pytorch",
    "vllm": "vllm-project/vllm",
    "inc": "intel/neural-compressor",
    "lmeval": "EleutherAI/lm-evaluation-harness",
}
"""Short names of those that are referred to most."""


@dataclass(frozen=True)
class Fault:
    """A fault that a library shipped, and the tests that hold this one to it.

    Attributes:
        id: a letter for the group and a number, as in N1; test names carry it as in `test_n1_...`.
        title: the fault in a few words.
        what: what went wrong.
        seen: where, as `repository#number` or `repository@commit`, the repository as owner/name or one of
            `REPOSITORIES`.
        here: how this library stands to it, and what the tests hold.
        tests: `folder/file.py::test_name` below tests/, each of which goes red on this fault.
    """

    id: str
    title: str
    what: str
    seen: tuple[str, ...]
    here: str
    tests: tuple[str, ...]


def link(reference: str) -> str:
    """A reference as a Markdown link to GitHub, which leads from issues to pull requests by itself."""
    separator, page = ("#", "issues") if "#" in reference else ("@", "commit")
    repository, _, place = reference.partition(separator)
    repository = REPOSITORIES.get(repository, repository)
    return f"[{repository}{separator}{place}](https://github.com/{repository}/{page}/{place})"
