//! Where things are pinned, whose the pins are, and how to remove them, with or without a controller.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData};
use pen_common::abi::{ABI_VERSION, Instance, MAGIC};

use super::error::OpenError;
use super::offload::finish_detaching;
use super::{locks, mapped, sys};
use crate::held_lock::HeldLock;

/// `BPF_FS_MAGIC` (linux/magic.h).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// Words of the instance record.
const INSTANCE_WORDS: usize = size_of::<Instance>() / 8;

/// Refuses pins that a controller is using, before anything is said of whose they are.
pub fn check_unused(dir: &Path) -> Result<(), OpenError> {
    match exists(dir)? {
        true => Pins::new(dir).lock().map(drop),
        false => Ok(()),
    }
}

/// Whose the pins in a directory are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// Nobody's: there are none, or leftovers without links, which the next start sweeps away.
    Nothing,
    /// An instance's, of our map ABI: they can be adopted.
    Instance {
        /// The id they share with the state they belong to.
        id: [u8; 16],
    },
    /// An instance's, of another map ABI.
    OtherAbi {
        /// Its version.
        version: u32,
        /// The id they share with the state they belong to.
        id: [u8; 16],
    },
    /// There are links, but no valid instance record.
    Unidentified,
}

/// Looks whose the pins in `dir` are; changes nothing. A directory that does not exist holds none.
pub fn inspect(dir: &Path) -> Result<Pinned, OpenError> {
    let pins = Pins::new(dir);
    if !exists(dir)? {
        return Ok(Pinned::Nothing);
    }
    pins.check_file_system()?;
    match pins.read_instance()? {
        Some(record) if record.magic != MAGIC => Ok(Pinned::Unidentified),
        Some(record) if record.abi_version != ABI_VERSION => {
            Ok(Pinned::OtherAbi { version: record.abi_version, id: record.id })
        }
        Some(record) => Ok(Pinned::Instance { id: record.id }),
        None if pins.links()?.is_empty() => Ok(Pinned::Nothing),
        None => Ok(Pinned::Unidentified),
    }
}

/// Refuses a directory that is not, or would not be, on a BPF file system.
pub fn check_bpffs(dir: &Path) -> Result<(), OpenError> {
    Pins::new(dir).check_file_system()
}

/// Detaches from every interface and removes all pins in `dir`, whoever made them. No controller may have them.
pub fn discard(dir: &Path) -> Result<(), OpenError> {
    let pins = Pins::new(dir);
    if !exists(dir)? {
        return Ok(());
    }
    pins.check_file_system()?;
    for trouble in detach_links(&pins, None)?.troubles {
        tracing::warn!("{trouble}");
    }
    // The record goes first: what is left if we are stopped half-way is then nobody's, and swept away.
    remove(&pins.instance())?;
    for part in ["progs", "maps", "links"] {
        for (_, path) in pins.list(part)? {
            remove(&path)?;
        }
        remove_dir(&dir.join(part))?;
    }
    remove_dir(dir)
}

/// What detaching by the pins came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetachedPins {
    /// The interfaces that were attached.
    pub names: Vec<String>,
    /// What could not be put back as it was before pen came, in words.
    pub troubles: Vec<String>,
}

/// Detaches from the named interfaces, or from all of them, by the pins alone; refused while a controller has them.
pub fn detach_pinned(dir: &Path, names: Option<&[String]>) -> Result<DetachedPins, OpenError> {
    let pins = Pins::new(dir);
    if !exists(dir)? {
        return Ok(DetachedPins::default());
    }
    pins.check_file_system()?;
    let _lock = pins.lock()?;
    detach_links(&pins, names)
}

/// The same for who has the pins already.
fn detach_links(pins: &Pins, names: Option<&[String]>) -> Result<DetachedPins, OpenError> {
    let mut detached = Vec::new();
    for (name, _) in pins.links()? {
        if names.is_none_or(|names| names.contains(&name)) && pins.detach(&name)? {
            detached.push(name);
        }
    }
    Ok(DetachedPins { names: detached, troubles: finish_detaching(pins) })
}

/// The layout of a pin directory.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
}

impl Pins {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The pin directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether there is a place for links.
    pub(super) fn has_links_dir(&self) -> bool {
        self.root.join("links").exists()
    }

    /// Takes the pin directory, which must exist, for one controller.
    pub(super) fn lock(&self) -> Result<HeldLock, OpenError> {
        let failed = |error: io::Error| OpenError::from_io(format!("lock {}", self.root.display()), &error);
        let file = File::open(&self.root).map_err(failed)?;
        HeldLock::take(file).map_err(|(file, error)| match error {
            TryLockError::WouldBlock => {
                OpenError::InUse { dir: self.root.clone(), pid: locks::holder(&file) }
            }
            TryLockError::Error(error) => failed(error),
        })
    }

    /// Pin of a map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    /// Pin of the instance record.
    pub(super) fn instance(&self) -> PathBuf {
        self.map("instance")
    }

    /// Pin of a service's slot tables.
    pub(super) fn slots(&self, service: u16) -> PathBuf {
        self.map(&format!("slots_{service}"))
    }

    /// Pin of the program.
    pub(super) fn program(&self) -> PathBuf {
        self.root.join("progs").join("xdp")
    }

    /// Where a program is pinned before it takes the other's place.
    pub(super) fn next_program(&self) -> PathBuf {
        self.root.join("progs").join("xdp_new")
    }

    /// Pin of the link to an interface.
    pub(super) fn link(&self, interface: &str) -> PathBuf {
        self.root.join("links").join(escape(interface))
    }

    /// Interfaces that have a link pin, whether it still leads anywhere or not.
    pub(super) fn links(&self) -> Result<Vec<(String, PathBuf)>, OpenError> {
        Ok(self.list("links")?.into_iter().map(|(name, path)| (unescape(&name), path)).collect())
    }

    /// Services that have a slot table pin.
    pub(super) fn slot_tables(&self) -> Result<Vec<u16>, OpenError> {
        let names = self.list("maps")?;
        Ok(names.iter().filter_map(|(name, _)| name.strip_prefix("slots_")?.parse().ok()).collect())
    }

    /// Refuses a directory that is not, or would not be, on a BPF file system.
    pub(super) fn check_file_system(&self) -> Result<(), OpenError> {
        let existing = self.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let found = rustix::fs::statfs(existing)
            .map_err(|error| OpenError::from_io(format!("look at {}", existing.display()), &error.into()))?;
        if found.f_type as u64 == BPF_FS_MAGIC {
            return Ok(());
        }
        let usual = Path::new("/sys/fs/bpf");
        let mount_point = if self.root.starts_with(usual) { usual } else { &self.root };
        Err(OpenError::NoBpffs { dir: self.root.clone(), mount_point: mount_point.to_owned() })
    }

    /// Makes the directories.
    pub(super) fn create(&self) -> Result<(), OpenError> {
        for part in ["progs", "maps", "links"] {
            let dir = self.root.join(part);
            fs::create_dir_all(&dir)
                .map_err(|error| OpenError::from_io(format!("create {}", dir.display()), &error))?;
        }
        Ok(())
    }

    /// Detaches from an interface; returns whether there was a pin.
    pub(super) fn detach(&self, interface: &str) -> Result<bool, OpenError> {
        let path = self.link(interface);
        let link = match sys::open_pin(&path) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(OpenError::from_io(format!("open {}", path.display()), &error)),
        };
        // A link whose interface is gone says ENOLINK: nothing to detach then.
        match sys::detach_link(link.as_fd()) {
            Err(error) if error.raw_os_error() != Some(libc::ENOLINK) => {
                return Err(OpenError::from_io(format!("detach XDP from {interface}"), &error));
            }
            _ => remove(&path)?,
        }
        Ok(true)
    }

    /// The instance record, if one is pinned.
    fn read_instance(&self) -> Result<Option<Instance>, OpenError> {
        let path = self.instance();
        if !exists(&path)? {
            return Ok(None);
        }
        let failed = |error: &(dyn std::error::Error + 'static)| {
            OpenError::from_aya(format!("read {}", path.display()), error)
        };
        let data = MapData::from_pin(&path).map_err(|error| failed(&error))?;
        let map = Map::from_map_data(data).map_err(|error| failed(&error))?;
        // A map of another shape is no record of ours: as if its magic were wrong.
        let Ok(array) = Array::<MapData, [u64; INSTANCE_WORDS]>::try_from(map) else {
            return Ok(Some(Instance::default()));
        };
        let words = array.get(&0, 0).map_err(|error| failed(&error))?;
        Ok(mapped::plain_from_words(&words))
    }

    /// Names and paths in one of the directories; none where it does not exist.
    fn list(&self, part: &str) -> Result<Vec<(String, PathBuf)>, OpenError> {
        let dir = self.root.join(part);
        let failed = |error: io::Error| OpenError::from_io(format!("read {}", dir.display()), &error);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if let Ok(name) = entry.file_name().into_string() {
                found.push((name, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Whether a directory is there; not being allowed to know is an error.
fn exists(dir: &Path) -> Result<bool, OpenError> {
    dir.try_exists().map_err(|error| OpenError::from_io(format!("look into {}", dir.display()), &error))
}

/// Removes a pin; one that is not there is fine.
pub(super) fn remove(path: &Path) -> Result<(), OpenError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(OpenError::from_io(format!("remove {}", path.display()), &error))
        }
        _ => Ok(()),
    }
}

/// Removes an empty directory; the mount point itself (busy) and what others keep in it stay.
fn remove_dir(dir: &Path) -> Result<(), OpenError> {
    match fs::remove_dir(dir) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(OpenError::from_io(format!("remove {}", dir.display()), &error))
        }
        _ => Ok(()),
    }
}

/// A name that bpffs takes (it refuses dots): `.` becomes `%2e`, `%` becomes `%25`.
fn escape(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

/// Undoes [`escape`].
fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::{escape, unescape};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_interface_has_a_pin_of_its_own_without_dots(name in "[a-z0-9.%]{1,15}") {
            prop_assert!(!escape(&name).contains('.'));
            prop_assert_eq!(unescape(&escape(&name)), name);
        }
    }
}
