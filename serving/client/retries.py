"""How often a call is attempted, and which failures another attempt may mend."""

import dataclasses
import random

from grpc import StatusCode

#: The codes after which another attempt may succeed, with the tokens that such a failure takes from its server: it is
#: starting or stopping, does not answer in time, or has too many requests. The last costs a server next to nothing, and
#: a burst of clients sees it often; so retries end only where more than three of four attempts are refused for long.
#: DEADLINE_EXCEEDED is retried where an attempt had less time than the call.
RETRYABLE = {StatusCode.UNAVAILABLE: 1.0, StatusCode.DEADLINE_EXCEEDED: 1.0, StatusCode.RESOURCE_EXHAUSTED: 0.03}
#: A server has this many tokens for each attempt of a call. As in gRPC's own throttling, a failure takes a token, and a
#: success gives a tenth of one back. There are no retries once half of the tokens are gone: retries must not multiply
#: the load of a server that has too much already.
TOKENS_PER_ATTEMPT = 2.5
TOKENS_OF_A_SUCCESS = 0.1


@dataclasses.dataclass(frozen=True)
class Retries:
    """How often a call is attempted, and how long the client waits in between.

    A wait is a random time of up to `first_wait_seconds` * 2 ** attempt, and at most `longest_wait_seconds`. Where
    there are more servers than attempts, each is tried once.

    >>> 0 <= Retries(first_wait_seconds=0.1).wait_seconds(attempt=2) <= 0.4
    True
    """

    attempts: int = 4
    first_wait_seconds: float = 0.05
    longest_wait_seconds: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"retries.attempts must be at least 1, but is {self.attempts}")

    def wait_seconds(self, attempt: int) -> float:
        """The wait after an attempt, counted from 0. It is random, so that clients do not come back together."""
        return random.uniform(0, min(self.longest_wait_seconds, self.first_wait_seconds * 2 ** min(attempt, 30)))
