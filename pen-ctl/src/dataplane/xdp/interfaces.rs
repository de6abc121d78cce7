//! Interfaces: attaching, following what changes about them, detaching. Someone else's program is never replaced.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::programs::Program;

use super::error::OpenError;
use super::foreign::ForeignProgram;
use super::links::{XdpState, xdp_states};
use super::pins::{Pins, remove};
use super::sys::{self, LinkFacts, LinkMode};
use super::{PROGRAM, XdpPlane, failure, failure_with_hint};
use crate::dataplane::{AttachMode, DataPlaneError, InterfaceTarget};

/// A pinned link, open.
pub(super) struct PinnedLink {
    pub(super) interface: String,
    pub(super) facts: LinkFacts,
    pub(super) fd: OwnedFd,
}

impl PinnedLink {
    /// How it is attached to an interface of this network namespace; `None` = not any more: the interface was
    /// deleted or moved away, or someone detached the link.
    pub(super) fn mode(&self, states: &BTreeMap<u32, XdpState>) -> Option<AttachMode> {
        states.get(&self.facts.ifindex)?.mode_of(self.facts.program)
    }
}

/// Whether links are pinned in `dir`: only then packets may be forwarded by these pins.
///
/// # Errors
/// The directory cannot be read.
pub fn has_links(dir: &Path) -> Result<bool, OpenError> {
    Ok(!Pins::new(dir).links()?.is_empty())
}

/// All pinned links.
pub(super) fn pinned_links(pins: &Pins) -> Result<Vec<PinnedLink>, OpenError> {
    let mut links = Vec::new();
    for (interface, path) in pins.links()? {
        let failed = |error: io::Error| OpenError::from_io(format!("look at {}", path.display()), &error);
        let fd = sys::open_pin(&path).map_err(failed)?;
        let facts = sys::link_facts(fd.as_fd()).map_err(failed)?;
        links.push(PinnedLink { interface, facts, fd });
    }
    Ok(links)
}

impl XdpPlane {
    /// Attaches to an interface, or records what changed about it. On error nothing is changed.
    pub(super) fn attach(&mut self, name: &str, target: &InterfaceTarget) -> Result<(), DataPlaneError> {
        let what = || format!("attach XDP to {name}");
        let states = xdp_states().map_err(|error| failure(what(), error))?;
        let Some(state) = states.get(&target.ifindex).filter(|state| state.name == name) else {
            return Err(failure_with_hint(
                what(),
                "there is no such interface",
                "`ip link` lists those there are",
            ));
        };
        let attached = self.find_link(name, target, state).map_err(|error| failure(what(), error))?;
        if attached.is_none()
            && let Some(program) = self.others_program(name, target.ifindex, state)
        {
            return Err(occupied(what(), name, program));
        }
        let before = (self.interfaces.clone(), self.stripped.clone());
        // A renamed interface is one all the same.
        self.interfaces.retain(|_, other| other.ifindex != target.ifindex);
        self.interfaces.insert(name.to_owned(), target.clone());
        // So is one that was made anew under its name.
        self.stripped.retain(|ifindex, _| self.interfaces.values().any(|known| known.ifindex == *ifindex));
        let tags = self.note_stripping(target.ifindex);
        // The record comes first, so that the first packet finds it, and whoever has to finish this.
        let done = self.write_directory().map_err(|error| failure(what(), error)).and_then(|()| {
            self.leave_tags_on(name, target.ifindex, tags);
            if attached.is_some() { Ok(()) } else { self.link(name, target) }
        });
        if done.is_err() {
            if attached.is_none() {
                self.take_tags_again(name, target.ifindex);
            }
            (self.interfaces, self.stripped) = before;
            self.write_directory().map_err(|error| failure(what(), error))?;
            return done;
        }
        self.open_egress(name, target.ifindex);
        Ok(())
    }

    /// Detaches from an interface; one that is not attached is fine.
    pub(super) fn detach(&mut self, name: &str) -> Result<(), DataPlaneError> {
        let what = || format!("detach XDP from {name}");
        self.pins.detach(name).map_err(|error| failure(what(), error))?;
        if let Some(target) = self.interfaces.remove(name) {
            self.close_egress(target.ifindex);
            self.take_tags_again(name, target.ifindex);
        }
        self.write_directory().map_err(|error| failure(what(), error))
    }

    /// Our link on this interface, in a mode that fits, running our program: `None` = attach anew. A link under
    /// the interface's former name is renamed.
    fn find_link(
        &self,
        name: &str,
        target: &InterfaceTarget,
        state: &XdpState,
    ) -> Result<Option<AttachMode>, OpenError> {
        for link in pinned_links(&self.pins)? {
            let mode = state.mode_of(link.facts.program).filter(|_| link.facts.ifindex == target.ifindex);
            let Some(mode) = mode.filter(|mode| target.mode == AttachMode::Auto || target.mode == *mode)
            else {
                continue;
            };
            if link.interface != name {
                remove(&self.pins.link(name))?;
                fs::rename(self.pins.link(&link.interface), self.pins.link(name))
                    .map_err(|error| OpenError::from_io(format!("rename the link to {name}"), &error))?;
            }
            if link.facts.program != self.program_id {
                sys::update_link(link.fd.as_fd(), self.program_fd()?)
                    .map_err(|error| OpenError::from_io(format!("replace the program on {name}"), &error))?;
            }
            return Ok(Some(mode));
        }
        Ok(None)
    }

    /// A program on an interface that no pinned link of ours to it runs.
    fn others_program(&self, name: &str, ifindex: u32, state: &XdpState) -> Option<u32> {
        let program = state.any_program()?;
        let ours = pinned_links(&self.pins).is_ok_and(|links| {
            links.iter().any(|link| {
                (link.interface == name || link.facts.ifindex == ifindex)
                    && state.mode_of(link.facts.program).is_some()
            })
        });
        (!ours).then_some(program)
    }

    /// Attaches and pins, after removing what is left of an earlier link of ours.
    fn link(&mut self, name: &str, target: &InterfaceTarget) -> Result<(), DataPlaneError> {
        let what = || format!("attach XDP to {name}");
        self.pins.detach(name).map_err(|error| failure(what(), error))?;
        let link = self.create_link(name, target).map_err(|error| attach_failure(what(), name, &error))?;
        sys::pin(link.as_fd(), &self.pins.link(name)).map_err(|error| failure(what(), error))
    }

    fn create_link(&self, name: &str, target: &InterfaceTarget) -> io::Result<OwnedFd> {
        let program = self.program_fd().map_err(io::Error::other)?;
        let create = |mode| sys::create_link(program, target.ifindex, mode);
        match target.mode {
            AttachMode::Native => create(LinkMode::Native),
            AttachMode::Generic => create(LinkMode::Generic),
            AttachMode::Auto => create(LinkMode::Native).or_else(|error| {
                if is_busy(&error) {
                    return Err(error);
                }
                let link = create(LinkMode::Generic)?;
                tracing::info!(interface = name, "native mode was refused ({error}): trying generic");
                Ok(link)
            }),
        }
    }

    pub(super) fn program_fd(&self) -> Result<BorrowedFd<'_>, OpenError> {
        match self.ebpf.program(PROGRAM) {
            Some(Program::Xdp(program)) => program
                .fd()
                .map(|fd| fd.as_fd())
                .map_err(|error| OpenError::from_aya("use the XDP program", &error)),
            _ => Err(OpenError::Kernel {
                what: "use the XDP program".to_owned(),
                why: format!("the object holds no program {PROGRAM}"),
            }),
        }
    }
}

/// Same mode occupied: EBUSY; other mode occupied: EEXIST.
fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
}

fn attach_failure(what: String, name: &str, error: &io::Error) -> DataPlaneError {
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => failure_with_hint(
            what,
            "another XDP program is already there",
            format!("detach it with the tool that put it there: `ip -d link show {name}` tells its number"),
        ),
        Some(libc::EOPNOTSUPP) => {
            failure_with_hint(what, "its driver has no XDP", "`--mode generic` works everywhere, but slower")
        }
        Some(libc::EINVAL | libc::ERANGE) => failure_with_hint(
            what,
            format!("its driver refused ({error})"),
            format!(
                "a large MTU or merged queues may be why (`ip link show {name}`); or use `--mode generic`"
            ),
        ),
        _ => failure(what, OpenError::from_io("the kernel refused", error)),
    }
}

fn occupied(what: String, name: &str, program: u32) -> DataPlaneError {
    let foreign = ForeignProgram::on(name, program);
    failure_with_hint(what, format!("{foreign} is already there and is not replaced"), foreign.way_out)
}
