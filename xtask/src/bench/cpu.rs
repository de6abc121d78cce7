//! Processors: moves to one, and tells how long a process has had one.

use std::time::Duration;
use std::{fs, io};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::BenchError;

/// Moves the calling thread, and what it will start, to one processor.
pub(super) fn pin(cpu: usize) -> Result<(), BenchError> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).map_err(BenchError::of(&format!("pin to CPU {cpu}")))
}

/// Processor time that all threads of a process have had so far.
pub(super) fn time(pid: u32) -> io::Result<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    // One that has ended since it was listed had been idle.
    let of = |thread: io::Result<fs::DirEntry>| {
        Ok(on_cpu(&fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default()))
    };
    threads.map(of).sum()
}

/// Time on a processor, the first number of `/proc/PID/task/TID/schedstat`, nanoseconds: sched-stats.rst. The kernel
/// counts it as it does `utime` and `stime`, which it rounds to a hundredth of a second.
fn on_cpu(schedstat: &str) -> Duration {
    let nanoseconds = schedstat.split_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_of_a_thread_is_read() {
        assert_eq!(on_cpu("192410 170621 2\n"), Duration::from_nanos(192_410));
    }
}
