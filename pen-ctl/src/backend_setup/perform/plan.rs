//! What `--apply` and `--undo` will do, decided from what the machine is like and what was recorded. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::api::{ApiError, ErrorCode};
use crate::backend_setup::{Outcome, Setup, StepDocument, host_length};

/// The directory of the settings that hold for every interface.
const ALL: &str = "all";

/// What matters of a machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    /// Settings by their directory under `net.ipv4.conf`: `all`, `default`, interfaces.
    pub(super) arp: BTreeMap<String, Arp>,
    /// Its addresses.
    pub(super) addresses: Vec<Owned>,
}

/// `arp_ignore` and `arp_announce` of one directory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arp {
    pub(super) ignore: u32,
    pub(super) announce: u32,
}

/// An address and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
    pub(super) interface: String,
    /// Nobody is answered on that interface: it is `lo` or a dummy.
    pub(super) silent: bool,
}

/// Which of the two settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Key {
    ArpIgnore,
    ArpAnnounce,
}

impl Key {
    /// Name of its file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Key::ArpIgnore => "arp_ignore",
            Key::ArpAnnounce => "arp_announce",
        }
    }

    fn of(self, arp: Arp) -> u32 {
        match self {
            Key::ArpIgnore => arp.ignore,
            Key::ArpAnnounce => arp.announce,
        }
    }

    /// Whether this value, the greater of `all` and the interface's own, keeps a VIP on `lo` secret. `arp_ignore`: 1
    /// and 2 answer for the interface's own addresses only, 8 for none; 3 does answer for `lo`, 4 to 7 mean nothing.
    fn does(self, value: u32) -> bool {
        match self {
            Key::ArpIgnore => matches!(value, 1 | 2 | 8),
            Key::ArpAnnounce => value >= 2,
        }
    }

    fn needed(self) -> u32 {
        match self {
            Key::ArpIgnore => 1,
            Key::ArpAnnounce => 2,
        }
    }
}

/// A setting and the values it had and gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setting {
    /// `all`, or an interface.
    pub(super) interface: String,
    pub(super) key: Key,
    pub(super) before: u32,
    pub(super) after: u32,
}

/// As sysctl(8) writes it: a dot in an interface's name becomes a slash.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net.ipv4.conf.{}.{}", self.interface.replace('.', "/"), self.key.name())
    }
}

/// One change to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Sets a setting to its `after`.
    Set(Setting),
    /// Sets a setting to its `before`.
    Restore(Setting),
    Add {
        address: IpAddr,
        interface: String,
    },
    Remove {
        address: IpAddr,
        interface: String,
    },
}

/// A change, or none, and what to say once it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) change: Option<Change>,
    /// What need not be remembered any more after this step of an undo.
    pub(super) settled: Option<Change>,
    pub(super) document: StepDocument,
}

impl Step {
    fn new(change: Option<Change>, outcome: Outcome, what: String, detail: impl Into<String>) -> Step {
        Step { change, settled: None, document: StepDocument { outcome, what, detail: detail.into() } }
    }

    fn settles(self, settled: Change) -> Step {
        Step { settled: Some(settled), ..self }
    }
}

fn at(address: IpAddr, interface: &str) -> String {
    format!("{address}/{} on {interface}", host_length(address))
}

/// What is to be done so that the machine owns the VIPs: settings first, so that no VIP is ever answered for.
///
/// # Errors
/// A VIP is where it would be answered for, or in the way.
pub(super) fn apply(setup: &Setup, machine: &Machine) -> Result<Vec<Step>, ApiError> {
    let mut steps = Vec::new();
    if setup.has_v4() {
        steps.extend([Key::ArpIgnore, Key::ArpAnnounce].into_iter().flat_map(|key| settings(key, machine)));
    }
    for &vip in &setup.vips {
        let what = at(vip, &setup.interface);
        steps.push(match place(vip, setup, machine)? {
            Place::Nowhere => {
                let change = Change::Add { address: vip, interface: setup.interface.clone() };
                Step::new(Some(change), Outcome::Added, what, "")
            }
            Place::There => Step::new(None, Outcome::Already, what, ""),
        });
    }
    Ok(steps)
}

/// The settings that must change for one key, or `all` as it is.
fn settings(key: Key, machine: &Machine) -> Vec<Step> {
    let value = |name: &str| key.of(machine.arp.get(name).copied().unwrap_or_default());
    let set = |name: &str| {
        let (before, after) = (value(name), key.needed());
        let setting = Setting { interface: name.to_owned(), key, before, after };
        let what = format!("{setting} = {after}");
        Step::new(Some(Change::Set(setting)), Outcome::Set, what, format!("was {before}"))
    };
    let all = if key.does(value(ALL)) { value(ALL) } else { key.needed() };
    let mut steps = Vec::new();
    match key.does(value(ALL)) {
        true => {
            let setting = Setting { interface: ALL.to_owned(), key, before: all, after: all };
            steps.push(Step::new(None, Outcome::Already, format!("{setting} = {all}"), ""));
        }
        false => steps.push(set(ALL)),
    }
    // An interface whose own, greater value undoes what `all` says.
    let others = machine.arp.keys().filter(|name| *name != ALL);
    steps.extend(others.filter(|name| !key.does(value(name).max(all))).map(|name| set(name)));
    steps
}

/// Where a VIP is, if it is where it may be.
enum Place {
    Nowhere,
    There,
}

fn place(vip: IpAddr, setup: &Setup, machine: &Machine) -> Result<Place, ApiError> {
    let mut place = Place::Nowhere;
    for owned in machine.addresses.iter().filter(|owned| owned.address == vip) {
        let Owned { prefix, interface, silent, .. } = owned;
        let refuse = |what: String, hint: String| Err(ApiError::new(ErrorCode::Refused, what, hint));
        let take_away = format!("take it away first: ip address del {vip}/{prefix} dev {interface}");
        if !silent {
            return refuse(
                format!("VIP {vip} is on {interface} of this machine, which tells the link that it is here"),
                take_away,
            );
        }
        if *interface != setup.interface {
            return refuse(
                format!("VIP {vip} is on {interface} of this machine, not on {}", setup.interface),
                format!("use --interface {interface}, or {take_away}"),
            );
        }
        if *prefix != host_length(vip) {
            return refuse(
                format!("{interface} has {vip}/{prefix}, which makes that whole network local"),
                take_away,
            );
        }
        place = Place::There;
    }
    Ok(place)
}

/// Refuses VIPs that are where they would be answered for, or in the way.
pub(super) fn check_places(setup: &Setup, machine: &Machine) -> Result<(), ApiError> {
    setup.vips.iter().try_for_each(|vip| place(*vip, setup, machine).map(drop))
}

/// What is to be taken back: of these VIPs, or of all that were recorded. Addresses first, so that no VIP is
/// answered for at the end. `known` = something was recorded since the machine started.
pub(super) fn undo(
    vips: &[IpAddr],
    interface: &str,
    record: &Record,
    known: bool,
    machine: &Machine,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let wanted: Vec<IpAddr> = match vips {
        [] => record.addresses.iter().map(|kept| kept.address).collect(),
        vips => vips.to_vec(),
    };
    for &vip in &wanted {
        let kept = record.addresses.iter().find(|kept| kept.address == vip);
        let interface = kept.map_or(interface, |kept| &kept.interface);
        let there =
            machine.addresses.iter().any(|owned| owned.address == vip && owned.interface == interface);
        let what = at(vip, interface);
        let remove = Change::Remove { address: vip, interface: interface.to_owned() };
        steps.push(match (kept, there) {
            (Some(_), true) => Step::new(Some(remove.clone()), Outcome::Removed, what, "").settles(remove),
            (None, true) => Step::new(
                None,
                Outcome::Left,
                what.clone(),
                format!(
                    "there is no record that --apply put it there; ip address del {vip}/{} dev {interface} takes it away",
                    host_length(vip)
                ),
            ),
            (_, false) => Step::new(None, Outcome::Already, format!("no {what}"), "").settles(remove),
        });
    }
    steps.extend(undo_settings(&wanted, record, known, machine));
    steps
}

/// The settings go back when the last IPv4 VIP does.
fn undo_settings(gone: &[IpAddr], record: &Record, known: bool, machine: &Machine) -> Vec<Step> {
    if !gone.iter().any(IpAddr::is_ipv4) && !gone.is_empty() {
        return Vec::new();
    }
    let taken = |address: &IpAddr| {
        gone.contains(address) && record.addresses.iter().any(|kept| kept.address == *address)
    };
    let stays = machine.addresses.iter().find(|owned| {
        owned.silent && owned.address.is_ipv4() && !owned.address.is_loopback() && !taken(&owned.address)
    });
    let now = |setting: &Setting| machine.arp.get(&setting.interface).map(|arp| setting.key.of(*arp));
    let left = |setting: &Setting, value: u32, why: String| {
        Step::new(None, Outcome::Left, format!("{setting} = {value}"), why)
    };
    if !known {
        let unknown = [Key::ArpIgnore, Key::ArpAnnounce].map(|key| {
            let setting = Setting { interface: ALL.to_owned(), key, before: 0, after: 0 };
            let value = now(&setting).unwrap_or_default();
            left(&setting, value, "there is no record of what it was before".to_owned())
        });
        return unknown.into_iter().filter(|step| !step.document.what.ends_with("= 0")).collect();
    }
    let restore = |setting: &Setting| {
        let restore = Change::Restore(setting.clone());
        match (now(setting), stays) {
            (None, _) => {
                let what = format!("no {setting}: the interface is gone");
                Step::new(None, Outcome::Already, what, "").settles(restore)
            }
            (Some(value), Some(owned)) => {
                left(setting, value, format!("{} on {} needs it", owned.address, owned.interface))
            }
            (Some(value), None) if value == setting.after => {
                let what = format!("{setting} = {}", setting.before);
                let was = format!("was {value}");
                Step::new(Some(restore.clone()), Outcome::Restored, what, was).settles(restore)
            }
            (Some(value), None) => {
                let why = format!("somebody changed it since --apply set it to {}", setting.after);
                left(setting, value, why).settles(restore)
            }
        }
    };
    record.settings.iter().map(restore).collect()
}

#[cfg(test)]
mod tests;
