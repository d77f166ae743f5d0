import pytest

from windrow.engines.halving import is_out_of_memory, run_all
from windrow.errors import EngineError


def scored(forward, rows, size=4, workers=1):
    failed, relieved = {}, []
    batches = [rows[i : i + size] for i in range(0, len(rows), size)]
    parts = run_all(batches, forward, failed, lambda: relieved.append(1), workers)
    done = {row: value for part, values in parts for row, value in zip(part, values, strict=True)}
    return done, failed, relieved


@pytest.mark.parametrize("workers", [1, 2])
def test_a_poison_row_is_the_only_one_that_fails(workers):
    def forward(rows):
        if 5 in rows:
            raise IndexError("index out of range in self")
        return [row * 10 for row in rows]

    done, failed, relieved = scored(forward, list(range(12)), workers=workers)
    assert done == {row: row * 10 for row in range(12) if row != 5}
    assert failed == {5: ("model_error", "IndexError: index out of range in self")}
    assert not relieved


def test_a_lack_of_memory_is_met_with_smaller_micro_batches():
    seen = []

    def forward(rows):
        seen.append(len(rows))
        if len(rows) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return rows

    done, failed, relieved = scored(forward, list(range(8)), size=8)
    assert sorted(done) == list(range(8))
    assert not failed
    assert relieved
    assert seen[0] == 8
    assert max(seen[-2:]) <= 2


def test_a_single_row_that_lacks_memory_is_a_reject_with_that_reason():
    def forward(rows):
        if 1 in rows:
            raise MemoryError
        return rows

    _, failed, _ = scored(forward, [0, 1, 2])
    assert failed[1][0] == "out_of_memory"


def test_a_model_that_fails_on_everything_is_no_reject_but_an_error():
    def forward(rows):
        raise RuntimeError("weights are gone")

    with pytest.raises(EngineError, match="all 6 texts"):
        scored(forward, list(range(6)))


def test_errors_that_are_no_fault_of_a_row_pass_through():
    def forward(rows):
        raise EngineError("Device lost.", "restart.")

    with pytest.raises(EngineError, match="Device lost"):
        scored(forward, [0, 1])


def test_memory_errors_are_told_by_their_words():
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
