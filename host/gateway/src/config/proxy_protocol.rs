//! The table `[proxy-protocol]`.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use saegis_onem2m::serde::all_parsed;
use serde::Deserialize;

/// Load balancers that name the client of each TCP connection with the PROXY protocol.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ProxyProtocol {
    /// Addresses and networks of the load balancers, such as `10.0.0.2` and `10.1.0.0/16`. Each TCP
    /// connection from them to `listen.address` and `mqtt.listen` must start with a header of
    /// version 2. No connection from another address may have one. Limits, policy and audit trail
    /// use the address in the header.
    #[serde(deserialize_with = "all_parsed")]
    pub from: Vec<ProxyNetwork>,
}

/// Address or network of load balancers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyNetwork(IpNet);

/// Error of an address or network of load balancers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyNetworkError {
    /// It is neither an address nor a network.
    #[error("{0:?} is neither an IP address nor a network, such as 10.0.0.2 or 10.1.0.0/16")]
    Form(String),
    /// The address has bits behind the prefix.
    #[error("{given} has bits behind its prefix; write {network} for the network, or {address}")]
    HostBits {
        /// The text.
        given: String,
        /// The network of the address.
        network: IpNet,
        /// The address alone.
        address: IpAddr,
    },
    /// It contains every address.
    #[error("{0} contains every address, so that any client could name itself")]
    Every(IpNet),
    /// It is a network of IPv4 addresses in IPv6 form.
    #[error("{0} has IPv4 addresses in IPv6 form; write them as IPv4")]
    Mapped(IpNet),
}

impl FromStr for ProxyNetwork {
    type Err = ProxyNetworkError;

    fn from_str(text: &str) -> Result<Self, ProxyNetworkError> {
        use ProxyNetworkError as E;
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().into()));
        }
        let network: IpNet = text.parse().map_err(|_| E::Form(text.into()))?;
        if network.prefix_len() == 0 {
            Err(E::Every(network))
        } else if network.addr() != network.network() {
            let (given, address) = (text.into(), network.addr());
            Err(E::HostBits { given, network: network.trunc(), address })
        } else if matches!(network, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some()) {
            Err(E::Mapped(network))
        } else {
            Ok(Self(network))
        }
    }
}

impl ProxyProtocol {
    /// Returns whether a load balancer has that address.
    pub fn is_from(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.from.iter().any(|ProxyNetwork(network)| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_balancers_are_addresses_or_networks() {
        let from = ["10.0.0.2", "10.1.0.0/16", "2001:db8::/64", "::ffff:192.0.2.1", "127.0.0.1/32"];
        let proxies = ProxyProtocol { from: from.map(|text| text.parse().unwrap()).into() };
        for (address, is) in [
            ("10.0.0.2", true),
            ("10.0.0.3", false),
            ("10.1.255.255", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.0", false),
            ("2001:db8::1", true),
            ("2001:db8:0:1::1", false),
            ("192.0.2.1", true),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("::1", false),
        ] {
            assert_eq!(proxies.is_from(address.parse().unwrap()), is, "{address}");
        }
        assert!(!ProxyProtocol::default().is_from("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn too_wide_and_unclear_networks_are_refused() {
        for (text, what) in [
            ("", "\"\" is neither"),
            ("balancer.example", "\"balancer.example\" is neither"),
            ("10.0.0.2:8443", "\"10.0.0.2:8443\" is neither"),
            ("10.0.0.0/33", "\"10.0.0.0/33\" is neither"),
            ("10.1.0.2/16", "10.1.0.2/16 has bits behind its prefix; write 10.1.0.0/16 for"),
            ("2001:db8::1/64", "2001:db8::1/64 has bits behind its prefix"),
            ("0.0.0.0/0", "0.0.0.0/0 contains every address"),
            ("::/0", "::/0 contains every address"),
            ("::ffff:10.0.0.0/104", "::ffff:10.0.0.0/104 has IPv4 addresses in IPv6 form"),
        ] {
            let error = text.parse::<ProxyNetwork>().unwrap_err().to_string();
            assert!(error.starts_with(what), "{text}: {error}");
        }
    }
}
