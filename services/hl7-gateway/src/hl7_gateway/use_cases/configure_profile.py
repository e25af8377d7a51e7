"""Make, change and remove a site profile: what is saved can be used, or every mistake of it is named."""

from __future__ import annotations

from dataclasses import replace

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime.authentication import Caller
from hl7_gateway.core.site_profile import SiteProfile, check_name, checked_text
from hl7_gateway.ports import ProfileBook


class ConfigureProfile:
    """See the module's text."""

    def __init__(self, book: ProfileBook, clock: Clock) -> None:
        self._book = book
        self._clock = clock

    async def create(self, caller: Caller, name: str, text: str, reason: str) -> SiteProfile:
        """Raises SuiteError `request.invalid` or `profile.name-taken`."""
        check_name(name)
        document = checked_text(text).document
        now = self._clock.now()
        profile = SiteProfile(caller.tenant, name, 1, text, document, caller.subject, reason, now, now)
        return await self._book.add(caller, profile)

    async def change(self, caller: Caller, before: SiteProfile, text: str, reason: str) -> SiteProfile:
        """Raises SuiteError `request.invalid`, `request.conflict` for a built-in one, `request.version-changed`."""
        _check_own(before)
        document = checked_text(text).document
        now = self._clock.now()
        after = replace(
            before,
            version=before.version + 1,
            text=text,
            document=document,
            author=caller.subject,
            reason=reason,
            updated_at=now,
        )
        await self._book.save(caller, before, after)
        return after

    async def remove(self, caller: Caller, profile: SiteProfile, reason: str) -> None:
        """Raises SuiteError `profile.in-use`, `request.conflict` for a built-in one, `request.version-changed`."""
        _check_own(profile)
        await self._book.remove(caller, profile, reason)


def _check_own(profile: SiteProfile) -> None:
    if profile.built_in:
        raise SuiteError("request.conflict", "A built-in profile stays as it is: make one of your own.")
