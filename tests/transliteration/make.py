"""Make the checkpoint in this folder from CTranslate2's test model: the same weights, as a Pegasus in safetensors.

    python tests/transliteration/make.py FOLDER

FOLDER holds ``model.bin``, ``source_vocabulary.txt`` and ``target_vocabulary.txt``, see README.md. Pegasus is the
architecture of Transformers that computes what OpenNMT's Transformer does: layers normalised before each part and at
the end, and positions in two halves, of sines and cosines.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PegasusConfig, PegasusForConditionalGeneration, PreTrainedTokenizerFast

MADE = Path(__file__).parent / "checkpoint"
SIZE, HEADS, INNER, LAYERS, POSITIONS, LONGEST = 32, 8, 128, 6, 128, 64
MARK = "→"
"""Stands before each letter that is written, since some of them are read, too."""
NEVER = -1e4


def weights_of(file: BinaryIO) -> dict[str, torch.Tensor]:
    """Return the weights of a CTranslate2 model, version 2 of the format."""

    def number(form: str) -> int:
        return struct.unpack(form, file.read(struct.calcsize(form)))[0]

    def name() -> str:
        return file.read(number("H"))[:-1].decode()

    if number("I") != 2:
        sys.exit("This is not version 2 of CTranslate2's format.")
    name(), number("I")
    found = {}
    for _ in range(number("I")):
        key, axes = name(), number("B")
        shape = [number("I") for _ in range(axes)]
        item = number("B")
        data = np.frombuffer(file.read(item * number("I")), np.float32)
        found[key] = torch.from_numpy(data.reshape(shape).copy())
    return found


def positions() -> torch.Tensor:
    """Return the embeddings of the positions, counted from 1, shape ``(positions, size)``."""
    half = SIZE // 2
    angles = np.arange(1, POSITIONS + 1)[:, None] * np.exp(np.arange(half) * -np.log(10_000) / (half - 1))
    return torch.tensor(np.concatenate([np.sin(angles), np.cos(angles)], axis=1), dtype=torch.float32)


def renamed(old: dict[str, torch.Tensor], read: int, written: int) -> dict[str, torch.Tensor]:
    """Return the weights by Pegasus's names; tokens that are written come after those that are read."""
    new: dict[str, torch.Tensor] = {}

    def norm(to: str, source: str) -> None:
        new[f"{to}.weight"], new[f"{to}.bias"] = old[f"{source}/gamma"], old[f"{source}/beta"]

    def linear(source: str, *to: str) -> None:
        parts = zip(to, old[f"{source}/weight"].chunk(len(to)), old[f"{source}/bias"].chunk(len(to)), strict=True)
        for place, weight, bias in parts:
            new[f"{place}.weight"], new[f"{place}.bias"] = weight.contiguous(), bias.contiguous()

    for side in ("encoder", "decoder"):
        new[f"model.{side}.embed_positions.weight"] = positions()
        norm(f"model.{side}.layer_norm", f"{side}/layer_norm")
        for layer in range(LAYERS):
            to, source = f"model.{side}.layers.{layer}", f"{side}/layer_{layer}"
            own, other = f"{to}.self_attn", f"{to}.encoder_attn"
            norm(f"{own}_layer_norm", f"{source}/self_attention/layer_norm")
            norm(f"{to}.final_layer_norm", f"{source}/ffn/layer_norm")
            linear(f"{source}/self_attention/linear_0", *(f"{own}.{part}_proj" for part in "qkv"))
            linear(f"{source}/self_attention/linear_1", f"{own}.out_proj")
            linear(f"{source}/ffn/linear_0", f"{to}.fc1")
            linear(f"{source}/ffn/linear_1", f"{to}.fc2")
            if side == "decoder":
                norm(f"{other}_layer_norm", f"{source}/attention/layer_norm")
                linear(f"{source}/attention/linear_0", f"{other}.q_proj")
                linear(f"{source}/attention/linear_1", *(f"{other}.{part}_proj" for part in "kv"))
                linear(f"{source}/attention/linear_2", f"{other}.out_proj")
    none, unread = torch.zeros(written, SIZE), torch.zeros(read, SIZE)
    new["model.encoder.embed_tokens.weight"] = torch.cat([old["encoder/embeddings/weight"], none])
    new["model.decoder.embed_tokens.weight"] = torch.cat([unread, old["decoder/embeddings/weight"]])
    new["model.shared.weight"] = new["model.encoder.embed_tokens.weight"].clone()
    new["lm_head.weight"] = torch.cat([unread, old["decoder/projection/weight"]])
    new["final_logits_bias"] = torch.cat([torch.full((read,), NEVER), old["decoder/projection/bias"]])[None]
    return new


def main() -> None:
    """Read the model, write the checkpoint."""
    folder = Path(sys.argv[1])
    with (folder / "model.bin").open("rb") as file:
        old = weights_of(file)
    letters = [
        (folder / f"{side}_vocabulary.txt").read_text(encoding="utf-8").splitlines() for side in ("source", "target")
    ]
    read, written = (len(old[f"{side}/embeddings/weight"]) for side in ("encoder", "decoder"))
    names = [*letters[0], "<unk>", *(MARK + letter for letter in letters[1]), MARK + "<unk>"]
    special = {kind: read + place for place, kind in enumerate(("pad_token", "bos_token", "eos_token"))}
    ids = {f"{kind}_id": place for kind, place in special.items()}
    generation = {"decoder_start_token_id": ids["bos_token_id"], "max_length": LONGEST, **ids}
    sizes = {f"{side}_{part}": size for side in ("encoder", "decoder")
             for part, size in (("layers", LAYERS), ("attention_heads", HEADS), ("ffn_dim", INNER))}  # fmt: skip
    config = PegasusConfig(
        vocab_size=read + written, d_model=SIZE, activation_function="relu", scale_embedding=True, dropout=0.0,
        max_position_embeddings=POSITIONS, tie_word_embeddings=False, forced_eos_token_id=None,
        decoder_start_token_id=ids["bos_token_id"], **sizes, **ids,
    )  # fmt: skip
    model = PegasusForConditionalGeneration(config).eval()
    model.load_state_dict(renamed(old, read, written), strict=True)
    model.generation_config = GenerationConfig(**generation)
    model.save_pretrained(MADE)
    tokenizer = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(MARK, ""), decoders.Fuse()])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", model_max_length=POSITIONS,
        **{kind: names[place] for kind, place in special.items()},
    ).save_pretrained(MADE)  # fmt: skip


if __name__ == "__main__":
    main()
