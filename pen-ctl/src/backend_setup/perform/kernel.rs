//! What backend-setup reads from the kernel and changes there: settings under `/proc/sys`, addresses over rtnetlink.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::plan::{Arp, Change, Key, Machine, Owned, Setting};
use crate::backend_setup::host_length;
use crate::machine::addresses;
use crate::machine::netlink::Asker;

const IPV4: &str = "/proc/sys/net/ipv4/conf";
const IPV6: &str = "/proc/sys/net/ipv6/conf";

/// An interface as far as it matters here.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    index: u32,
    /// Nobody is answered there.
    pub(super) silent: bool,
    pub(super) up: bool,
}

/// The kernel, asked.
pub(super) struct Kernel {
    asker: Asker,
    /// By name.
    pub(super) interfaces: BTreeMap<String, Interface>,
}

impl Kernel {
    /// Opens a socket and looks at the interfaces.
    pub(super) async fn open() -> io::Result<Kernel> {
        let asker = Asker::open()?;
        let request = asker.handle().link().get().execute();
        let messages: Vec<LinkMessage> = asker.answer(request.try_collect()).await?;
        let interfaces = messages.iter().filter_map(interface).collect();
        Ok(Kernel { asker, interfaces })
    }

    /// What the machine is like now.
    pub(super) async fn look(&self) -> io::Result<Machine> {
        let addresses = addresses::dump(&self.asker).await?;
        let owned = addresses.into_iter().filter_map(|owned| {
            let (name, interface) =
                self.interfaces.iter().find(|(_, interface)| interface.index == owned.ifindex)?;
            let (address, prefix) = (owned.address, owned.prefix);
            Some(Owned { address, prefix, interface: name.clone(), silent: interface.silent })
        });
        Ok(Machine { arp: arp()?, addresses: owned.collect() })
    }

    /// Makes a change.
    pub(super) async fn make(&self, change: &Change) -> io::Result<()> {
        match change {
            Change::Set(setting) => std::fs::write(path(setting), setting.after.to_string()),
            Change::Restore(setting) => std::fs::write(path(setting), setting.before.to_string()),
            Change::Add { address, interface } => {
                let message = self.message(*address, interface)?;
                let mut request =
                    self.asker.handle().address().add(message.header.index, *address, host_length(*address));
                *request.message_mut() = message;
                forgive(self.asker.answer(request.execute()).await, libc::EEXIST)
            }
            Change::Remove { address, interface } => {
                let request = self.asker.handle().address().del(self.message(*address, interface)?);
                forgive(self.asker.answer(request.execute()).await, libc::EADDRNOTAVAIL)
            }
        }
    }

    /// The address as it is to be: of one host; for IPv6 without duplicate address detection, and deprecated, so that
    /// it is never chosen as the source of the host's own connections (RFC 6724, rule 3).
    fn message(&self, address: IpAddr, interface: &str) -> io::Result<AddressMessage> {
        let interface =
            self.interfaces.get(interface).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        let mut message = AddressMessage::default();
        message.header.index = interface.index;
        message.header.prefix_len = host_length(address);
        message.header.family = match address {
            IpAddr::V4(_) => rtnetlink::packet_route::AddressFamily::Inet,
            IpAddr::V6(_) => rtnetlink::packet_route::AddressFamily::Inet6,
        };
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        if address.is_ipv6() {
            let mut lifetimes = CacheInfo::default();
            (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, u32::MAX);
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
        }
        Ok(message)
    }
}

/// Whether IPv6 is turned off on an interface: it takes no such address then.
pub(super) fn ipv6_is_off(interface: &str) -> bool {
    let path = Path::new(IPV6).join(interface).join("disable_ipv6");
    std::fs::read_to_string(path).map_or(true, |text| text.trim() != "0")
}

fn interface(message: &LinkMessage) -> Option<(String, Interface)> {
    let flags = message.header.flags;
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let silent = flags.contains(LinkFlags::Loopback) || flags.contains(LinkFlags::Noarp);
    Some((name, Interface { index: message.header.index, silent, up: flags.contains(LinkFlags::Up) }))
}

fn path(setting: &Setting) -> PathBuf {
    Path::new(IPV4).join(&setting.interface).join(setting.key.name())
}

fn arp() -> io::Result<BTreeMap<String, Arp>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(IPV4)? {
        let entry = entry?;
        let value = |key: Key| -> io::Result<u32> {
            let text = std::fs::read_to_string(entry.path().join(key.name()))?;
            text.trim().parse().map_err(io::Error::other)
        };
        // An interface may go while we look.
        if let (Ok(ignore), Ok(announce)) = (value(Key::ArpIgnore), value(Key::ArpAnnounce)) {
            found.insert(entry.file_name().to_string_lossy().into_owned(), Arp { ignore, announce });
        }
    }
    Ok(found)
}

fn forgive(result: io::Result<()>, errno: i32) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        result => result,
    }
}
