//! What the kernel may refuse in the midst of work that it usually does: each step of it, with the advice that all share.

use super::super::{Row, copied, row};
use crate::dataplane::xdp::OpenError;

const REFUSED: &str = "Operation not permitted (os error 1)";
const LOOK: &str = "`pen-ctl doctor` looks for what is missing";

/// What is done, and what in it says on what.
const STEPS: &[(&str, &str)] = &[
    ("look at /sys/fs/bpf/pen/maps/directory", "/sys/fs/bpf/pen/maps/directory"),
    ("look into /sys/fs/bpf/pen/links", "/sys/fs/bpf/pen/links"),
    ("create /sys/fs/bpf/pen/links", "/sys/fs/bpf/pen/links"),
    ("open /sys/fs/bpf/pen/links/eth0", "/sys/fs/bpf/pen/links/eth0"),
    ("read /sys/fs/bpf/pen/links", "/sys/fs/bpf/pen/links"),
    ("remove /sys/fs/bpf/pen/links/eth0", "/sys/fs/bpf/pen/links/eth0"),
    ("lock /sys/fs/bpf/pen", "/sys/fs/bpf/pen"),
    ("detach XDP from eth0", "eth0"),
    ("rename the link to eth0", "eth0"),
    ("replace the program on eth0", "eth0"),
    ("list the interfaces", "the interfaces"),
    ("look at the interfaces' XDP programs", "the interfaces' XDP programs"),
    ("look at the attached interfaces", "the attached interfaces"),
    ("use the XDP program", "the XDP program"),
    ("load the XDP program", "the XDP program"),
    ("pin the XDP program", "the XDP program"),
    ("create the maps", "the maps"),
    ("create the maps of maps", "the maps of maps"),
    ("open map directory", "map directory"),
    ("map directory into memory", "directory"),
    ("open backend_macs", "backend_macs"),
    ("open slots", "slots"),
    ("open access lists and limits", "access lists and limits"),
    ("open access lists and limits: look at service 7", "service 7"),
    ("read how many newcomers were not remembered", "newcomers"),
    ("read who was refused", "who was refused"),
    ("set the limit of newcomers", "the limit of newcomers"),
    ("open the tracking tables", "the tracking tables"),
    ("read the tracking tables", "the tracking tables"),
    ("count the tracking tables", "the tracking tables"),
    ("read the counters", "the counters"),
    ("read the directory", "the directory"),
    ("look at services and backends", "services and backends"),
    ("look at the slots of 10.0.0.100:80/tcp", "10.0.0.100:80/tcp"),
    ("pin the instance record", "the instance record"),
    ("write the instance record", "the instance record"),
    ("put the pins back", "the pins"),
    ("pin map directory again", "map directory"),
    ("pin the slot tables of service 7 again", "service 7"),
    ("give back backend indexes", "backend indexes"),
    ("move on the slots that change owner", "the slots that change owner"),
    ("move on the slots that change owner: ask the kernel for its clock", "the slots that change owner"),
    ("end the windows of slots that changed owner", "the windows of slots"),
    ("give back the backends of service 7", "service 7"),
    ("ask for the resolution of the coarse clock", "the coarse clock"),
    ("load what tells the kernel's clock", "the kernel's clock"),
    ("set service 10.0.0.100:80/tcp", "10.0.0.100:80/tcp"),
    ("set service 10.0.0.100:80/tcp: put its access list in place", "10.0.0.100:80/tcp"),
    ("set service 10.0.0.100:80/tcp: put what counts for its limits in place", "10.0.0.100:80/tcp"),
    ("set service 10.0.0.100:80/tcp: take its old access list and limits away", "10.0.0.100:80/tcp"),
    ("remove service 10.0.0.100:80/tcp: take the last access list and limits away", "10.0.0.100:80/tcp"),
    ("set backend 10.0.0.11 of 10.0.0.100:80/tcp", "10.0.0.11 of 10.0.0.100:80/tcp"),
    ("remove service 10.0.0.100:80/tcp: wait for a grace period", "service 10.0.0.100:80/tcp"),
    ("remove service 10.0.0.100:80/tcp: hand the slot tables to the kernel", "service 10.0.0.100:80/tcp"),
];

/// What is not as pen left it, or not as any kernel has it.
const ODDITIES: &[(&str, &str, &str)] = &[
    ("set backend 10.0.0.11 of 10.0.0.100:80/tcp: ", "there is no such service", "10.0.0.11"),
    ("set backend 10.0.0.11 of 10.0.0.100:80/tcp: ", "all backend indexes are taken", "10.0.0.11"),
    ("remove backend 10.0.0.11 of 10.0.0.100:80/tcp: ", "the table in use names it", "10.0.0.11"),
    ("share the slots of 10.0.0.100:80/tcp: ", "it has no backend 10.0.0.11", "10.0.0.100:80/tcp"),
    ("share the slots of 10.0.0.100:80/tcp: ", "its slot tables are missing", "10.0.0.100:80/tcp"),
    (
        "look at services and backends: ",
        "the directory is shorter than it should be",
        "services and backends",
    ),
    ("read the directory: ", "it is shorter than it should be", "the directory"),
    ("use the XDP program: ", "the object holds no program pen", "the XDP program"),
    ("open pen: ", "the object holds no such program", "open pen"),
    ("map directory into memory: ", "mmap gave address 0", "directory"),
    ("look at /sys/fs/bpf/pen/links/eth0: ", "not an XDP link", "/sys/fs/bpf/pen/links/eth0"),
    ("ask for the resolution of the coarse clock: ", "a clock tick of 2.000000000 s", "the coarse clock"),
];

pub(super) fn rows() -> Vec<Row> {
    let steps = STEPS.iter().map(|(what, on)| {
        let error = OpenError::Kernel { what: (*what).to_owned(), why: REFUSED.to_owned() };
        row(error, REFUSED, *on, LOOK)
    });
    let oddities =
        ODDITIES.iter().map(|(start, what, on)| copied(&format!("{start}{what}; {LOOK}"), what, on, LOOK));
    steps.chain(oddities).collect()
}
