"""Greedy decoding of a seq2seq model in which finished rows leave and waiting rows enter.

`model.generate` goes on until the last row of a micro-batch is done; rows that are done are computed all the
same. Here they give their slot to the next row at once. The encoder runs once a row, in micro-batches of like
lengths, and keys and values of the source are made once a row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutput

from windrow.engines.base import Outputs
from windrow.engines.encoding import NOT_FINITE
from windrow.engines.halving import check_any_done, halved, is_out_of_memory, reason_of
from windrow.engines.packing import pack
from windrow.engines.pulse import Heard, heard
from windrow.engines.rules import Rules, chosen
from windrow.engines.slots import Slots, positions_apart, stacked, stepping
from windrow.errors import WindrowError
from windrow.models.windows import Windows

__all__ = ["Greedy", "InHand", "Loop", "Work"]

Forward = Callable[[list[int]], Any]


@dataclass(frozen=True, slots=True)
class InHand:
    """How much is in hand at once, of each worker.

    Attributes:
        slots: Most rows that are written at once.
        encoder_tokens: Most padded source tokens of one encoder pass.
        cache_bytes: Most bytes of keys and values; fewer rows are in hand where they would take more.
    """

    slots: int
    encoder_tokens: int
    cache_bytes: int


@dataclass(frozen=True, slots=True)
class Greedy:
    """Writes the rows of shards with one seq2seq model, in as many loops at once as there are workers.

    Attributes:
        model: Its own encoder, decoder and head do all the computing.
        in_hand: How much is in hand at once, of each worker.
        padded: Returns token ids and mask of some rows, shape ``(rows, longest)``; no mask where nothing is padded.
        guarded: Wraps a forward pass, as the engine does.
        relieve: Called after a lack of memory.
        workers: Threads; each has rows of its own in hand.
    """

    model: Any
    in_hand: InHand
    padded: Callable[[Windows, list[int]], tuple[torch.Tensor, torch.Tensor | None]]
    guarded: Callable[[Forward], Forward]
    relieve: Callable[[], None]
    workers: int

    def run(self, windows: Windows, rules: Rules) -> Outputs:
        """Write every row: token ids, the first token and the end included, and failures.

        Raises:
            EngineError: All of several rows failed, or the device is gone.
        """
        share = int(windows.lengths.sum()) // (4 * self.workers)  # so that each worker gets some
        slots = min(self.in_hand.slots, -(-len(windows.rows) // self.workers))
        tokens = max(1, min(self.in_hand.encoder_tokens, share))
        work = Work(self, rules, replace(self.in_hand, slots=slots, encoder_tokens=tokens), windows, heard())
        with positions_apart(self.model.get_decoder()):
            if self.workers == 1:
                Loop(work).run()
            else:
                with ThreadPoolExecutor(self.workers, thread_name_prefix="windrow-engine") as pool:
                    list(pool.map(lambda _: Loop(work).run(), range(self.workers)))
        check_any_done(len(windows.rows) - len(work.outputs.failed), work.outputs.failed)
        return work.outputs


class Work:
    """What the loops of one shard share: rows to be encoded, and what came out."""

    def __init__(
        self, greedy: Greedy, rules: Rules, in_hand: InHand, windows: Windows, tell: Heard | None = None
    ) -> None:
        self.greedy, self.rules, self.in_hand, self.windows, self._tell = greedy, rules, in_hand, windows, tell
        self.waiting = deque(pack(windows.lengths, in_hand.encoder_tokens))
        self.outputs = Outputs([np.zeros(0, dtype=np.int32)] * len(windows.rows))

    def done(self, row: int, tokens: list[int]) -> None:
        """Keep the tokens of a row; those of a row whose scores were no numbers end with -1."""
        if tokens[-1] < 0:
            self.outputs.failed[row] = NOT_FINITE
        else:
            self.outputs.values[row] = np.asarray(tokens, dtype=np.int32)
        if self._tell:
            self._tell([row])


@dataclass(frozen=True, slots=True)
class _Ready:
    """A row that has been encoded and has made its first token."""

    row: int
    own: torch.Tensor
    cross: torch.Tensor
    token: int


class Loop:
    """One worker's rows: encoded, written token by token, and let go."""

    def __init__(self, work: Work) -> None:
        self.work, self.rules, self.model = work, work.rules, work.greedy.model
        self.begin, self.step = work.greedy.guarded(self._begin), work.greedy.guarded(self._step)
        self.slots = Slots(str(self.model.device), self.model.dtype)
        self.most = work.in_hand.slots
        self.rows: list[int] = []
        self.written: list[list[int]] = []
        self.ready: deque[_Ready] = deque()

    def run(self) -> None:
        """Go on until nothing is waiting or in hand."""
        with torch.inference_mode():
            self._fill()
            while self.rows:
                self._go_on()
                self._fill()

    def _fill(self) -> None:
        """Let waiting rows enter while there is room."""
        while len(self.rows) < self._room():
            if not self.ready:
                try:
                    rows = self.work.waiting.popleft()  # other threads take from it too
                except IndexError:
                    return
                self.ready.extend(self._encoded(rows))
                continue
            ready = self.ready.popleft()
            self.slots.enter(ready.own, ready.cross)
            self.rows.append(ready.row)
            self.written.append([self.rules.start, ready.token])

    def _room(self) -> int:
        """Return how many rows may be in hand, by slots and by bytes of the longest."""
        if not self.rows:
            return max(1, self.most)
        return max(1, min(self.most, self.work.in_hand.cache_bytes // self.slots.row_bytes()))

    def _encoded(self, rows: list[int]) -> Iterator[_Ready]:
        """Encode a micro-batch and make each row's first token; rows that end with it are done."""
        for part, (own, cross, tokens) in halved(rows, self.begin, self.work.outputs.failed, self.work.greedy.relieve):
            for place, (row, token) in enumerate(zip(part, tokens, strict=True)):
                written = [self.rules.start, token]
                if token < 0 or self._is_done(row, written):
                    self.work.done(row, written)
                else:
                    source = int(self.work.windows.lengths[row])
                    yield _Ready(row, own[:, place], cross[:, place, :, :source], token)

    def _begin(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Run encoder and first decoder step; return keys and values of both attentions, and the tokens."""
        ids, mask = self.work.greedy.padded(self.work.windows, rows)
        start = torch.full((len(rows), 1), self.rules.start, device=ids.device)
        made = self.model(input_ids=ids, attention_mask=mask, decoder_input_ids=start, use_cache=True)
        cache = made.past_key_values
        own, cross = stacked(cache.self_attention_cache.layers), stacked(cache.cross_attention_cache.layers)
        return own, cross, self._chosen(made.logits, rows, [[self.rules.start]] * len(rows))

    def _go_on(self) -> None:
        """Write one token of each row in hand; where that fails, go on with half of them."""
        try:
            tokens = self.step(self.rows)
        except WindrowError:
            raise
        except (RuntimeError, ValueError, IndexError, MemoryError) as error:
            self._fewer(error)
            return
        for slot in range(len(tokens) - 1, -1, -1):  # from the last: it is what fills a gap
            self.written[slot].append(tokens[slot])
            self.slots.at[slot] += 1
            if tokens[slot] < 0 or self._is_done(self.rows[slot], self.written[slot]):
                self.work.done(self.rows[slot], self.written[slot])
                self._drop(slot)

    def _step(self, rows: list[int]) -> list[int]:
        """Run the decoder for one token of each row in hand; return the tokens."""
        cache, own_mask, cross_mask = self.slots.step()
        last = torch.tensor([[tokens[-1]] for tokens in self.written], device=self.model.device)
        shape = (len(rows), 1, self.model.config.hidden_size)
        source = torch.zeros(shape, dtype=self.model.dtype, device=last.device)  # its keys and values are in `cache`
        with stepping(self.slots):
            made = self.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=source), attention_mask=cross_mask,
                decoder_input_ids=last, decoder_attention_mask=own_mask, past_key_values=cache, use_cache=True,
            )  # fmt: skip
        return self._chosen(made.logits, rows, self.written)

    def _chosen(self, logits: torch.Tensor, rows: list[int], written: list[list[int]]) -> list[int]:  # noqa: ARG002
        return chosen(self.rules, logits, written)

    def _is_done(self, row: int, tokens: list[int]) -> bool:  # noqa: ARG002 (what a probe goes by)
        return tokens[-1] in self.rules.ends or len(tokens) >= self.rules.max_length

    def _drop(self, slot: int) -> None:
        self.slots.leave(slot)
        self.rows[slot], self.written[slot] = self.rows[-1], self.written[-1]
        self.rows.pop(), self.written.pop()

    def _fewer(self, error: Exception) -> None:
        """Send half of the rows back to wait; a row that fails alone is at fault."""
        if is_out_of_memory(error):
            self.work.greedy.relieve()
        if len(self.rows) == 1:
            self.work.outputs.failed[self.rows[0]] = reason_of(error)
            self._drop(0)
            self.most = self.most if is_out_of_memory(error) else self.work.in_hand.slots
            return
        self.most = len(self.rows) // 2
        self.work.waiting.appendleft(self.rows[self.most :])
        for slot in range(len(self.rows) - 1, self.most - 1, -1):
            self._drop(slot)
