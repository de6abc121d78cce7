//! When memory stops for newcomers, and when it goes on.
#![allow(clippy::unwrap_used, reason = "a test fails where what it needs is not there")]

use super::*;
use crate::host::{HostTables, Lines};

const MOST: u32 = 100;
/// Where a CPU alone decides.
const ALONE: Limits = Limits { per_cpu: MOST, in_all: u32::MAX };

fn world() -> HostTables {
    HostTables { inserts: Some(Lines::default()), ..HostTables::default() }
}

/// How many of so many newcomers in a second would be remembered.
fn remembered(tables: &HostTables, second: u32, newcomers: u32) -> u32 {
    (0..newcomers).filter(|_| !suppresses(tables, ALONE, second)).count() as u32
}

fn word(tables: &HostTables, word: u32) -> u64 {
    tables.own_inserts().unwrap().word(word)
}

#[test]
fn as_many_as_may_come_are_remembered_each_second() {
    let tables = world();
    for second in 1000..1060 {
        assert_eq!(remembered(&tables, second, MOST), MOST);
    }
    assert_eq!((word(&tables, inserts::LAST), word(&tables, inserts::SUPPRESSED)), (0, 0));
}

#[test]
fn from_the_newcomer_after_that_on_nobody_is() {
    let tables = world();
    assert_eq!(remembered(&tables, 1000, MOST), MOST);
    assert_eq!(remembered(&tables, 1000, 10 * MOST), 0);
    assert_eq!(
        (word(&tables, inserts::LAST), word(&tables, inserts::SUPPRESSED)),
        (1000, 10 * u64::from(MOST))
    );
}

#[test]
fn a_steady_flood_inserts_nothing_after_its_first_second() {
    let tables = world();
    let all: u32 = (1000..1100).map(|second| remembered(&tables, second, MOST + 1)).sum();
    assert_eq!(all, MOST);
    assert_eq!(word(&tables, inserts::LAST), 1099);
}

#[test]
fn a_flood_is_over_after_some_quiet_seconds_and_not_before() {
    let tables = world();
    remembered(&tables, 1000, 2 * MOST);
    for second in 1001..1000 + CALM {
        assert_eq!(remembered(&tables, second, 1), 0, "{} seconds later", second - 1000);
    }
    assert_eq!(remembered(&tables, 1000 + CALM, MOST), MOST);
    assert_eq!(word(&tables, inserts::LAST), u64::from(1000 + CALM - 1));
}

#[test]
fn shorter_pauses_gain_nothing() {
    let tables = world();
    remembered(&tables, 1000, 2 * MOST);
    for wave in 1..20 {
        assert_eq!(remembered(&tables, 1000 + wave * (CALM - 1), 2 * MOST), 0, "wave {wave}");
    }
}

#[test]
fn the_clock_may_wrap_in_a_flood() {
    let tables = world();
    let start = u32::MAX - 3;
    remembered(&tables, start, 2 * MOST);
    for later in 1..CALM {
        assert_eq!(remembered(&tables, start.wrapping_add(later), 1), 0, "{later} seconds later");
    }
    assert_eq!(remembered(&tables, start.wrapping_add(CALM), 1), 1);
}

#[test]
fn where_nobody_counts_all_are_remembered() {
    assert_eq!(remembered(&HostTables::default(), 1000, 9 * MOST), 9 * MOST);
}

/// CPUs that have a line each, and one together.
struct Cpus {
    tables: HostTables,
    own: Vec<[u64; 4]>,
}

impl Cpus {
    fn new(count: usize) -> Self {
        Self { tables: world(), own: vec![[0; 4]; count] }
    }

    /// How many of so many newcomers to each CPU in a second would be remembered.
    fn remembered(&mut self, limits: Limits, second: u32, newcomers: u32) -> u32 {
        let mut remembered = 0;
        for _ in 0..newcomers {
            for cpu in 0..self.own.len() {
                remembered += self.remembered_by(cpu, limits, second, 1);
            }
        }
        remembered
    }

    /// How many of so many newcomers to one CPU in a second would be.
    fn remembered_by(&mut self, cpu: usize, limits: Limits, second: u32, newcomers: u32) -> u32 {
        let (line, words) = (self.tables.own_inserts().unwrap(), &mut self.own[cpu]);
        (0..).zip(words.iter()).for_each(|(index, word)| line.set_word(index, *word));
        let remembered = (0..newcomers).filter(|_| !suppresses(&self.tables, limits, second)).count();
        (0..).zip(words).for_each(|(index, word)| *word = line.word(index));
        remembered as u32
    }
}

#[test]
fn what_is_too_much_for_all_cpus_together_is_a_flood_on_each() {
    const CPUS: u32 = 8;
    let limits = Limits { per_cpu: 1000, in_all: 2000 };
    let mut cpus = Cpus::new(CPUS as usize);
    for second in 1000..1020 {
        assert_eq!(cpus.remembered(limits, second, 200), 200 * CPUS, "few enough for all");
    }
    // Few enough for each, but not for all. Each CPU looks now and then, so some more are remembered before all know.
    let first = cpus.remembered(limits, 1020, 500);
    assert!((2000 - LOOK_EVERY * CPUS..=2000 + LOOK_EVERY * CPUS).contains(&first), "{first}");
    for second in 1021..1060 {
        assert_eq!(cpus.remembered(limits, second, 500), 0, "second {second}");
    }
    let quiet = 1060 + CALM - 1;
    assert_eq!(cpus.remembered(limits, quiet, 200), 200 * CPUS, "over for all");
}

/// One that has few newcomers looks with its first one in a second.
#[test]
fn one_busy_cpu_is_its_own_affair_below_the_limit_of_all() {
    let limits = Limits { per_cpu: MOST, in_all: 10 * MOST };
    let mut cpus = Cpus::new(1);
    assert_eq!(cpus.remembered(limits, 1000, 2 * MOST), MOST);
    cpus.own.push([0; 4]);
    assert_eq!(cpus.remembered(limits, 1001, 10), 10, "the other one remembers");
}

/// Beyond its own limit a CPU counts who comes again, too: few who send much must not stop memory everywhere.
#[test]
fn what_one_cpu_has_beyond_its_own_limit_is_no_flood_on_others() {
    let limits = Limits { per_cpu: MOST, in_all: 10 * MOST };
    let mut cpus = Cpus::new(2);
    for second in 1000..1060 {
        cpus.remembered_by(0, limits, second, 50 * MOST);
        assert_eq!(cpus.remembered_by(1, limits, second, 10), 10, "second {second}");
    }
}
