"""Windrow against `model.generate` and against CTranslate2 used directly: same rows, same weights, interleaved repeats.

    python -m benchmarks.generation [--rows N] [--repeats N] [--kind marian|bart|t5]

Weights are random, since trained ones cannot be had offline: a Marian of the usual size (6 + 6 layers, 512 wide,
58,101 tokens), or BART base, or T5 small. The end's row of the head is fitted by least squares, so that a row is
written about as long as its source; without that, random weights never end a row. All decode greedily, in fp32 unless
int8 is told, from the same token ids, with as many threads as the machine has cores, and have done so once before.
`model.generate` gets the rows sorted by length, 8 to 64 at once; CTranslate2 gets all rows at once, as its
documentation shows, in batches by tokens, one translator a core.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import machine
from windrow.engines import Decoding, EnginePlan, open_engine
from windrow.engines.device import granted_cores
from windrow.engines.packing import at_most, pack
from windrow.job import Job
from windrow.models import ResolvedModel, resolve
from windrow.models.tokens import Tokens, Windows
from windrow.testing.models import make_tiny_model
from windrow.testing.vocabularies import make_word_tokenizer

RESULTS = Path(__file__).parent / "results"
BATCHES = (8, 16, 32, 64)
CT2_TOKENS = (1024, 2048, 4096)
PEERS = ("generate", "CT2 fp32", "CT2 int8")
TYPES = {"fp32": "float32", "int8": "int8"}
LONGEST = 128
DECODING = Decoding(LONGEST, {"do_sample": False})
Rows = list[list[int]]
KINDS = {
    "marian": ("MarianMTModel", "marian", {"d_model": 512, "encoder_layers": 6, "decoder_layers": 6,
                                            "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048,
                                            "encoder_attention_heads": 8, "decoder_attention_heads": 8}, 58_101),
    "bart": ("BartForConditionalGeneration", "bart", {"d_model": 768, "encoder_layers": 6, "decoder_layers": 6,
                                                      "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072,
                                                      "encoder_attention_heads": 12, "decoder_attention_heads": 12},
             50_265),
    "t5": ("T5ForConditionalGeneration", "t5", {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6,
                                                "num_heads": 8}, 32_128),
}  # fmt: skip
"""Class, style of the special tokens, sizes and vocabulary of each kind."""


def make_model(folder: Path, kind: str) -> tuple[ResolvedModel, list[str]]:
    """Write a model with random weights whose rows end; return it and the words of its vocabulary."""
    import transformers

    name, style, sizes, vocabulary = KINDS[kind]
    spare = len(make_word_tokenizer([], style=style))
    words = [f"w{number}" for number in range(vocabulary - spare)]
    tokenizer = make_word_tokenizer(words, 512, style)
    start = tokenizer.eos_token_id if kind == "bart" else tokenizer.pad_token_id
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids |= {"bos_token_id": tokenizer.bos_token_id, "decoder_start_token_id": start}
    model_class = getattr(transformers, name)
    config = model_class.config_class(**sizes, **ids, tie_word_embeddings=False, vocab_size=len(tokenizer))
    make_tiny_model(folder, model_class, config, tokenizer)
    banned = {"bad_words_ids": [[tokenizer.pad_token_id]]}
    transformers.GenerationConfig(**ids, **banned, max_length=LONGEST + 1).save_pretrained(folder)
    fit_end(folder, model_class, words, tokenizer)
    job = Job(
        name="bench", source={"text": "t", "key": "k", "path": "x.csv"}, task="translate", model=str(folder),
        warehouse={"url": "duckdb:///w", "table": "t"},
    )  # fmt: skip
    return resolve(job), words


def fit_end(folder: Path, model_class: Any, words: list[str], tokenizer: Any) -> None:
    """Set the head's row of the end so that it wins where a row is about as long as its source."""
    model = model_class.from_pretrained(folder).eval()
    seeded = np.random.default_rng(1)
    states, past_end, best = [], [], []
    model.final_logits_bias = torch.zeros((1, len(tokenizer)))
    for size in seeded.integers(4, 90, 60).tolist():
        ids = torch.tensor([tokenizer(" ".join(seeded.choice(words, size)))["input_ids"]])
        written = torch.from_numpy(seeded.integers(5, len(tokenizer) - 1, (1, min(LONGEST, size + 30))))
        written[0, 0] = model.config.decoder_start_token_id
        with torch.inference_mode():
            made = model(input_ids=ids, decoder_input_ids=written, output_hidden_states=True)
        states.append(made.decoder_hidden_states[-1][0])
        past_end.append(torch.arange(written.shape[1], dtype=torch.float32) - ids.shape[1])
        best.append(made.logits[0].max(dim=-1).values)
    told = torch.cat(states).clone()
    inside = torch.cat([told, torch.ones(len(told), 1)], dim=1)
    wanted = torch.cat(best) + torch.cat(past_end).clamp(-20, 20) * torch.cat(best).std() / 2
    ridge = 1e-2 * torch.eye(inside.shape[1])
    fitted = torch.linalg.solve(inside.T @ inside + ridge, inside.T @ wanted)
    end = tokenizer.eos_token_id
    with torch.no_grad():
        model.lm_head.weight[end] = fitted[:-1]
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias[0, end] = fitted[-1]
    model.save_pretrained(folder)


def rows_of(words: list[str], rows: int, model: ResolvedModel) -> Windows:
    """Return sources of log-normal lengths (most of them of 10 to 60 tokens), seeded."""
    seeded = np.random.default_rng(0)
    sizes = np.clip(seeded.lognormal(3.2, 0.6, rows), 4, 120).astype(int)
    return Tokens(model).windows([" ".join(seeded.choice(words, size)) for size in sizes])


def generate_runner(model: ResolvedModel, windows: Windows) -> Callable[[int], Rows]:
    """Return `model.generate` over sorted rows, by rows at once."""
    from transformers import AutoModelForSeq2SeqLM

    loaded = AutoModelForSeq2SeqLM.from_pretrained(str(model.folder), dtype=torch.float32).eval()
    pad = loaded.config.pad_token_id

    def run(size: int) -> Rows:
        torch.set_num_threads(granted_cores())
        made: Rows = [[]] * len(windows.rows)
        with torch.inference_mode():
            for rows in at_most(pack(windows.lengths, 1 << 30), size):
                longest = int(windows.lengths[rows].max())
                ids = torch.full((len(rows), longest), pad)
                for place, row in enumerate(rows):
                    ids[place, : windows.lengths[row]] = torch.from_numpy(windows.window(row).astype(np.int64))
                limits = {"max_new_tokens": LONGEST, "max_length": None, "do_sample": False}
                written = loaded.generate(input_ids=ids, attention_mask=(ids != pad).long(), **limits)
                for row, tokens in zip(rows, written.tolist(), strict=True):
                    made[row] = trimmed(tokens, loaded.config.eos_token_id)
        return made

    return run


def ctranslate2_runner(folder: Path, windows: Windows, end: int, precision: str) -> Callable[[int], Rows]:
    """Return CTranslate2 as its documentation shows it, by tokens at once."""
    import ctranslate2

    threads = {"inter_threads": granted_cores(), "intra_threads": 1}
    translator = ctranslate2.Translator(str(folder), "cpu", compute_type=TYPES[precision], **threads)
    sources = [[str(token) for token in windows.window(row)] for row in range(len(windows.rows))]
    given = {"beam_size": 1, "max_decoding_length": LONGEST, "return_end_token": True, "end_token": [end]}

    def run(tokens: int) -> Rows:
        made = translator.translate_batch(sources, batch_type="tokens", max_batch_size=tokens, **given)
        return [list(map(int, result.hypotheses[0])) for result in made]

    return run


def windrow_runner(
    engine_name: str, model: ResolvedModel, windows: Windows, precision: str = "fp32"
) -> tuple[Callable[[], Rows], Any]:
    """Return what the infer step does with a shard; the model is resident."""
    engine: Any = open_engine(EnginePlan(engine_name, "generate", "cpu", precision, decoding=DECODING), model)
    return lambda: [tokens.tolist()[1:] for tokens in engine.generate(windows, DECODING).values], engine


def trimmed(tokens: list[int], end: int) -> list[int]:
    """Return a row without its first token and without what follows its end."""
    tokens = tokens[1:]
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


def compare(runners: dict[str, Callable[[], Rows]], repeats: int) -> tuple[dict[str, float], dict[str, Rows]]:
    """Run all in turn; return median seconds and what each wrote.

    The first round finds each peer's best setting; the later ones repeat that setting and Windrow's engines, each
    in turn.
    """
    written: dict[str, Rows] = {}
    seconds: dict[str, list[float]] = {}

    def timed(name: str) -> None:
        began = time.perf_counter()
        written[name] = runners[name]()
        seconds.setdefault(name, []).append(time.perf_counter() - began)

    for name in runners:
        timed(name)
    peers = {who: min((name for name in runners if name.startswith(who)), key=seconds.__getitem__) for who in PEERS}
    for _ in range(repeats - 1):
        for name in runners:
            if name in peers.values() or not name.startswith(PEERS):
                timed(name)
    return {name: statistics.median(spent) for name, spent in seconds.items()}, written


def summed_up(kind: str, seconds: dict[str, float], written: dict[str, Rows], lengths: Any) -> dict[str, Any]:
    """Return figures of one model: tokens per second, ratios and agreement with `model.generate` of one row at once."""
    first = f"generate {BATCHES[0]}"
    sizes = np.asarray([len(row) for row in written[first]])
    best = {who: min(spent for name, spent in seconds.items() if name.startswith(who)) for who in PEERS}
    agreement = {
        name: float(np.mean([row == alone for row, alone in zip(rows, written[first], strict=True)]))
        for name, rows in written.items()
    }
    return {
        "kind": kind,
        "rows": len(sizes),
        "source_tokens": float(np.mean(lengths)),
        "written_tokens": float(sizes.mean()),
        "written_spread": float(sizes.std()),
        "written_per_source": float(np.median(sizes / np.asarray(lengths))),
        "at_limit": float(np.mean(sizes >= LONGEST)),
        "tokens_per_s": {name: round(float(sizes.sum()) / spent, 1) for name, spent in seconds.items()},
        "to_best_generate": {name: round(best["generate"] / spent, 2) for name, spent in seconds.items()},
        "to_best_ctranslate2": {
            name: round(best["CT2 int8" if "int8" in name else "CT2 fp32"] / spent, 2)
            for name, spent in seconds.items()
        },
        "equal_rows": {name: round(share, 4) for name, share in agreement.items()},
    }


def as_markdown(result: dict[str, Any], facts: dict[str, str]) -> str:
    """Return the table and the machine as Markdown."""
    lines = [
        f"| {result['kind']}, random weights | tokens/s | to the best `model.generate` | to CTranslate2's best "
        "| rows equal to `model.generate`, row by row |",
        "|---|---|---|---|---|",
    ]
    for name, speed in result["tokens_per_s"].items():
        ratio, other = result["to_best_generate"][name], result["to_best_ctranslate2"][name]
        shown = name.replace("generate ", "`model.generate`, batch ")
        shown = shown.replace("CT2 fp32 ", "CTranslate2 directly, tokens ")
        shown = shown.replace("CT2 int8 ", "CTranslate2 directly, int8, tokens ")
        lines.append(f"| {shown} | {speed} | {ratio:.2f}x | {other:.2f}x | {result['equal_rows'][name]:.1%} |")
    rows = (
        f"{result['rows']} rows of random words, {result['source_tokens']:.0f} tokens on average; written: "
        f"{result['written_tokens']:.0f} on average, standard deviation {result['written_spread']:.0f}, "
        f"median {result['written_per_source']:.2f} times the source, "
        f"{result['at_limit']:.0%} at the limit of {LONGEST}."
    )
    about = (
        "Weights are random, the end's row fitted so that rows end; a trained model's lengths may vary "
        "otherwise, and equal rows in int8 mean nothing here: all is a near tie."
    )
    where = "; ".join(f"{name}: {value}" for name, value in facts.items())
    return "\n".join([*lines, "", f"Greedy, fp32 unless told, medians of interleaved repeats. {rows} {about} {where}."])


def measured(kind: str, rows: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Make a model of a kind and measure all ways of running it."""
    model, words = make_model(folder / kind, kind)
    windows = rows_of(words, rows, model)
    native, _ = windrow_runner("torch", model, windows)
    other, engine = windrow_runner("ctranslate2", model, windows)
    small, _ = windrow_runner("ctranslate2", model, windows, "int8")
    plain = generate_runner(model, windows)
    end = json.loads((model.folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
    direct = {kind: ctranslate2_runner(engine.export.folder, windows, end, kind) for kind in TYPES}
    runners: dict[str, Callable[[], Rows]] = {f"generate {size}": lambda size=size: plain(size) for size in BATCHES}
    for precision, run in direct.items():
        runners |= {f"CT2 {precision} {tokens}": lambda tokens=tokens, run=run: run(tokens) for tokens in CT2_TOKENS}
    runners |= {"Windrow, engine torch": native, "Windrow, engine ctranslate2": other}
    runners["Windrow, engine ctranslate2, int8"] = small
    return summed_up(kind, *compare(runners, repeats), windows.lengths)


def main() -> None:
    """Run the comparison, print the tables, and write them to ``benchmarks/results``."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=600)
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--kind", nargs="+", choices=KINDS, default=["marian"])
    options = asked.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    facts, results = machine(), []
    with tempfile.TemporaryDirectory(prefix="windrow-generation-") as place:
        os.environ["WINDROW_HOME"] = place
        for kind in options.kind:
            results.append(measured(kind, options.rows, options.repeats, Path(place)))
            print(json.dumps(results[-1]), flush=True)
    table = "\n\n".join(as_markdown(result, facts) for result in results)
    print(f"\n{table}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "generation.md").write_text(table + "\n", encoding="utf-8")
    (RESULTS / "generation.json").write_text(
        json.dumps({"machine": facts, "results": results}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
