"""Which addresses may be connected to, however they are written and whatever they hide in."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.errors import SuiteError
from common.runtime.outbound import AddressPolicy, endpoint_of, target_of
from common.runtime.settings import RuntimeSettings

EVERYTHING = ("public", "0.0.0.0/0", "::/0")
DEFAULT = tuple(RuntimeSettings.model_fields["allowed_networks"].default)

NEVER = {
    "cloud metadata": "169.254.169.254",
    "container credentials": "169.254.170.2",
    "link-local": "169.254.0.1",
    "link-local, IPv6": "fe80::1",
    "metadata of AWS, IPv6": "fd00:ec2::254",
    "pod credentials of AWS, IPv6": "fd00:ec2::23",
    "metadata of Google, IPv6": "fd20:ce::254",
    "metadata of Alibaba": "100.100.100.200",
    "metadata of Oracle": "192.0.0.192",
    "wire server of Azure": "168.63.129.16",
    "multicast": "224.0.0.1",
    "multicast, IPv6": "ff02::1",
    "global multicast, IPv6": "ff0e::1",
    "unspecified": "0.0.0.0",
    "this network": "0.1.2.3",
    "unspecified, IPv6": "::",
    "broadcast": "255.255.255.255",
    "metadata, IPv4-mapped": "::ffff:169.254.169.254",
    "metadata, IPv4-compatible": "::169.254.169.254",
    "metadata, translated": "::ffff:0:169.254.169.254",
    "metadata through NAT64": "64:ff9b::a9fe:a9fe",
    "metadata through 6to4": "2002:a9fe:a9fe::1",
    "metadata through Teredo": f"2001:0:4136:e378:8000:63bf:{0xA9FE ^ 0xFFFF:x}:{0xA9FE ^ 0xFFFF:x}",
    "unspecified, IPv4-mapped": "::ffff:0.0.0.0",
    "multicast through NAT64": "64:ff9b::e000:1",
}


@pytest.mark.parametrize("address", NEVER.values(), ids=NEVER.keys())
@pytest.mark.parametrize("networks", [EVERYTHING, DEFAULT], ids=["everything allowed", "as delivered"])
def test_some_addresses_are_never_connected_to(address: str, networks: Sequence[str]) -> None:
    assert not AddressPolicy(networks).allows(ip_address(address))


@pytest.mark.parametrize(
    ("networks", "address", "allowed"),
    [
        # every global address, and what only looks like one
        (("public",), "8.8.8.8", True),
        (("public",), "2606:4700::1111", True),
        (("public",), "::ffff:8.8.8.8", True),
        (("public",), "64:ff9b::808:808", True),
        (("public",), "2002:808:808::1", True),
        (("public",), "10.1.2.3", False),
        (("public",), "127.0.0.1", False),
        (("public",), "::1", False),
        (("public",), "100.64.0.1", False),
        (("public",), "192.0.0.8", False),
        (("public",), "192.88.99.1", False),
        (("public",), "198.51.100.7", False),
        (("public",), "240.0.0.1", False),
        (("public",), "fc00::1", False),
        (("public",), "fec0::1", False),
        (("public",), "2001:db8::1", False),
        (("public",), "3fff::1", False),
        (("public",), "5f00::1", False),
        (("public",), "64:ff9b:1::808:808", False),
        (("public",), "::ffff:10.1.2.3", False),
        (("public",), "::10.1.2.3", False),
        (("public",), "::ffff:0:10.1.2.3", False),
        (("public",), "64:ff9b::a01:203", False),
        (("public",), "64:ff9b::7f00:1", False),
        # on-premises systems, as delivered
        (DEFAULT, "10.1.2.3", True),
        (DEFAULT, "172.16.0.1", True),
        (DEFAULT, "172.32.0.1", True),
        (DEFAULT, "192.168.1.1", True),
        (DEFAULT, "fd12:3456::1", True),
        (DEFAULT, "::ffff:192.168.1.1", True),
        (DEFAULT, "64:ff9b::c0a8:101", True),
        (DEFAULT, "127.0.0.1", False),
        (DEFAULT, "::1", False),
        (DEFAULT, "::ffff:127.0.0.1", False),
        (DEFAULT, "100.64.0.1", False),
        # what the operator names, and nothing beside it
        (("10.20.0.0/16",), "10.20.255.1", True),
        (("10.20.0.0/16",), "10.21.0.1", False),
        (("10.20.0.0/16",), "8.8.8.8", False),
        (("10.20.0.5/32",), "10.20.0.5", True),
        (("10.20.0.5",), "10.20.0.5", True),
        (("10.20.0.5",), "10.20.0.6", False),
        (("10.20.0.0/16",), "::ffff:10.20.0.1", True),
        (("127.0.0.0/8",), "127.9.9.9", True),
        (("127.0.0.0/8",), "::1", False),
        (("::1/128",), "::1", True),
        (("::1/128",), "127.0.0.1", False),
        (("::/0",), "10.1.2.3", False),
        (("::/0",), "::ffff:10.1.2.3", False),
        (("64:ff9b:1::/48",), "64:ff9b:1::a01:203", True),
        ((), "8.8.8.8", False),
    ],
)  # fmt: skip
def test_networks_and_public(networks: Sequence[str], address: str, allowed: bool) -> None:
    assert AddressPolicy(networks).allows(ip_address(address)) is allowed


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_every_ipv6_form(address: IPv4Address) -> None:
    inside = int(address)
    forms = [
        IPv6Address((0xFFFF << 32) | inside),  # mapped
        IPv6Address((0xFFFF << 48) | inside),  # translated
        IPv6Address((0x0064FF9B << 96) | inside),  # NAT64
        IPv6Address((0x2002 << 112) | (inside << 80)),  # 6to4
        *([IPv6Address(inside)] if inside > 1 else []),  # compatible; :: and ::1 are themselves
    ]
    for networks in (DEFAULT, EVERYTHING, ("public",), ("10.0.0.0/8", "127.0.0.0/8")):
        policy = AddressPolicy(networks)
        assert {policy.allows(form) for form in forms} == {policy.allows(address)}


# How a person may write 127.0.0.1, and 169.254.169.254: all of them the resolver reads.
SPELLINGS = {
    "decimal": "2130706433", "hexadecimal": "0x7f000001", "octal": "0177.0.0.1", "in parts": "0x7f.0x0.0x0.0x1",
    "short": "127.1", "full": "127.0.0.1",
}  # fmt: skip
METADATA_SPELLINGS = {
    "decimal": "2852039166", "hexadecimal": "0xa9fea9fe", "octal": "0251.0376.0251.0376", "mixed": "0xa9.254.43518",
    "mapped": "::ffff:169.254.169.254", "mapped, hexadecimal": "::ffff:a9fe:a9fe", "NAT64": "64:ff9b::a9fe:a9fe",
}  # fmt: skip


@pytest.mark.parametrize("host", SPELLINGS.values(), ids=SPELLINGS.keys())
async def test_any_spelling_is_judged_by_the_address_that_it_stands_for(host: str) -> None:
    assert await AddressPolicy(("127.0.0.0/8",)).resolve(host, 80) == ["127.0.0.1"]
    with pytest.raises(SuiteError) as refused:
        await AddressPolicy(DEFAULT).resolve(host, 80)
    assert refused.value.code == "peer.address-refused"


@pytest.mark.parametrize("host", METADATA_SPELLINGS.values(), ids=METADATA_SPELLINGS.keys())
async def test_metadata_is_refused_in_any_spelling(host: str) -> None:
    with pytest.raises(SuiteError) as refused:
        await AddressPolicy(EVERYTHING).resolve(host, 80)
    assert refused.value.code == "peer.address-refused"


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (["10.0.0.1", "10.0.0.2"], None),
        (["10.0.0.1", "169.254.169.254"], "peer.address-refused"),
        (["169.254.169.254", "10.0.0.1"], "peer.address-refused"),
        (["10.0.0.1", "::1"], "peer.address-refused"),
        (["8.8.8.8", "127.0.0.1"], "peer.address-refused"),
        (["fe80::1%eth0"], "peer.address-refused"),
        ([], "peer.dns"),
        (OSError("no such name"), "peer.dns"),
        (UnicodeError("label too long"), "peer.dns"),
    ],
    ids=str,
)
async def test_all_addresses_of_a_name_must_be_allowed(found: list[str] | Exception, code: str | None) -> None:
    async def look_up(host: str, port: int) -> Sequence[str]:
        if isinstance(found, Exception):
            raise found
        return found

    policy = AddressPolicy(DEFAULT, look_up)
    if code is None:
        assert await policy.resolve("pms.example", 443) == found
        return
    with pytest.raises(SuiteError) as refused:
        await policy.resolve("pms.example", 443)
    assert refused.value.code == code


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", ".example"])
async def test_a_name_that_is_none_does_not_resolve(host: str) -> None:
    with pytest.raises(SuiteError) as unknown:
        await AddressPolicy(EVERYTHING).resolve(host, 80)
    assert unknown.value.code == "peer.dns"


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "server_name"),
    [
        ("http://pms.example/fhir", "pms.example", 80, False, "pms.example"),
        ("https://pms.example", "pms.example", 443, True, "pms.example"),
        ("HTTPS://PMS.Example:8443/FHIR", "pms.example", 8443, True, "pms.example"),
        ("https://pms.example./fhir", "pms.example.", 443, True, "pms.example"),
        ("https://münchen.example/", "xn--mnchen-3ya.example", 443, True, "xn--mnchen-3ya.example"),
        ("http://127。0。0。1/", "127.0.0.1", 80, False, "127.0.0.1"),
        ("http://[::ffff:169.254.169.254]:8080/", "::ffff:169.254.169.254", 8080, False, "::ffff:169.254.169.254"),
        ("http://pms.example:80/", "pms.example", 80, False, "pms.example"),
    ],
)
def test_where_a_url_leads(url: str, host: str, port: int, tls: bool, server_name: str) -> None:
    target = target_of(url)
    assert (target.host, target.port, target.tls, target.server_name) == (host, port, tls, server_name)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://pms.example/", "file:///etc/passwd", "gopher://pms.example/", "unix:///run/docker.sock", "javascript:1",
        "//pms.example/", "pms.example", "", "http://", "https:///path", "http://:80/",
        "http://user:secret@pms.example/", "http://user@pms.example/", "http://pms.example@169.254.169.254/",
        "http://pms.example:99999/", "http://pms.example:0/", "http://pms.example:x/", "http://１２７.0.0.1/",
        "http://pms.example\r\nHost: other/", "http://[::1/",
    ],
)  # fmt: skip
def test_what_is_no_address_to_call(url: str) -> None:
    with pytest.raises(SuiteError) as refused:
        target_of(url)
    assert refused.value.code == "peer.address-refused"
    assert "secret" not in str(refused.value)


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://", "http://a@", "http://["]))
def test_any_text_leads_somewhere_or_is_refused(text: str, start: str) -> None:
    try:
        target = target_of(start + text)
    except SuiteError as refused:
        assert refused.code == "peer.address-refused"  # noqa: PT017 - either outcome is right
    else:
        assert target.host == httpx.URL(start + text).raw_host.decode()
        assert 0 < target.port <= 65535


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://pms.example:8443/Patient?name=Rivera", "https://pms.example:8443"),
        ("https://user:secret@pms.example/x", "https://pms.example"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
        ("http://[::1", ""),
        ("http://pms.example:99999/", ""),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert endpoint_of(url) == shown
