"""IP addresses and networks, as operators and headers write them."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)

__all__ = ["Address", "Network", "parse_address", "parse_network"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def parse_address(text: str) -> Address:
    """Return an address, an IPv4-mapped one as IPv4, without its zone; raises ValueError."""
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))


def parse_network(text: str) -> Network:
    """Return a network, or one address as a network; an IPv4-mapped one as IPv4.

    Raises ValueError with what was probably meant.
    """
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is no network: {_advice(text)}") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


def _advice(text: str) -> str:
    try:
        meant = ip_interface(text)
    except ValueError:
        return "write one like 10.0.0.0/8 or 2001:db8::/32, or an address like 127.0.0.1"
    return f"write {meant.network} for all of it, or {meant.ip} for the one address"
