//! A real file system that is full, or turned read-only.

use std::process::Command;

use super::*;

/// A file system of 64 KiB, mounted for as long as this lives.
struct Small(tempfile::TempDir);

impl Small {
    /// `None` where it cannot be mounted, and that may be.
    fn mount() -> Option<Small> {
        if !needs::met((!rustix::process::geteuid().is_root()).then_some("root")) {
            return None;
        }
        let small = Small(tempfile::tempdir().unwrap());
        small.mount_with(&["-t", "tmpfs", "-o", "size=64k,mode=0700", "none"]);
        Some(small)
    }

    fn mount_with(&self, words: &[&str]) {
        let output = Command::new("mount").args(words).arg(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filling");
        // Ends with the error that it is for.
        let error = std::fs::write(&path, vec![0; 128 << 10]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn on_a_full_or_read_only_file_system_changes_are_refused_and_the_rest_goes_on() {
    let Some(small) = Small::mount() else { return };
    let mut store = Store::open(small.0.path()).unwrap();
    store.replace(wanted(&store, "eth0")).unwrap();
    store.record(&Note { time: 1, user: None, cause: Cause::Changed }).unwrap();
    let held = store.desired().clone();

    let filling = small.fill();
    let error = store.replace(wanted(&store, "eth1")).unwrap_err().to_string();
    assert!(error.contains("No space left") && !error.contains('\n'), "{error}");
    assert_eq!((store.desired(), store.unsettled()), (&held, None));
    assert_eq!(Store::peek(small.0.path()).unwrap().as_ref().map(|(desired, _)| desired), Some(&held));
    assert_eq!(store.earlier(1).unwrap().desired, held);
    std::fs::remove_file(filling).unwrap();
    store.replace(wanted(&store, "eth1")).unwrap();

    let held = store.desired().clone();
    small.mount_with(&["-o", "remount,ro"]);
    let error = store.replace(wanted(&store, "eth2")).unwrap_err().to_string();
    assert!(error.contains("Read-only file system"), "{error}");
    assert_eq!(Store::peek(small.0.path()).unwrap().as_ref().map(|(desired, _)| desired), Some(&held));
    // A controller that is started now goes on from what is there, and keeps others away.
    drop(store);
    let mut store = Store::open(small.0.path()).unwrap();
    assert_eq!(store.desired(), &held);
    let error = store.replace(wanted(&store, "eth2")).unwrap_err().to_string();
    assert!(error.contains("Read-only file system"), "{error}");
    let error = Store::open(small.0.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    small.mount_with(&["-o", "remount,rw"]);
    store.replace(wanted(&store, "eth2")).unwrap();
    assert_eq!(
        Store::peek(small.0.path()).unwrap().as_ref().map(|(desired, _)| desired),
        Some(store.desired())
    );
}

#[test]
fn a_file_system_that_was_read_only_from_the_start_is_named_as_the_trouble() {
    let Some(small) = Small::mount() else { return };
    small.mount_with(&["-o", "remount,ro"]);
    let error = Store::open(small.0.path()).unwrap_err().to_string();
    assert!(error.contains("Read-only file system") && error.contains("mend the disk"), "{error}");
}
