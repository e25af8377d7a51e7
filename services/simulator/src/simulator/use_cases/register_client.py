"""A client application is registered with the simulated vendor."""

from __future__ import annotations

from dataclasses import replace

from simulator.core.clients import Client
from simulator.core.world import World


def register_client(world: World, client: Client) -> Client:
    """Put a client on the register; what is remembered of an earlier registration stays, its tokens end when disabled.

    Raises ClientTakenError, RegisterFullError.
    """
    present = world.clients.of(client.owner, client.client_id)
    if present is not None:
        client = replace(
            client,
            registered_at=present.registered_at,
            last_refusal=present.last_refusal,
            last_refused_at=present.last_refused_at,
            last_token_at=present.last_token_at,
        )
    world.clients.put(client)
    if not client.enabled:
        world.tokens.revoke_client(client.client_id)
    return client
