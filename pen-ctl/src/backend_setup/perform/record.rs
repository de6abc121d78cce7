//! What `--apply` changed, so that `--undo` takes back that and no more. It lasts as long as what it tells of: until
//! the machine starts again.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::{Change, Setting};
use crate::api::{ApiError, ErrorCode};
use crate::state::store::{Files, RealFiles};

/// Version of the layout.
const FORMAT: u32 = 1;
const FILE: &str = "backend-setup.json";
/// A new one with each start of the machine (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    format: u32,
    boot: String,
    /// Addresses that were added.
    pub(super) addresses: Vec<Added>,
    /// Settings that were changed, with what they were before the first time.
    pub(super) settings: Vec<Setting>,
}

/// An address that was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Added {
    pub(super) address: IpAddr,
    pub(super) interface: String,
}

/// The record's place.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
}

impl Place {
    pub(super) fn new(directory: &Path) -> Place {
        Place { directory: directory.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// What was recorded since the machine started; `None` if nothing was.
    ///
    /// # Errors
    /// The file is there but cannot be read, or makes no sense.
    pub(super) fn read(&self) -> Result<Option<Record>, ApiError> {
        let path = self.path();
        let failed = |why: String, hint: &str| {
            Err(ApiError::new(ErrorCode::Storage, format!("read {}: {why}", path.display()), hint))
        };
        let bytes = match RealFiles.read(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) => return failed(error.to_string(), "become root, or use another --state-dir"),
        };
        match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.format == FORMAT => Ok(Some(record).filter(|record| record.boot == boot())),
            Ok(record) => failed(
                format!("it has format {}, and this pen-ctl knows {FORMAT}", record.format),
                "use the pen-ctl that wrote it, or move it away",
            ),
            Err(error) => failed(error.to_string(), "move it away; what it tells of is then left as it is"),
        }
    }

    /// Makes a record durable; an empty one is removed.
    pub(super) fn write(&self, record: &Record) -> Result<(), ApiError> {
        let path = self.path();
        let write = || -> io::Result<()> {
            if record.addresses.is_empty() && record.settings.is_empty() {
                return match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                };
            }
            let text = serde_json::to_vec_pretty(&Record { format: FORMAT, boot: boot(), ..record.clone() })?;
            let new = self.directory.join(format!("{FILE}.new"));
            RealFiles.write(&new, &text)?;
            RealFiles.rename(&new, &path)?;
            RealFiles.sync_directory(&self.directory)
        };
        write().map_err(|error| {
            ApiError::new(
                ErrorCode::Storage,
                format!("write {}: {error}", path.display()),
                "free space or mend the disk, or use another --state-dir",
            )
        })
    }
}

impl Record {
    /// Notes a change that is about to be made; what a setting was before the first time stays.
    pub(super) fn note(&mut self, change: &Change) {
        match change {
            Change::Add { address, interface } => {
                self.forget(change);
                self.addresses.push(Added { address: *address, interface: interface.clone() });
            }
            Change::Set(setting) => {
                let known = self.settings.iter_mut().find(|kept| same(kept, setting));
                match known {
                    Some(known) => known.after = setting.after,
                    None => self.settings.push(setting.clone()),
                }
            }
            Change::Remove { .. } | Change::Restore(_) => {}
        }
    }

    /// Forgets what a change took back.
    pub(super) fn forget(&mut self, change: &Change) {
        match change {
            Change::Add { address, .. } | Change::Remove { address, .. } => {
                self.addresses.retain(|kept| kept.address != *address);
            }
            Change::Set(setting) | Change::Restore(setting) => {
                self.settings.retain(|kept| !same(kept, setting));
            }
        }
    }
}

fn same(one: &Setting, other: &Setting) -> bool {
    (&one.interface, one.key) == (&other.interface, other.key)
}

/// Which start of the machine this is.
fn boot() -> String {
    std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}
