"""What may be connected to, and what never."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.errors import BlockedAddress
from reelsheet.web import addresses

PUBLIC = ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::7f00:1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "2002:c0a8:101::",
]
NEVER = [
    "0.0.0.0",  # noqa: S104 - an address that is judged, not one that is bound
    "0.1.2.3",
    "::",
    "169.254.169.254",
    "169.254.170.2",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "239.255.255.250",
    "ff02::1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "2001:db8::1",
    "fec0::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "64:ff9b:1::808:808",
]


def answers(*ips):
    async def lookup(host, port):
        return list(ips)

    return lookup


def failing(number, known=()):
    """A resolver that fails with `number`, but for the names in `known`."""

    async def lookup(host, port):
        if host in known:
            return ["8.8.8.8"]
        raise socket.gaierror(number, "no")

    return lookup


@pytest.mark.parametrize("ip", PUBLIC)
def test_a_public_address_is_permitted_whatever_it_is_wrapped_in(ip):
    assert addresses.is_public(ip)
    assert addresses.permitted(ip, allow_private=False)
    assert addresses.permitted(ip, allow_private=True)


@pytest.mark.parametrize("ip", PRIVATE)
def test_a_private_address_needs_the_setting(ip):
    assert not addresses.is_public(ip)
    assert not addresses.permitted(ip, allow_private=False)
    assert addresses.permitted(ip, allow_private=True)


@pytest.mark.parametrize("ip", NEVER)
def test_no_setting_opens_link_local_metadata_multicast_or_nowhere(ip):
    assert not addresses.permitted(ip, allow_private=False)
    assert not addresses.permitted(ip, allow_private=True)


@given(st.ip_addresses(v=4), st.booleans())
def test_a_wrapped_address_is_judged_like_the_bare_one(ip, allow_private):
    number = int(ip)
    bare = addresses.permitted(ip, allow_private=allow_private)
    for wrapped in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        assert addresses.permitted(ipaddress.IPv6Address(wrapped), allow_private=allow_private) is bare


@given(st.ip_addresses())
def test_the_setting_only_ever_opens_more(ip):
    if addresses.permitted(ip, allow_private=False):
        assert addresses.is_public(ip)
        assert addresses.permitted(ip, allow_private=True)


async def test_one_private_answer_among_public_ones_blocks_the_host():
    with pytest.raises(BlockedAddress, match=r"private network \(10\.0\.0\.7\).*REELSHEET_ALLOW_PRIVATE_HOSTS"):
        await addresses.resolve("shop.test", 443, allow_private=False, lookup=answers("8.8.8.8", "10.0.0.7"))


async def test_one_metadata_answer_blocks_the_host_even_where_private_ones_are_open():
    with pytest.raises(BlockedAddress, match=r"169\.254\.169\.254.*never opened"):
        await addresses.resolve("shop.test", 80, allow_private=True, lookup=answers("127.0.0.1", "169.254.169.254"))


async def test_every_permitted_answer_is_kept_in_the_order_of_the_resolver():
    found = await addresses.resolve("shop.test", 80, allow_private=False, lookup=answers("8.8.8.8", "2606:4700::1"))
    assert found == ["8.8.8.8", "2606:4700::1"]


@pytest.mark.parametrize("spelling", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost"])
async def test_odd_spellings_of_loopback_are_blocked(spelling):
    with pytest.raises(BlockedAddress):
        await addresses.resolve(spelling, 80, allow_private=False)


async def test_a_denied_name_is_surely_gone_where_other_names_are_known():
    lookup = failing(socket.EAI_NONAME, known=("iana.org",))
    with pytest.raises(addresses.UnknownHost, match="no host named") as caught:
        await addresses.resolve("tyop.shop", 80, allow_private=False, lookup=lookup)
    assert caught.value.permanent
    assert caught.value.host == "tyop.shop"


async def test_a_denied_name_proves_nothing_where_every_name_is_denied():
    """A machine without a name server denies them all."""
    with pytest.raises(addresses.UnknownHost, match="network") as caught:
        await addresses.resolve("shop.com", 80, allow_private=False, lookup=failing(socket.EAI_NONAME))
    assert not caught.value.permanent


async def test_a_name_server_that_does_not_answer_is_passing_trouble():
    lookup = failing(socket.EAI_AGAIN, known=("example.com",))
    with pytest.raises(addresses.UnknownHost) as caught:
        await addresses.resolve("shop.com", 80, allow_private=False, lookup=lookup)
    assert not caught.value.permanent


@pytest.mark.parametrize("host", ["cdn.invalid", "CDN.Invalid.", "shop.example", "shop.test"])
async def test_a_name_below_a_reserved_end_needs_no_proof(host):
    with pytest.raises(addresses.UnknownHost) as caught:
        await addresses.resolve(host, 80, allow_private=False, lookup=failing(socket.EAI_AGAIN))
    assert caught.value.permanent


@pytest.mark.parametrize("host", ["a" * 70 + ".com", "a..com", "\udcff.com"])
async def test_what_can_be_no_host_name_is_said_so(host):
    with pytest.raises(addresses.UnknownHost) as caught:
        await addresses.resolve(host, 80, allow_private=False)
    assert caught.value.permanent


async def test_a_host_without_an_address_is_unknown():
    with pytest.raises(addresses.UnknownHost):
        await addresses.resolve("shop.com", 80, allow_private=False, lookup=answers())
