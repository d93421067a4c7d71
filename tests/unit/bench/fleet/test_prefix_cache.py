"""The block cache: what is found, what is evicted, what is refused."""

from bench.fleet.engine.cache import PrefixCache, Tier


def filled(capacity: int, *prompts: list[int]) -> PrefixCache:
    """A cache through which prompts have passed, one after the other."""
    cache = PrefixCache(capacity)
    for prompt in prompts:
        take(cache, prompt)
    return cache


def take(cache: PrefixCache, prompt: list[int]) -> None:
    """Let a prompt pass through a cache."""
    hits = prompt[: cache.match(prompt)]
    assert cache.acquire(hits, len(prompt) - len(hits))
    shared = [*hits, *(block for block in prompt[len(hits) :] if cache.share(block))]
    cache.release(shared, len(prompt) - len(shared))


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


class Heard:
    """What a cache tells its listener."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, str]] = []

    def stored(self, block: int, tier: Tier) -> None:
        self.told.append(("stored", block, tier.value))

    def removed(self, block: int, tier: Tier) -> None:
        self.told.append(("removed", block, tier.value))

    def cleared(self) -> None:
        self.told.append(("cleared", 0, ""))

    def take(self) -> list[tuple[str, int, str]]:
        told, self.told = self.told, []
        return told


def test_a_listener_hears_what_can_be_found_and_what_no_longer() -> None:
    heard = Heard()
    cache = PrefixCache(2, listener=heard)
    assert cache.acquire([], 2)
    assert heard.take() == []  # blocks without a name are nobody's business
    assert cache.share(1)
    assert cache.share(2)
    assert not cache.share(2)
    cache.release([1, 2], 0)
    assert heard.take() == [("stored", 1, "GPU"), ("stored", 2, "GPU")]
    assert cache.acquire([1], 1)
    assert heard.take() == [("removed", 2, "GPU")]
    cache.release([1], 1)
    assert cache.clear()
    assert heard.take() == [("cleared", 0, "")]


def test_what_the_gpu_evicts_is_found_in_the_cpu_s_memory_and_loaded_from_there() -> None:
    heard = Heard()
    cache = PrefixCache(3, cpu_capacity=4, listener=heard)
    take(cache, [1, 2, 3])
    heard.take()
    assert cache.acquire([], 2)
    assert heard.take() == [
        ("stored", 3, "CPU"),
        ("removed", 3, "GPU"),
        ("stored", 2, "CPU"),
        ("removed", 2, "GPU"),
    ]
    assert (len(cache), cache.offloaded) == (1, 2)
    assert cache.match([1, 2, 3]) == 3
    assert cache.to_load([1, 2, 3]) == 2
    cache.release([], 2)
    assert cache.acquire([1, 2, 3], 0)
    assert heard.take() == [("stored", 2, "GPU"), ("stored", 3, "GPU")]
    assert (cache.pinned, cache.offloaded) == (3, 2)  # copies stay
    cache.release([1, 2, 3], 0)
    assert cache.acquire([], 1)
    assert heard.take() == [("removed", 3, "GPU")]  # its copy was there already


def test_the_cpu_s_memory_forgets_what_was_used_longest_ago() -> None:
    heard = Heard()
    cache = PrefixCache(2, cpu_capacity=2, listener=heard)
    take(cache, [1, 2])
    take(cache, [3, 4])
    assert cache.match([1, 2]) == 2
    heard.take()
    take(cache, [5])  # evicts 4, which pushes 2 out: it went there before 1
    assert heard.take()[:3] == [("removed", 2, "CPU"), ("stored", 4, "CPU"), ("removed", 4, "GPU")]
    assert (cache.match([1, 2]), cache.match([3, 4])) == (1, 2)


def test_what_is_being_loaded_is_not_pushed_out_by_what_makes_room_for_it() -> None:
    cache = PrefixCache(2, cpu_capacity=2)
    take(cache, [1, 2])
    take(cache, [3, 4])
    assert cache.acquire([1, 2], 0)
    assert (cache.match([1, 2]), cache.match([3])) == (2, 0)
    assert (cache.offloaded, cache.pinned) == (2, 2)


def test_a_refused_load_changes_nothing() -> None:
    cache = PrefixCache(2, cpu_capacity=2)
    take(cache, [1, 2])
    take(cache, [3, 4])
    assert cache.acquire([3], 0)
    assert not cache.acquire([1, 2], 0)
    assert (cache.match([1, 2]), cache.match([3, 4]), cache.pinned) == (2, 2, 1)


def test_clearing_empties_both_tiers() -> None:
    cache = PrefixCache(2, cpu_capacity=2)
    take(cache, [1, 2])
    take(cache, [3, 4])
    assert cache.clear()
    assert (len(cache), cache.offloaded) == (0, 0)
