"""SSRF guard, addresses: which IP addresses are public. Customers may name no others.

`ipaddress` alone is not enough: its `is_global` is True for Azure's metadata service, 192.0.0.0/24,
NAT64, 6to4 and multicast.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

FORBIDDEN_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; 0.0.0.0 reaches loopback on Linux
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata service
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's metadata service and resolver
        "169.254.0.0/16",  # link-local; the metadata services of AWS, Google and Azure
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)

PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
"""All addresses that IANA has assigned. Outside are loopback, IPv4-mapped, NAT64 (64:ff9b::/96),
private (fc00::/7), link-local (fe80::/10) and multicast (ff00::/8).
"""

FORBIDDEN_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation
    )
)


def is_public(address: Address) -> bool:
    """Whether the address belongs to the public internet and can be reached directly."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not any(address in network for network in FORBIDDEN_V4)
    return (
        address.is_global
        and address in PUBLIC_V6
        and not any(address in network for network in FORBIDDEN_V6)
    )
