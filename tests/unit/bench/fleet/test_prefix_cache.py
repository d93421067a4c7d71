"""The block cache: what is found, what is evicted, what is refused."""

from bench.fleet.engine.cache import PrefixCache


def filled(capacity: int, *prompts: list[int]) -> PrefixCache:
    """A cache through which prompts have passed, one after the other."""
    cache = PrefixCache(capacity)
    for prompt in prompts:
        hits = prompt[: cache.match(prompt)]
        assert cache.acquire(hits, len(prompt) - len(hits))
        shared = [*hits, *(block for block in prompt[len(hits) :] if cache.share(block))]
        cache.release(shared, len(prompt) - len(shared))
    return cache


def test_finds_the_leading_blocks_that_are_cached() -> None:
    cache = filled(8, [1, 2, 3])
    assert cache.match([1, 2, 3, 4]) == 3
    assert cache.match([1, 9, 3]) == 1
    assert cache.match([2, 3]) == 2
    assert cache.match([9]) == 0


def test_idle_blocks_count_as_free_and_pinned_ones_as_used() -> None:
    cache = filled(8, [1, 2])
    assert (cache.usage, cache.free, len(cache)) == (0.0, 8, 2)
    assert cache.acquire([1, 2], 2)
    assert (cache.usage, cache.free) == (0.5, 4)


def test_the_least_recently_used_prompt_is_evicted_from_its_end() -> None:
    cache = filled(5, [1, 2, 3], [4, 5], [1, 2, 3])
    assert cache.acquire([], 1)
    assert cache.match([4, 5]) == 1
    assert cache.acquire([], 2)
    assert cache.match([4]) == 0
    assert cache.match([1, 2, 3]) == 2


def test_what_somebody_holds_is_never_evicted() -> None:
    cache = filled(4, [1, 2])
    assert cache.acquire([1, 2], 0)
    assert cache.acquire([], 2)
    assert not cache.acquire([], 1)
    assert cache.match([1, 2]) == 2


def test_a_refused_request_changes_nothing() -> None:
    cache = filled(4, [1, 2])
    assert not cache.acquire([1], 4)
    assert (cache.pinned, cache.match([1, 2])) == (0, 2)


def test_a_block_is_pinned_until_its_last_holder_leaves() -> None:
    cache = filled(4, [1])
    assert cache.acquire([1], 0)
    assert cache.acquire([1], 0)
    assert cache.pinned == 1
    cache.release([1], 0)
    assert cache.pinned == 1
    cache.release([1], 0)
    assert (cache.pinned, cache.match([1])) == (0, 1)


def test_a_second_copy_of_a_block_stays_private_and_leaves_nothing_behind() -> None:
    cache = PrefixCache(4)
    assert cache.acquire([], 2)
    assert cache.share(7)
    assert not cache.share(7)
    assert cache.pinned == 2
    cache.release([7], 1)
    assert (cache.pinned, len(cache)) == (0, 1)


def test_clearing_forgets_idle_blocks_and_is_refused_while_blocks_are_held() -> None:
    cache = filled(4, [1, 2])
    assert cache.acquire([1], 0)
    assert not cache.clear()
    assert cache.match([1, 2]) == 2
    cache.release([1], 0)
    assert cache.clear()
    assert cache.match([1]) == 0
