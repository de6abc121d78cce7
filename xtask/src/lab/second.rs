//! A second link for a balancer: `eth1` on a bridge of its own, with a client there and backends moved behind it.
//!
//! ```text
//!   client ──┐                 ┌── client2
//!            ├── bridge   second ──┤
//!   b1 ──────┤                 └── b2
//!            └─ eth0 pen1 eth1 ─┘
//! ```
//!
//! The balancer is the router between the two: that is the way answers take.

use std::net::IpAddr;

use super::address::{Family, address};
use super::namespace::Namespace;
use super::sys::{self, Offload, PassProgram};
use super::{Error, Host, Lab, Result, await_port};

/// What the balancer's second interface is called.
pub const INTERFACE: &str = "eth1";
/// Name of its port on the switch.
pub const PORT: &str = "second1";
/// Name of the second client's port.
const CLIENT_PORT: &str = "client2";

/// The second link of a lab's first balancer.
pub struct SecondLink {
    /// A client on this link.
    pub client: Namespace,
    behind: Vec<IpAddr>,
    pass: Option<PassProgram>,
}

impl SecondLink {
    /// Makes the link and its client, and has the first balancer route; that has no interface there yet.
    pub fn build(lab: &Lab) -> Result<Self> {
        lab.switch.ip("link add second type bridge forward_delay 0 stp_state 0 mcast_snooping 0")?;
        lab.switch.ip("link set second up")?;
        let client = Namespace::create(&format!("{}-{CLIENT_PORT}", lab.name()))?;
        connect(&lab.switch, CLIENT_PORT, &client, "eth0", [2, 0x70, 0x65, 0x6e, 2, 1])?;
        for family in Family::BOTH {
            add_address(&client, "eth0", address(family, 4, 1), 0)?;
        }
        lab.switch.ip(&format!("link set {CLIENT_PORT} master second"))?;
        let balancer = &lab.balancers[0].namespace;
        balancer.sysctl("ipv4/ip_forward", "1")?;
        balancer.sysctl("ipv6/conf/all/forwarding", "1")?;
        for host in &lab.backends {
            host.namespace.ip(&format!(
                "route add {} via {}",
                net(Family::V4, 4),
                address(Family::V4, 0, 1)
            ))?;
            host.namespace.ip(&format!(
                "route add {} via {}",
                net(Family::V6, 4),
                address(Family::V6, 0, 1)
            ))?;
        }
        Ok(Self { client, behind: Vec::new(), pass: None })
    }

    /// Gives the balancer its interface there, with this last byte of its MAC and, as a veth needs it to be sent to by
    /// XDP, with a passing program at the other end; returns once the link forwards.
    pub fn join(&mut self, lab: &Lab, mac: u8) -> Result<()> {
        self.join_without_program(lab, mac)?;
        self.pass(lab)
    }

    /// The same without the program.
    pub fn join_without_program(&mut self, lab: &Lab, mac: u8) -> Result<()> {
        let balancer = &lab.balancers[0].namespace;
        connect(&lab.switch, PORT, balancer, INTERFACE, [2, 0x70, 0x65, 0x6e, 3, mac])?;
        lab.switch.ip(&format!("link set {PORT} master second"))?;
        self.configure(lab)?;
        // Nobody tells the others that the balancer's own addresses have another MAC now (`ndisc_notify` would).
        let others = lab.backends.iter().map(|host| &*host.namespace).chain([&self.client]);
        others.into_iter().try_for_each(|other| other.ip("neigh flush dev eth0").map(drop))?;
        await_port(&lab.switch, PORT)
    }

    /// Puts a passing program on the other end.
    pub fn pass(&mut self, lab: &Lab) -> Result<()> {
        let pass = lab.switch.run(|| PassProgram::attach(PORT));
        self.pass = Some(pass.map_err(|e| Error::io("attach a passing XDP program", e))?);
        Ok(())
    }

    /// Gives the interface its addresses and routes, which it loses when it is deleted, moved or (IPv6) taken down.
    pub fn configure(&self, lab: &Lab) -> Result<()> {
        let balancer = &lab.balancers[0].namespace;
        for family in Family::BOTH {
            add_address(balancer, INTERFACE, address(family, 3, 1), full(family))?;
            self.route(balancer, &net(family, 4), family)?;
        }
        self.behind.iter().try_for_each(|backend| self.route_to_backend(balancer, *backend))
    }

    fn route_to_backend(&self, balancer: &Namespace, backend: IpAddr) -> Result<()> {
        let family = if backend.is_ipv4() { Family::V4 } else { Family::V6 };
        self.route(balancer, &format!("{backend}/{}", full(family)), family)
    }

    fn route(&self, balancer: &Namespace, to: &str, family: Family) -> Result<()> {
        let source = address(family, 3, 1);
        balancer.ip(&format!("route replace {to} dev {INTERFACE} src {source}")).map(drop)
    }

    /// Deletes the interface.
    pub fn leave(&mut self, lab: &Lab) -> Result<()> {
        self.pass = None;
        lab.balancers[0].namespace.ip(&format!("link del {INTERFACE}")).map(drop)
    }

    /// Moves a backend behind this link.
    pub fn move_behind(&mut self, lab: &Lab, host: &Host) -> Result<()> {
        lab.switch.ip(&format!("link set {} master second", host.name))?;
        await_port(&lab.switch, &host.name)?;
        let there = lab.balancers[0].namespace.ip(&format!("link show {INTERFACE}")).is_ok();
        for family in Family::BOTH {
            host.namespace.ip(&format!("route del {}", net(family, 4)))?;
            host.namespace.ip(&format!("route add {} via {}", net(family, 2), address(family, 3, 1)))?;
            self.behind.push(host.address(family));
            if there {
                self.route_to_backend(&lab.balancers[0].namespace, host.address(family))?;
            }
        }
        Ok(())
    }
}

/// Source address of the second client.
pub fn client(family: Family) -> IpAddr {
    address(family, 4, 1)
}

/// A pair of veths, up: a port of the switch, and an interface of this MAC in another namespace.
fn connect(switch: &Namespace, port: &str, to: &Namespace, name: &str, mac: [u8; 6]) -> Result<()> {
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    switch.ip(&format!("link add {port} type veth peer name {name} address {mac} netns {}", to.name()))?;
    for (place, interface) in [(to, name), (switch, port)] {
        place
            .run(|| {
                sys::disable_offload(interface, Offload::TransmitChecksum)?;
                sys::disable_offload(interface, Offload::TransmitVlan)
            })
            .map_err(|e| Error::io(&format!("turn offloads of {interface} off"), e))?;
        place.ip(&format!("link set {interface} up"))?;
    }
    Ok(())
}

/// Adds an address; a length of 0 stands for that of the whole lab.
fn add_address(to: &Namespace, interface: &str, address: IpAddr, length: u8) -> Result<()> {
    let (whole, nodad) = if address.is_ipv4() { (16, "") } else { (64, "nodad") };
    let length = if length == 0 { whole } else { length };
    to.ip(&format!("addr replace {address}/{length} dev {interface} {nodad}")).map(drop)
}

/// All addresses of a group.
fn net(family: Family, group: u8) -> String {
    let length = if family == Family::V4 { 24 } else { 112 };
    format!("{}/{length}", address(family, group, 0))
}

/// Length of the prefix that is one address.
fn full(family: Family) -> u8 {
    if family == Family::V4 { 32 } else { 128 }
}
