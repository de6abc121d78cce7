//! XDP programs on interfaces that are not this controller's: whose they are, and how they are detached.

use std::collections::BTreeMap;
use std::path::Path;

use aya::programs::loaded_programs;

use super::PROGRAM;
use super::error::OpenError;
use super::interfaces::pinned_links;
use super::links::xdp_states;
use super::pins::Pins;

/// A program that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignProgram {
    /// Its id, as `ip link` and bpftool show it.
    pub id: u32,
    /// Its name, where the kernel tells: only CAP_SYS_ADMIN may ask for a foreign program's.
    pub name: Option<String>,
    /// How to detach it.
    pub way_out: String,
}

impl ForeignProgram {
    /// What can be found out about program `id` on `interface`.
    pub(super) fn on(interface: &str, id: u32) -> ForeignProgram {
        let found = loaded_programs().filter_map(Result::ok).find(|info| info.id() == id);
        let known = found.as_ref().and_then(|info| info.name_as_str()).filter(|name| !name.is_empty());
        let way_out = match known {
            // `ip link` takes no program away from a link, and that is how pen attaches.
            Some(PROGRAM) => format!(
                "another pen put it there: `pen-ctl --bpffs DIR detach {interface}` with the directory of its pins \
                 detaches it"
            ),
            // iproute2's `xdp off` leaves a program in generic mode where the driver has a native one.
            _ => format!(
                "detach it with the tool that put it there, or with `ip link set dev {interface} xdp off` (`xdpgeneric \
                 off` where `ip link` shows xdpgeneric)"
            ),
        };
        ForeignProgram { id, name: known.map(str::to_owned), way_out }
    }
}

/// `XDP program 17 (xdp_filter)`.
impl std::fmt::Display for ForeignProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "XDP program {}", self.id)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

/// The programs on interfaces of this network namespace that no link pinned in `dir` runs, by interface.
///
/// # Errors
/// The kernel does not say, or the pins cannot be looked at.
pub fn foreign_programs(dir: &Path) -> Result<BTreeMap<String, ForeignProgram>, OpenError> {
    let states =
        xdp_states().map_err(|error| OpenError::from_io("look at the interfaces' XDP programs", &error))?;
    let ours = pinned_links(&Pins::new(dir))?;
    let foreign = states.iter().filter_map(|(index, state)| {
        let program = state.any_program()?;
        let is_ours = ours
            .iter()
            .any(|link| link.facts.ifindex == *index && state.mode_of(link.facts.program).is_some());
        (!is_ours).then(|| (state.name.clone(), ForeignProgram::on(&state.name, program)))
    });
    Ok(foreign.collect())
}
