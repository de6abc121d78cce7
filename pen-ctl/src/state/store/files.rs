//! The few file operations that durability is made of, one by one, so that tests can cut the power between them and
//! have each of them fail.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Bytes of a file at most, read or written: several times what as many backends as fit take, in a state and in the one
/// before a trial.
pub(super) const LARGEST: u64 = 256 << 20;

/// What the store asks of a file system.
pub trait Files: Send {
    /// The whole file; `None` where there is none.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// The names in a directory; none where there is no such directory.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory that only its owner may use; one that is there is no error.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes a file that only its owner may read, in place of one that is there, and returns once its contents would
    /// survive a power cut; its name need not.
    fn write(&self, path: &Path, contents: &[u8]) -> io::Result<()>;
    /// Replaces one name by another at once.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; one that is not there is no error.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Returns once the directory's names would survive a power cut.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug)]
pub struct RealFiles;

impl Files for RealFiles {
    /// Without waiting for a writer, as a FIFO would (open(2), `O_NONBLOCK`), and within bounds.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty()).map(File::from);
        let Some(mut file) = if_there(opened.map_err(io::Error::from))? else { return Ok(None) };
        let facts = file.metadata()?;
        if !facts.is_file() && !facts.is_dir() {
            return Err(io::Error::other("it is no regular file"));
        }
        if facts.len() > LARGEST {
            return Err(io::Error::other(format!("it has {} bytes, more than any state", facts.len())));
        }
        let mut contents = Vec::new();
        file.read_to_end(&mut contents)?;
        Ok(Some(contents))
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let entries = if_there(std::fs::read_dir(directory))?.into_iter().flatten();
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Through one descriptor: an error of writing back, later than the write itself, is told to those who had the file
    /// open then. A file whose sync failed must not be synced again but made anew: the kernel may have dropped what it
    /// could not write and take the rest for clean (fsync(2)).
    fn write(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        self.remove(path)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(contents)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if_there(std::fs::remove_file(path)).map(drop)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What replacing a file came to when it failed.
#[derive(Debug)]
pub(super) struct NotPut {
    pub(super) source: io::Error,
    /// The file may be the new one, for now or for good.
    pub(super) unsure: bool,
}

/// Replaces a file: write aside, sync, rename, sync the directory. After each step the file is the old or the new one,
/// whole, and once this returns it is the new one whatever happens.
pub(super) fn put(files: &dyn Files, directory: &Path, name: &str, contents: &[u8]) -> Result<(), NotPut> {
    let (path, aside) = (directory.join(name), directory.join(format!("{name}.new")));
    if let Err(source) = files.write(&aside, contents) {
        // What is half there takes room that others may need; if it stays, the next write begins with it.
        let _ = files.remove(&aside);
        return Err(NotPut { source, unsure: false });
    }
    let renamed = files.rename(&aside, &path).and_then(|()| files.sync_directory(directory));
    renamed.map_err(|source| NotPut { source, unsure: true })
}
