//! A disk in memory that can fail at any step, and that knows what a power cut may leave of what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::super::Files;

/// What goes wrong, and at which step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// Counted from 0, over all operations.
    pub(super) at: u32,
    /// The error number that the step ends with.
    pub(super) errno: i32,
    /// Every step from there on ends so, as after a power cut or on a file system that turned read-only.
    pub(super) forever: bool,
    /// The step is done in spite of the error.
    pub(super) done: bool,
}

/// The disk; clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    inodes: Vec<Inode>,
    /// What was done to names, in order.
    log: Vec<Logged>,
    steps: u32,
    fault: Option<Fault>,
}

#[derive(Default)]
struct Inode {
    contents: Vec<u8>,
    synced: bool,
}

struct Logged {
    change: Change,
    /// Survives a power cut.
    settled: bool,
    /// A sync failed on it: the kernel takes it for clean, and no later sync writes it.
    lost: bool,
}

#[derive(Clone)]
enum Change {
    Directory(PathBuf),
    Name(PathBuf, usize),
    Removed(PathBuf),
    Renamed(PathBuf, PathBuf),
}

/// What is there: directories, and files by name.
#[derive(Clone, Default)]
struct Tree {
    directories: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, usize>,
}

/// The contents of a whole disk.
type Image = BTreeMap<PathBuf, Option<Vec<u8>>>;

impl Disk {
    /// Sets what goes wrong; steps count from 0 again.
    pub(super) fn set_fault(&self, fault: Option<Fault>) {
        let mut inner = self.0.lock().unwrap();
        (inner.fault, inner.steps) = (fault, 0);
    }

    /// Steps since the fault was last set.
    pub(super) fn steps(&self) -> u32 {
        self.0.lock().unwrap().steps
    }

    /// Each disk that a power cut now may leave: any of the names that were not synced, old or new; files that were not
    /// synced torn.
    pub(super) fn after_power_cut(&self) -> Vec<Disk> {
        let inner = self.0.lock().unwrap();
        let open: Vec<usize> = (0..inner.log.len()).filter(|index| !inner.log[*index].settled).collect();
        assert!(open.len() < 16, "too much is left unsynced to try each outcome");
        let mut images: BTreeSet<Image> = BTreeSet::new();
        for outcome in 0..1u32 << open.len() {
            let happened = |index: &usize| {
                let place = open.iter().position(|unsettled| unsettled == index);
                place.is_none_or(|place| outcome & (1 << place) != 0)
            };
            let tree = inner.tree((0..inner.log.len()).filter(happened));
            images.extend(inner.torn(&tree));
        }
        images.into_iter().map(Disk::holding).collect()
    }

    /// Puts a file there, as if long since.
    pub(super) fn put(&self, path: &Path, contents: &[u8]) {
        let mut inner = self.0.lock().unwrap();
        inner.inodes.push(Inode { contents: contents.to_owned(), synced: true });
        let change = Change::Name(path.to_owned(), inner.inodes.len() - 1);
        inner.log.push(Logged { change, settled: true, lost: false });
    }

    fn holding(image: Image) -> Disk {
        let disk = Disk::default();
        for (path, contents) in image {
            match contents {
                Some(contents) => disk.put(&path, &contents),
                None => disk.0.lock().unwrap().log.push(Logged {
                    change: Change::Directory(path),
                    settled: true,
                    lost: false,
                }),
            }
        }
        disk
    }
}

impl Inner {
    fn tree(&self, happened: impl Iterator<Item = usize>) -> Tree {
        let mut tree = Tree::default();
        // Renames carry the file along, whether or not its first name was ever written down.
        let mut bound: BTreeMap<&Path, usize> = BTreeMap::new();
        let happened: BTreeSet<usize> = happened.collect();
        for (index, logged) in self.log.iter().enumerate() {
            let counts = happened.contains(&index);
            match &logged.change {
                Change::Directory(path) if counts => {
                    tree.directories.insert(path.clone());
                }
                Change::Directory(_) => {}
                Change::Name(path, inode) => {
                    bound.insert(path, *inode);
                    if counts {
                        tree.files.insert(path.clone(), *inode);
                    }
                }
                Change::Removed(path) => {
                    bound.remove(path.as_path());
                    if counts {
                        tree.files.remove(path);
                    }
                }
                Change::Renamed(from, to) => {
                    let Some(inode) = bound.remove(from.as_path()) else { continue };
                    bound.insert(to, inode);
                    if counts {
                        tree.files.remove(from);
                        tree.files.insert(to.clone(), inode);
                    }
                }
            }
        }
        tree
    }

    fn now(&self) -> Tree {
        self.tree(0..self.log.len())
    }

    /// What a cut may leave of the contents: of an unsynced file nothing, a part, a part and zeros, or all. Where a name
    /// says that a file is not finished, fewer will do.
    fn torn(&self, tree: &Tree) -> Vec<Image> {
        let directories: Image = tree.directories.iter().map(|path| (path.clone(), None)).collect();
        let reachable = |path: &PathBuf| {
            let parent = path.parent().unwrap();
            tree.directories.contains(parent) || parent.extension().is_some_and(|root| root == "root")
        };
        let mut whole = directories;
        let files = tree.files.iter().filter(|(path, _)| reachable(path));
        whole.extend(
            files.clone().map(|(path, inode)| (path.clone(), Some(self.inodes[*inode].contents.clone()))),
        );
        let mut images = vec![whole.clone()];
        for (path, inode) in files.filter(|(_, inode)| !self.inodes[**inode].synced) {
            let contents = &self.inodes[*inode].contents;
            let unfinished = path.extension().is_some_and(|extension| extension == "new");
            let step = if unfinished { contents.len().max(2) / 2 } else { 1 };
            for length in (0..contents.len()).step_by(step) {
                let mut part = contents[..length].to_owned();
                images.push(whole.clone());
                images.last_mut().unwrap().insert(path.clone(), Some(part.clone()));
                part.resize(contents.len(), 0);
                images.push(whole.clone());
                images.last_mut().unwrap().insert(path.clone(), Some(part));
            }
        }
        images
    }

    /// One step: done, or failed as planned.
    fn step(&mut self, act: impl FnOnce(&mut Inner)) -> io::Result<()> {
        let number = self.steps;
        self.steps += 1;
        match self.fault {
            Some(fault) if number == fault.at || (fault.forever && number > fault.at) => {
                if fault.done && number == fault.at {
                    act(self);
                }
                Err(io::Error::from_raw_os_error(fault.errno))
            }
            _ => {
                act(self);
                Ok(())
            }
        }
    }

    fn log(&mut self, change: Change) {
        self.log.push(Logged { change, settled: false, lost: false });
    }
}

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let inner = self.0.lock().unwrap();
        Ok(inner.now().files.get(path).map(|inode| inner.inodes[*inode].contents.clone()))
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let tree = self.0.lock().unwrap().now();
        let within = tree.files.keys().filter(|path| path.parent() == Some(directory));
        Ok(within.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect())
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        if inner.now().directories.contains(path) {
            return Ok(());
        }
        inner.step(|inner| inner.log(Change::Directory(path.to_owned())))
    }

    fn write(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        self.remove(path)?;
        let mut inner = self.0.lock().unwrap();
        let inode = inner.inodes.len();
        inner.step(|inner| {
            inner.inodes.push(Inode::default());
            inner.log(Change::Name(path.to_owned(), inode));
        })?;
        // A full disk takes a part.
        inner.inodes[inode].contents = contents[..contents.len() / 3].to_owned();
        inner.step(|inner| inner.inodes[inode].contents = contents.to_owned())?;
        inner.step(|inner| inner.inodes[inode].synced = true)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        assert!(inner.now().files.contains_key(from), "{} is not there", from.display());
        inner.step(|inner| inner.log(Change::Renamed(from.to_owned(), to.to_owned())))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        if !inner.now().files.contains_key(path) {
            return Ok(());
        }
        inner.step(|inner| inner.log(Change::Removed(path.to_owned())))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        let here = |logged: &Logged| match &logged.change {
            Change::Directory(path)
            | Change::Name(path, _)
            | Change::Removed(path)
            | Change::Renamed(_, path) => path.parent() == Some(directory),
        };
        let synced = inner.step(|inner| {
            inner
                .log
                .iter_mut()
                .filter(|logged| here(logged) && !logged.lost)
                .for_each(|logged| logged.settled = true);
        });
        if synced.is_err() {
            let open = inner.log.iter_mut().filter(|logged| here(logged) && !logged.settled);
            open.for_each(|logged| logged.lost = true);
        }
        synced
    }
}
