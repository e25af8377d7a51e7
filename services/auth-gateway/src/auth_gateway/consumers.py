"""auth-gateway listens to nothing yet: what it needs, it is told by HTTP."""

from __future__ import annotations

from typing import Final

from common.runtime.inbox import Subscription

SUBSCRIPTIONS: Final[tuple[Subscription, ...]] = ()
