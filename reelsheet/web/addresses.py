"""Which addresses may be connected to.

A sheet, a provider or a redirect may name any host. Before a byte is sent the host is resolved, every answer is
judged here, and the connection is made to the very address that was judged (`reelsheet.web.guarded_http`). An IPv6
address that carries an IPv4 one (mapped, compatible, 6to4, NAT64) is judged by what it carries; tunnels whose end
cannot be known from here (Teredo, a site's own NAT64) are never entered.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from reelsheet.errors import BlockedAddress, ReelsheetError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Lookup = Callable[[str, int], Awaitable[list[str]]]


def _networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# Where clouds hand out credentials. Some lie in private or even public ranges, so they are named one by one.
METADATA: Final = _networks(
    "169.254.0.0/16",
    "fe80::/10",
    "100.100.100.200/32",  # Alibaba Cloud
    "168.63.129.16/32",  # Azure
    "192.0.0.192/32",  # Oracle Cloud
    "fd00:ec2::/32",  # AWS: metadata, DNS, pod identity
    "fd20:ce::/32",  # Google Cloud
    "fd00:c1::/32",  # Oracle Cloud
    "fd00:42::/32",  # Scaleway
)
# What REELSHEET_ALLOW_PRIVATE_HOSTS opens.
PRIVATE: Final = _networks(
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",  # carriers' NAT, mesh VPNs
    "198.18.0.0/15",  # benchmarks, and VPNs that answer every name from here
    "::1/128",
    "fc00::/7",
)
_WRAPPERS: Final = _networks("::ffff:0:0/96", "64:ff9b::/96", "::/96")  # mapped, NAT64, compatible
_TUNNELS: Final = _networks("2001::/32", "64:ff9b:1::/48")  # Teredo, a site's own NAT64
# No public name lives below these (RFC 6761), so a failed lookup there is no passing trouble.
_NEVER_NAMES: Final = (".invalid", ".test", ".example")
# Names that exist wherever public names can be looked up at all.
_ALWAYS_NAMES: Final = ("example.com", "iana.org")
_DENIED: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class UnknownHost(ReelsheetError):
    """The host's name could not be looked up; `permanent` when there is surely no such host."""

    def __init__(self, message: str, host: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.host = host
        self.permanent = permanent


def is_public(ip: str | IPAddress) -> bool:
    """True for an address that belongs to the public internet, whatever it is wrapped in."""
    address = _unwrapped(ip)
    if _within(address, METADATA) or _within(address, _TUNNELS):
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def permitted(ip: str | IPAddress, *, allow_private: bool) -> bool:
    """True when a connection may be made. Link-local, metadata, multicast and 0.0.0.0 are never permitted."""
    address = _unwrapped(ip)
    if is_public(address):
        return True
    return allow_private and _within(address, PRIVATE) and not _within(address, METADATA)


async def system_lookup(host: str, port: int) -> list[str]:
    """Every address that this machine's resolver gives for `host`. Raises socket.gaierror."""
    loop = asyncio.get_running_loop()
    entries = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


async def resolve(host: str, port: int, *, allow_private: bool, lookup: Lookup = system_lookup) -> list[str]:
    """The checked addresses of `host`, in the resolver's order.

    Raises BlockedAddress when any single answer is not permitted, UnknownHost when there is none.
    """
    try:
        ips = await lookup(host, port)
    except socket.gaierror as error:
        if await _is_gone(host, error, lookup):
            raise UnknownHost(f"There is no host named {host}; check the address.", host, permanent=True) from error
        raise UnknownHost(
            f"{host} could not be looked up just now; check this machine's network.", host, permanent=False
        ) from error
    except (UnicodeError, ValueError) as error:
        raise UnknownHost(f"{host!r} is no host name.", host, permanent=True) from error
    if not ips:
        raise UnknownHost(f"{host} has no address.", host, permanent=True)
    refuse_blocked(host, ips, allow_private=allow_private)
    return ips


def refuse_blocked(host: str, ips: Iterable[str], *, allow_private: bool) -> None:
    """Raise BlockedAddress unless every address is permitted."""
    for ip in ips:
        if permitted(ip, allow_private=allow_private):
            continue
        if permitted(ip, allow_private=True):
            raise BlockedAddress(
                f"{host} is in a private network ({ip}), which is not opened; put the file where the public web reaches"
                f" it, or set REELSHEET_ALLOW_PRIVATE_HOSTS=1 if this is meant."
            )
        raise BlockedAddress(f"{host} leads to {ip}, an address that is never opened; use a public web address.")


async def _is_gone(host: str, error: socket.gaierror, lookup: Lookup) -> bool:
    """True when there is surely no such host. Without a network, many resolvers deny every name alike."""
    if f".{host.lower().rstrip('.')}".endswith(_NEVER_NAMES):
        return True
    if error.errno not in _DENIED:
        return False
    for known in _ALWAYS_NAMES:
        try:
            if await lookup(known, 443):
                return True
        except OSError:
            continue
    return False


def _unwrapped(ip: str | IPAddress) -> IPAddress:
    """The IPv4 address inside an IPv6 one where there is one, else the address itself."""
    # a zone ("%eth0") names an interface of this machine
    address = ipaddress.ip_address(ip.partition("%")[0]) if isinstance(ip, str) else ip
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.sixtofour is not None:
        return address.sixtofour
    if _within(address, _WRAPPERS) and int(address) > 1:  # :: and ::1 are themselves
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _within(address: IPAddress, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
