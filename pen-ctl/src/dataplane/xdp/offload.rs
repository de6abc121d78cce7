//! VLAN tags stay on frames while pen is attached: what takes them off in the card (`rx-vlan-offload`) is turned off,
//! and on again afterwards.
//!
//! XDP does not see a tag that the card took off: a tagged frame looks like an untagged one, and would be forwarded
//! into another VLAN. What was on is recorded in the directory before it is turned off, and forgotten only after it is
//! on again, so that whoever comes after a controller that was killed in between knows what is left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::offset_of;
use std::sync::atomic::Ordering;

use pen_common::abi::{
    Directory, DirectoryHalf, Interface, MAC_MASK, MAX_INTERFACES, interface_flags::STRIPPED,
};
use pen_common::mac;

use super::features::{Stripping, ethtool_command, set_stripping, stripping};
use super::interfaces::pinned_links;
use super::links::{XdpState, xdp_states};
use super::mapped::Mapped;
use super::maps::{self, active_half, half_cells};
use super::pins::{Pinned, Pins, inspect};
use super::{XdpPlane, directory};
use crate::dataplane::InterfaceTarget;

/// What goes wrong on an interface that takes tags off.
const LEAK: &str = "pen takes tagged frames for untagged ones and would forward them into another VLAN";

impl XdpPlane {
    /// The directory's record of an interface.
    pub(super) fn record_of(&self, target: &InterfaceTarget) -> Interface {
        directory::interface_of(target, self.stripped.get(&target.ifindex).copied().unwrap_or_default())
    }

    /// Takes note of the tags that an interface takes off and need not; gives them. To be written into the directory
    /// before [`Self::leave_tags_on`].
    pub(super) fn note_stripping(&mut self, ifindex: u32) -> u64 {
        // What cannot be asked is told by [`stripping_seen`].
        let found = stripping(ifindex).unwrap_or_default();
        let tags = found.on & found.changeable;
        if tags != 0 {
            *self.stripped.entry(ifindex).or_default() |= tags;
        }
        tags
    }

    /// Has an interface leave these tags on frames.
    pub(super) fn leave_tags_on(&self, name: &str, ifindex: u32, tags: u64) {
        if tags == 0 {
            return;
        }
        match set_stripping(ifindex, tags, false) {
            Ok(()) => tracing::info!(
                interface = name,
                "`{}`: XDP would not see VLAN tags; undone when pen detaches",
                ethtool_command(name, tags, "off")
            ),
            // What this leads to is told by [`stripping_seen`].
            Err(error) => tracing::debug!(interface = name, "turn rx-vlan-offload off: {error}"),
        }
    }

    /// Has an interface that we left take tags off again, as it did before we came.
    pub(super) fn take_tags_again(&mut self, name: &str, ifindex: u32) {
        let Some(tags) = self.stripped.remove(&ifindex).filter(|tags| *tags != 0) else { return };
        if let Err(error) = put_back(name, ifindex, tags) {
            tracing::warn!("{error}");
        }
    }

    /// Finishes for interfaces without a link of ours what a predecessor left half done.
    pub(super) fn finish_detaching(&self, states: &BTreeMap<u32, XdpState>, attached: &BTreeSet<u32>) {
        for trouble in finish(&self.maps.directory, states, attached) {
            tracing::warn!("{trouble}");
        }
    }
}

/// Whether an interface leaves on all tags that it can be told to leave on; and in words what is wrong with the others.
pub(super) fn stripping_seen(name: &str, ifindex: u32) -> (bool, Option<String>) {
    judge(name, stripping(ifindex))
}

fn judge(name: &str, found: io::Result<Stripping>) -> (bool, Option<String>) {
    match found {
        Ok(found) if found.on == 0 => (true, None),
        Ok(found) if found.on & found.changeable != 0 => {
            let command = ethtool_command(name, found.on & found.changeable, "off");
            let why = "its card takes VLAN tags off frames, and turning that off fails";
            (false, Some(format!("{why}: {LEAK}; try `{command}`")))
        }
        Ok(_) => {
            let why = "its card takes VLAN tags off frames (rx-vlan-offload) and cannot be told not to";
            (true, Some(format!("{why}: {LEAK}; keep VLANs away from it, or use another card")))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => (true, None),
        Err(error) => {
            let command = ethtool_command(name, STRIPPED, "off");
            let why = format!("whether its card takes VLAN tags off frames cannot be found out ({error})");
            (true, Some(format!("{why}; if it does, {LEAK}: make sure with `{command}`")))
        }
    }
}

/// The same by the pins alone, after links were detached; gives in words what could not be done.
pub(super) fn finish_detaching(pins: &Pins) -> Vec<String> {
    // Pins of another map ABI may record it elsewhere, or nothing of the kind.
    if !matches!(inspect(pins.root()), Ok(Pinned::Instance { .. })) {
        return Vec::new();
    }
    let done = || -> Result<Vec<String>, String> {
        let Some(directory) = maps::pinned_directory(pins).map_err(|error| error.to_string())? else {
            return Ok(Vec::new());
        };
        let states = xdp_states().map_err(|error| error.to_string())?;
        let links = pinned_links(pins).map_err(|error| error.to_string())?;
        let attached = links.iter().filter(|link| link.mode(&states).is_some());
        let attached = attached.map(|link| link.facts.ifindex).collect();
        Ok(finish(&directory, &states, &attached))
    };
    done().unwrap_or_else(|error| vec![format!("look which interfaces had rx-vlan-offload on: {error}")])
}

/// Has each interface with a record but without a link take tags off again, and forgets that it did.
fn finish(
    directory: &Mapped<Directory>,
    states: &BTreeMap<u32, XdpState>,
    attached: &BTreeSet<u32>,
) -> Vec<String> {
    let cells = half_cells(directory, active_half(directory));
    let first = offset_of!(DirectoryHalf, interfaces) / 8;
    let mut troubles = Vec::new();
    for record in
        cells[first.min(cells.len())..].chunks_exact(size_of::<Interface>() / 8).take(MAX_INTERFACES)
    {
        let word = record[offset_of!(Interface, word) / 8].load(Ordering::Acquire);
        let ifindex = record[offset_of!(Interface, ifindex) / 8].load(Ordering::Acquire) as u32;
        if word & STRIPPED == 0 || attached.contains(&ifindex) {
            continue;
        }
        // Another interface by now, or another network namespace: not ours to switch.
        let ours = |state: &&XdpState| state.mac.is_some_and(|now| mac::word(now.0) == word & MAC_MASK);
        if let Some(state) = states.get(&ifindex).filter(ours) {
            troubles.extend(put_back(&state.name, ifindex, word & STRIPPED).err());
        }
        record[offset_of!(Interface, word) / 8].fetch_and(!STRIPPED, Ordering::SeqCst);
    }
    troubles
}

/// Has an interface take these tags off; one that is gone is fine.
fn put_back(name: &str, ifindex: u32, tags: u64) -> Result<(), String> {
    match set_stripping(ifindex, tags, true) {
        Ok(()) => {
            tracing::info!(
                interface = name,
                "`{}`: as it was before pen came",
                ethtool_command(name, tags, "on")
            );
            Ok(())
        }
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        Err(error) => Err(again_by_hand(name, tags, &error)),
    }
}

fn again_by_hand(name: &str, tags: u64, error: &io::Error) -> String {
    let command = ethtool_command(name, tags, "on");
    format!("rx-vlan-offload of {name} stays off: {error}; it was on before pen came: `{command}`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pen_common::abi::interface_flags::{STRIPPED_C_TAGS, STRIPPED_S_TAGS};

    fn judged(on: u64, changeable: u64) -> (bool, Option<String>) {
        judge("eth0", Ok(Stripping { on, changeable }))
    }

    #[test]
    fn what_cannot_be_turned_off_is_told_and_what_can_is_mended() {
        assert_eq!(judged(0, STRIPPED), (true, None));
        let (intact, trouble) = judged(STRIPPED_C_TAGS, STRIPPED_S_TAGS);
        assert!(intact, "there is nothing to mend");
        assert!(
            trouble
                .is_some_and(|why| why.contains("cannot be told not to") && why.contains("use another card"))
        );
        let (intact, trouble) = judged(STRIPPED, STRIPPED);
        assert!(!intact);
        let command = "try `ethtool -K eth0 rxvlan off rx-vlan-stag-hw-parse off`";
        assert!(trouble.is_some_and(|why| why.contains(command)));
    }

    #[test]
    fn a_kernel_that_cannot_be_asked_is_a_trouble_but_an_interface_that_is_gone_is_none() {
        let (intact, trouble) = judge("eth0", Err(io::ErrorKind::NotFound.into()));
        assert!(
            intact && trouble.is_some_and(|why| why.contains("make sure with `ethtool -K eth0 rxvlan off"))
        );
        assert_eq!(judge("eth0", Err(io::Error::from_raw_os_error(libc::ENODEV))), (true, None));
    }
}
