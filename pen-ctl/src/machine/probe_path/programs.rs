//! The classifiers of the probe path: loaded, attached to interfaces, and their map of probe addresses.

use std::io;
use std::net::IpAddr;

use aya::maps::{HashMap, MapData};
use aya::programs::links::LinkOrder;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, qdisc_add_clsact, qdisc_detach_program,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use pen_common::abi::Address;

use super::filters;
use super::netlink::Netlink;
use crate::dataplane::Mac;
use crate::dataplane::xdp::{error_chain, load_patiently, number_of};

/// The programs and their maps, as built by `cargo xtask build-ebpf` and committed.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../pen-ebpf/prebuilt/pen-probe.o"));

/// The programs, each with its place.
const PROGRAMS: [(&str, TcAttachType); 2] =
    [("pen_probe_out", TcAttachType::Egress), ("pen_probe_in", TcAttachType::Ingress)];

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// By a link (TCX, Linux 6.6), which goes with the process.
    Tcx,
    /// As filters of a `clsact` queueing discipline, which stay where a process is killed.
    Clsact,
}

impl Hook {
    /// The best there is.
    pub(super) fn of_this_kernel() -> Self {
        let tcx = KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0));
        if tcx { Hook::Tcx } else { Hook::Clsact }
    }

    /// Removes what a process that was killed left on an interface.
    pub(super) fn sweep(self, interface: &str) {
        if self == Hook::Clsact {
            for (name, place) in PROGRAMS {
                // Usually there is nothing.
                let _ = qdisc_detach_program(interface, place, name);
            }
        }
    }
}

/// Both programs on one interface; dropping it detaches them.
pub(super) struct Attached {
    _links: Vec<SchedClassifierLink>,
}

/// The loaded programs.
pub(super) struct Programs {
    ebpf: Ebpf,
    lanes: HashMap<MapData, [u8; 16], [u8; 24]>,
}

impl Programs {
    /// Loads them, or says why not.
    pub(super) fn load() -> Result<Self, String> {
        let failed = |error: &(dyn std::error::Error + 'static)| error_chain(error);
        // Nothing in the object depends on the kernel's own types.
        let mut ebpf = EbpfLoader::new().btf(None).load(OBJECT).map_err(|error| failed(&error))?;
        for (name, _) in PROGRAMS {
            let program = classifier(&mut ebpf, name)?;
            load_patiently(|| program.load(), number_of).map_err(|error| failed(&error))?;
        }
        let lanes = ebpf.take_map("probe_lanes").ok_or("the object holds no map of probe addresses")?;
        let lanes = HashMap::try_from(lanes).map_err(|error| failed(&error))?;
        Ok(Self { ebpf, lanes })
    }

    /// From now on a probe address leads to the VIP at that MAC.
    pub(super) fn lead(&mut self, alias: IpAddr, vip: IpAddr, mac: Mac) -> Result<(), String> {
        let mut lane = [0; 24];
        lane[..16].copy_from_slice(&Address::from(vip).octets());
        lane[16..22].copy_from_slice(&mac.0);
        let alias = Address::from(alias).octets();
        self.lanes.insert(alias, lane, 0).map_err(|error| error_chain(&error))
    }

    /// A probe address leads nowhere any more.
    pub(super) fn forget(&mut self, alias: IpAddr) {
        // It may never have led anywhere.
        let _ = self.lanes.remove(&Address::from(alias).octets());
    }

    /// Attaches both programs, first in line: what comes after sees packets as they are on the wire, or as they are for
    /// this host's sockets. What comes before could have questions leave as they are, and keep answers from us.
    pub(super) fn attach(
        &mut self,
        (interface, ifindex): (&str, u32),
        hook: Hook,
        netlink: &Netlink,
    ) -> Result<Attached, String> {
        hook.sweep(interface);
        if hook == Hook::Clsact {
            add_clsact((interface, ifindex), netlink)?;
        }
        let options = |place| match hook {
            Hook::Tcx => Ok(TcAttachOptions::TcxOrder(LinkOrder::first())),
            Hook::Clsact => {
                let priority = priority((interface, ifindex), place, netlink)?;
                Ok(TcAttachOptions::Netlink(NlOptions { priority, ..NlOptions::default() }))
            }
        };
        // Nothing is changed where one of them has no place.
        let options: Vec<TcAttachOptions> =
            PROGRAMS.iter().map(|(_, place)| options(*place)).collect::<Result<_, String>>()?;
        let mut links = Vec::new();
        for ((name, place), options) in PROGRAMS.into_iter().zip(options) {
            let program = classifier(&mut self.ebpf, name)?;
            let link = program.attach_with_options(interface, place, options);
            let link = link.and_then(|link| program.take_link(link)).map_err(|error| not_attached(&error))?;
            links.push(link);
        }
        Ok(Attached { _links: links })
    }

    /// Whether both are still first in line: others may have removed them, or come before.
    pub(super) fn are_first(
        &mut self,
        (interface, ifindex): (&str, u32),
        hook: Hook,
        netlink: &Netlink,
    ) -> bool {
        if hook == Hook::Clsact {
            // Who cannot look leaves it as it is.
            return PROGRAMS.into_iter().all(|(name, place)| {
                filters::list(netlink, ifindex, place)
                    .map_or(true, |filters| filters::is_first(&filters, name))
            });
        }
        PROGRAMS.into_iter().all(|(name, place)| {
            let id =
                classifier(&mut self.ebpf, name).ok().and_then(|program| Some(program.info().ok()?.id()));
            match SchedClassifier::query_tcx(interface, place) {
                Ok((_, programs)) => id.is_some() && programs.first().map(|program| program.id()) == id,
                // The same.
                Err(_) => true,
            }
        })
    }
}

#[cfg(test)]
impl Programs {
    /// One of them, to try it.
    pub(super) fn classifier(&mut self, name: &str) -> &mut SchedClassifier {
        classifier(&mut self.ebpf, name).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, String> {
    let program = ebpf.program_mut(name).ok_or_else(|| format!("the object holds no program {name}"))?;
    program.try_into().map_err(|error: ProgramError| error.to_string())
}

/// Adds the queueing discipline that filters hang on, unless there is one.
fn add_clsact((interface, ifindex): (&str, u32), netlink: &Netlink) -> Result<(), String> {
    match qdisc_add_clsact(interface) {
        Ok(()) => Ok(()),
        // Its place may have been taken by the other kind, where filters for what goes out would see what comes in.
        Err(error) if has_number(&error, libc::EEXIST) => match filters::discipline(netlink, ifindex) {
            Ok(Some(kind)) if kind != "clsact" => Err(format!(
                "the queueing discipline {kind} is there, which looks at nothing that goes out; put clsact in its place, \
                 which takes the same filters and more"
            )),
            _ => Ok(()),
        },
        Err(error) => Err(not_added(&error)),
    }
}

fn not_added(error: &TcError) -> String {
    let why = error_chain(error);
    match has_number(error, libc::ENOENT) {
        true => {
            format!("{why}: the kernel has no clsact; load its module sch_ingress (CONFIG_NET_SCH_INGRESS)")
        }
        false => why,
    }
}

fn not_attached(error: &ProgramError) -> String {
    let why = error_chain(error);
    match has_number(error, libc::ENOENT) {
        true => {
            format!("{why}: the kernel has no BPF filters; load their module cls_bpf (CONFIG_NET_CLS_BPF)")
        }
        false => why,
    }
}

/// The priority for one of ours.
fn priority(
    (interface, ifindex): (&str, u32),
    place: TcAttachType,
    netlink: &Netlink,
) -> Result<u16, String> {
    let way = if place == TcAttachType::Egress { "egress" } else { "ingress" };
    let filters = filters::list(netlink, ifindex, place)
        .map_err(|error| format!("look at the filters of {interface}: {error}"))?;
    filters::priority_before(&filters).map_err(|why| format!("tc {way}: {why}"))
}

/// Whether that error of the kernel is behind it.
fn has_number(error: &(dyn std::error::Error + 'static), number: i32) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error() == Some(number)) {
            return true;
        }
        next = cause.source();
    }
    false
}
