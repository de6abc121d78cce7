//! Whether the controller's own file still is what was applied: asked at every look, so it is read only when it may have
//! changed.

use std::cell::RefCell;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Controller;
use crate::config::{self, Config, ConfigError};
use crate::dataplane::Kind;

/// A file that was written within so long may be written again without looking other: clocks of file systems have steps.
const UNSETTLED: Duration = Duration::from_secs(2);

/// What was found in the file, and which file that was.
#[derive(Debug, Default)]
pub(super) struct OwnFile(RefCell<Option<(Stamp, Found)>>);

/// What differs whenever the contents do, once they are [`UNSETTLED`] no more.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Nobody can set this one.
    changed: (i64, i64),
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    /// Of its text; `None` where there is none to be read.
    digest: Option<String>,
    /// Why it cannot be applied.
    wrong: Option<ConfigError>,
}

impl OwnFile {
    fn look(&self, path: &Path, kind: Kind) -> Found {
        let file = std::fs::metadata(path).ok();
        self.know(file.and_then(|file| Stamp::at(&file, SystemTime::now())), path, kind)
    }

    /// What is known of the file with this stamp, or else found in it.
    fn know(&self, stamp: Option<Stamp>, path: &Path, kind: Kind) -> Found {
        let mut known = self.0.borrow_mut();
        if let Some((_, found)) = known.as_ref().filter(|(known, _)| Some(known) == stamp.as_ref()) {
            return found.clone();
        }
        let found = Found::read(path, kind);
        *known = stamp.map(|stamp| (stamp, found.clone()));
        found
    }
}

impl Stamp {
    /// `None` if it is unsettled at that time.
    fn at(file: &Metadata, now: SystemTime) -> Option<Stamp> {
        let since_epoch = Duration::from_secs(file.ctime().try_into().ok()?);
        let changed = SystemTime::UNIX_EPOCH.checked_add(since_epoch)?;
        now.duration_since(changed).ok().filter(|since| *since > UNSETTLED)?;
        Some(Stamp {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

impl Found {
    fn read(path: &Path, kind: Kind) -> Found {
        match config::read(path) {
            Ok(text) => Found {
                digest: Some(config::digest(&text)),
                wrong: Config::parse_for(&path.display().to_string(), &text, Some(kind)).err(),
            },
            Err(error) => Found { digest: None, wrong: Some(error) },
        }
    }
}

impl Controller {
    /// Whether the controller's own file is other than the one applied last.
    pub(super) fn file_differs(&self) -> bool {
        let Some(path) = &self.options.file else { return false };
        let Found { digest, .. } = self.own_file.look(path, self.kind());
        digest.is_none() || digest.as_deref() != self.store.applied()
    }

    /// What to say of the controller's own file if it is other than the one applied last: what SIGHUP would do.
    pub(super) fn file_warning(&self) -> Option<String> {
        let path = self.options.file.as_ref()?;
        let name = path.display();
        match self.own_file.look(path, self.kind()) {
            Found { wrong: Some(error), .. } => {
                Some(format!("{error}; it cannot be applied so, what runs stays as it is"))
            }
            Found { digest, .. } if digest.as_deref() == self.store.applied() => None,
            Found { digest, .. } if digest.as_deref() == self.store.taken_back() => Some(format!(
                "{name} was applied and taken back since; a start does not apply it again, SIGHUP or `pen-ctl apply` does"
            )),
            Found { .. } => Some(format!(
                "{name} is not what was last applied; SIGHUP to the controller or its next start applies it, what was asked \
                 at run time stands until then"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_when_it_may_have_changed_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pen.toml");
        let own = OwnFile::default();
        let remembered = || own.0.borrow().is_some();
        let digest = || own.look(&path, Kind::Xdp).digest;
        assert_eq!(digest(), None);

        // Written a moment ago: what is found is not relied on, so that another text of the same length is noticed.
        for text in ["seed = '1'\n", "seed = '2'\n"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(digest(), Some(config::digest(text)));
            assert!(!remembered());
        }
        // As if some time had gone by since: the time of change cannot be set, the stamp can.
        let stamp = |file: &Metadata| Stamp::at(file, SystemTime::now() + 2 * UNSETTLED);
        let found = Found { digest: Some("as it was".into()), wrong: None };
        let settled = stamp(&std::fs::metadata(&path).unwrap()).unwrap();
        assert!(own.know(Some(settled.clone()), &path, Kind::Xdp) != found);
        own.0.replace(Some((settled.clone(), found.clone())));
        assert_eq!(own.know(Some(settled), &path, Kind::Xdp), found, "not read again");
        std::fs::write(&path, "seed = '12'\n").unwrap();
        let other = stamp(&std::fs::metadata(&path).unwrap());
        assert_eq!(own.know(other, &path, Kind::Xdp).digest, Some(config::digest("seed = '12'\n")));
    }
}
