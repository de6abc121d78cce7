//! The controller's Unix socket: made so that nobody can connect before its permissions stand, a dead
//! controller's replaced, a live one's left alone.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::platform;

/// The group whose members may read, where it exists.
const GROUP: &str = "pen";
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another controller answers there.
    #[error(
        "a controller already answers on {}{}; stop it first (pen-ctl stop), or give this one another --socket",
        .path.display(), .pid.map_or(String::new(), |pid| format!(" (pid {pid})"))
    )]
    Live {
        /// The socket.
        path: PathBuf,
        /// Its process, where the kernel tells.
        pid: Option<u32>,
    },
    /// Something else is in the way.
    #[error("{} exists and is not a socket; remove it, or give another --socket", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("make socket {}: {source}; give another --socket", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl SocketError {
    /// Another controller is in the way.
    pub fn is_live(&self) -> bool {
        matches!(self, SocketError::Live { .. })
    }
}

/// A listening socket whose file goes away with it, unless another controller has put its own there since.
pub struct BoundSocket {
    path: PathBuf,
    inode: u64,
}

impl BoundSocket {
    /// Makes the socket and its directory (0755), readable and writable by root and group `pen` (0660), or by
    /// our own user alone (0600) where there is no such group or we may not give it away.
    pub fn bind(path: &Path) -> Result<(BoundSocket, UnixListener), SocketError> {
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        make_directory(path).map_err(failed)?;
        make_way(path)?;
        let mode = |own: &Path| if give_to_group(own) { 0o660 } else { 0o600 };
        let listener = listen(path, mode).and_then(UnixListener::from_std).map_err(failed)?;
        let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
        Ok((BoundSocket { path: path.to_owned(), inode }, listener))
    }

    /// Makes a socket for our own user alone (0600), in place of whoever listened there before.
    pub fn replace(path: &Path) -> Result<(BoundSocket, UnixListener), SocketError> {
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        make_directory(path).map_err(failed)?;
        let listener = listen(path, |_| 0o600).and_then(UnixListener::from_std).map_err(failed)?;
        let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
        Ok((BoundSocket { path: path.to_owned(), inode }, listener))
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            // Left behind, it is replaced by the next controller: nothing is lost.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.exists() => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)
        }
        _ => Ok(()),
    }
}

/// Refuses a path where somebody answers or that is no socket.
fn make_way(path: &Path) -> Result<(), SocketError> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(stream) => Err(SocketError::Live { path: path.to_owned(), pid: platform::pid_of(&stream) }),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(source) => Err(SocketError::Io { path: path.to_owned(), source }),
    }
}

/// Binds under a name of our own, sets the permissions, listens, then takes the name: there is no moment in
/// which someone else can connect, nor one in which the name leads nowhere.
fn listen(path: &Path, mode: impl Fn(&Path) -> u32) -> io::Result<std::os::unix::net::UnixListener> {
    let mut own = path.as_os_str().to_owned();
    own.push(format!(".{}", std::process::id()));
    let own = PathBuf::from(own);
    let _ = fs::remove_file(&own);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(&own)?)?;
    let finish = || -> io::Result<()> {
        fs::set_permissions(&own, fs::Permissions::from_mode(mode(&own)))?;
        socket.listen(BACKLOG)?;
        fs::rename(&own, path)
    };
    if let Err(e) = finish() {
        let _ = fs::remove_file(&own);
        return Err(e);
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn give_to_group(path: &Path) -> bool {
    let Ok(groups) = fs::read_to_string("/etc/group") else { return false };
    let Some(gid) = group_id(&groups, GROUP) else { return false };
    give_to(path, gid)
}

/// Gives a file to a group; whether that could be done.
pub(super) fn give_to(path: &Path, gid: u32) -> bool {
    rustix::fs::chown(path, None::<Uid>, Some(Gid::from_raw(gid))).is_ok()
}

/// Finds a group's number in the text of `/etc/group` (group(5)).
fn group_id(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_controllers_socket_is_replaced_and_a_live_ones_refused_with_its_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/pen.sock");
        let (first, listener) = BoundSocket::bind(&path).unwrap();

        let refused = BoundSocket::bind(&path).err().unwrap().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");

        // What SIGKILL leaves behind: the file without a listener.
        drop(listener);
        std::mem::forget(first);
        assert!(path.exists());
        let (second, _listener) = BoundSocket::bind(&path).unwrap();
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn an_old_controller_leaves_its_successors_socket_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pen.sock");
        let (old, listener) = BoundSocket::bind(&path).unwrap();
        drop(listener);
        let (_new, _listener) = BoundSocket::bind(&path).unwrap();
        drop(old);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn nobody_but_the_group_may_connect() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pen.sock");
        let _bound = BoundSocket::bind(&path).unwrap();
        let meta = fs::metadata(&path).unwrap();
        let group = fs::read_to_string("/etc/group").ok().and_then(|text| group_id(&text, GROUP));
        let expected = if group == Some(meta.gid()) { 0o660 } else { 0o600 };
        assert_eq!(meta.permissions().mode() & 0o777, expected);
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pen.sock");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(BoundSocket::bind(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn groups_are_found_by_their_whole_name() {
        let groups = "root:x:0:\npenguins:x:7:\npen:x:1234:ann,bob\n";
        assert_eq!(group_id(groups, "pen"), Some(1234));
        assert_eq!(group_id("penguins:x:7:\n", "pen"), None);
        assert_eq!(group_id("pen:x\n", "pen"), None);
    }
}
