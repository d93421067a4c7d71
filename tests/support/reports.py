"""What bodies of the gateway report to a router, in any order: rules for state machines."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from routing.decision import Decision
from routing.router import Router

WHICH = st.integers(0, 50)
COUNTS = st.none() | st.integers(0, 500)


class Reports(RuleBasedStateMachine):
    """Decisions that were made, and every report about them at ``now``."""

    router: Router

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.decisions: list[Decision] = []

    def pick(self, which: int) -> Decision:
        return self.decisions[which % len(self.decisions)]

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH)
    def sent(self, which: int) -> None:
        self.router.sent(self.pick(which), self.now)

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH)
    def first_token(self, which: int) -> None:
        self.router.first_token(self.pick(which), self.now)

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH, prompt=COUNTS, cached=COUNTS, completion=COUNTS)
    def finished(
        self, which: int, prompt: int | None, cached: int | None, completion: int | None
    ) -> None:
        self.router.finished(
            self.pick(which),
            self.now,
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
        )

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH, refused=st.booleans())
    def failed(self, which: int, refused: bool) -> None:
        self.router.failed(self.pick(which), self.now, "reset", refused=refused)

    @precondition(lambda self: self.decisions)
    @rule(which=WHICH)
    def abandoned(self, which: int) -> None:
        self.router.abandoned(self.pick(which), self.now)
