//! What one end does reaches the other: every byte, the end of a stream, a reset, a standstill.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use pen_ctl::dataplane::proxy::single::Single;

use crate::place::{backend, connect, eventually, patient, turns};

/// Bytes, chunk sizes and pauses that follow from a seed (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> usize {
        (self.next() % limit) as usize
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let length = chunk.len();
            chunk.copy_from_slice(&self.next().to_le_bytes()[..length]);
        }
    }
}

/// Writes the stream of a seed in chunks of random sizes, now and then after a pause, and then ends it.
fn write(mut stream: &TcpStream, seed: u64) {
    let (mut content, mut habit) = (Random::new(seed), Random::new(!seed));
    let length = [0, 1, 1000, 300_000, 6_000_000][habit.below(5)];
    let largest = [100, 3_000, 200_000][habit.below(3)].min(length as u64 / 20 + 1);
    let slow = habit.below(3) == 0;
    let mut rest = length;
    let mut bytes = vec![0; 8 * 25_001];
    while rest > 0 {
        let chunk = rest.min(1 + habit.below(largest));
        // In words of eight bytes, so that the content does not depend on the sizes of chunks.
        let chunk = if chunk == rest { chunk } else { chunk.next_multiple_of(8).min(rest) };
        content.fill(&mut bytes[..chunk]);
        stream.write_all(&bytes[..chunk]).unwrap();
        rest -= chunk;
        if slow && habit.below(400) == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Reads a stream to its end in chunks of random sizes and asserts that it is the one of this seed.
fn read(mut stream: &TcpStream, seed: u64) {
    let (mut content, mut habit) = (Random::new(seed), Random::new(!seed));
    let length = [0, 1, 1000, 300_000, 6_000_000][habit.below(5)];
    let mut expected = vec![0; length];
    content.fill(&mut expected);
    let mut habit = Random::new(seed ^ 0x5555);
    let slow = habit.below(3) == 0;
    let (mut bytes, mut at) = (vec![0; 150_000], 0);
    loop {
        let chunk = 1 + habit.below(150_000);
        let read = stream.read(&mut bytes[..chunk]).unwrap();
        if read == 0 {
            break;
        }
        assert!(
            at + read <= length && bytes[..read] == expected[at..at + read],
            "seed {seed}: wrong from {at} on"
        );
        at += read;
        if slow && habit.below(10) == 0 {
            thread::sleep(Duration::from_millis(3));
        }
    }
    assert_eq!(at, length, "seed {seed}: cut short");
}

/// Both streams of one end; each ends by itself, whichever is first.
fn talk(stream: TcpStream, own: u64, other: u64) {
    thread::scope(|scope| {
        scope.spawn(|| write(&stream, own));
        read(&stream, other);
    });
}

#[test]
fn every_byte_arrives_both_ways_whatever_the_sizes_the_pace_and_who_ends_first() {
    let address = backend(|mut stream| {
        let mut seed = [0; 8];
        stream.read_exact(&mut seed).unwrap();
        let seed = u64::from_le_bytes(seed);
        talk(stream, seed + 1, seed);
    });
    let proxy = Single::start(turns(&[address])).unwrap();
    thread::scope(|scope| {
        for first in (0..400).step_by(100) {
            let proxy = &proxy;
            scope.spawn(move || {
                for seed in (first + 2..first + 26).step_by(2) {
                    let mut client = connect(proxy);
                    client.write_all(&u64::to_le_bytes(seed)).unwrap();
                    talk(client, seed, seed + 1);
                }
            });
        }
    });
    eventually("all sessions have ended", || proxy.statistics().backends[0].open == 0);
}

#[test]
fn an_answer_that_comes_long_after_the_client_has_ended_its_side_arrives() {
    let (ended, client_has_ended) = mpsc::channel::<()>();
    let address = backend(move |mut stream| {
        let mut request = String::new();
        stream.read_to_string(&mut request).unwrap();
        ended.send(()).unwrap();
        thread::sleep(Duration::from_millis(100));
        stream.write_all(request.to_uppercase().as_bytes()).unwrap();
    });
    let proxy = Single::start(turns(&[address])).unwrap();
    let mut client = connect(&proxy);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    client_has_ended.recv_timeout(crate::place::PATIENCE).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "QUESTION");
}

#[test]
fn a_backend_that_ends_its_side_goes_on_hearing_its_client() {
    let (heard, hears) = mpsc::channel();
    let address = backend(move |mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        heard.send(text).unwrap();
    });
    let proxy = Single::start(turns(&[address])).unwrap();
    let mut client = connect(&proxy);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "bye");
    client.write_all(b"but I was").unwrap();
    client.write_all(b" not done").unwrap();
    drop(client);
    assert_eq!(hears.recv_timeout(crate::place::PATIENCE).unwrap(), "but I was not done");
}

/// Ends a connection with a reset.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_reset_by_the_client_reaches_the_backend_as_a_reset() {
    let (met, meets) = mpsc::channel();
    let address = backend(move |mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"x").unwrap();
        met.send(stream.read(&mut [0]).map_err(|error| error.kind())).unwrap();
        // It never closes its end: only the reset can end the session.
        std::mem::forget(stream);
    });
    let proxy = Single::start(turns(&[address])).unwrap();
    // Once in the middle of a stream, and once after its end.
    for ended in [false, true] {
        let mut client = connect(&proxy);
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut [0]).unwrap();
        if ended {
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(meets.recv_timeout(crate::place::PATIENCE).unwrap(), Ok(0));
        }
        reset(client);
        if !ended {
            assert_eq!(meets.recv_timeout(crate::place::PATIENCE).unwrap(), Err(ErrorKind::ConnectionReset));
        }
        eventually("nothing is left", || proxy.statistics().backends[0].open == 0);
    }
}

#[test]
fn a_reset_by_the_backend_reaches_the_client_as_a_reset_after_what_was_sent_before() {
    let address = backend(|mut stream| {
        stream.write_all(b"half an ans").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        reset(stream);
    });
    let proxy = Single::start(turns(&[address])).unwrap();
    let mut client = connect(&proxy);
    let mut answer = [0; 11];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"half an ans");
    client.write_all(b"x").unwrap();
    assert_eq!(
        client.read(&mut [0]).unwrap_err().kind(),
        ErrorKind::ConnectionReset,
        "not an end that looks whole"
    );
    eventually("nothing is left", || proxy.statistics().backends[0].open == 0);
}

#[test]
fn a_client_that_does_not_read_stops_its_backend_and_misses_nothing() {
    const LIMIT: usize = 64 << 20;
    let (stopped, stops) = mpsc::channel();
    let address = backend(move |mut stream| {
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let block = [7; 64 * 1024];
        let mut written = 0;
        while written < LIMIT {
            match stream.write(&block) {
                Ok(more) => written += more,
                Err(_) => break,
            }
        }
        stopped.send(written).unwrap();
        patient(stream).write_all(b"end").unwrap();
    });
    let proxy = Single::start(turns(&[address])).unwrap();
    let mut client = connect(&proxy);
    let written = stops.recv_timeout(crate::place::PATIENCE).unwrap();
    assert!(written < LIMIT, "it could write {written} bytes that nobody read");
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), written + 3);
    assert!(all.ends_with(b"end") && all[..written].iter().all(|byte| *byte == 7));
}

/// A read, and splice(2) even more so, stops short at the mark of urgent data (RFC 6093).
#[test]
fn bytes_around_urgent_data_arrive_however_many_they_are() {
    const BEFORE: usize = 8 << 20;
    const AFTER: usize = 640 << 10;
    let (told, hear) = mpsc::channel();
    let address = backend(move |mut stream| {
        let mut bytes = Vec::new();
        let ended = stream.read_to_end(&mut bytes).is_ok();
        told.send((bytes.len(), ended)).unwrap();
    });
    let proxy = Single::start(turns(&[address])).unwrap();
    let mut client = connect(&proxy);
    client.write_all(&vec![7; BEFORE]).unwrap();
    rustix::net::send(&client, b"!", rustix::net::SendFlags::OOB).unwrap();
    client.write_all(&vec![7; AFTER]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear.recv_timeout(crate::place::PATIENCE).unwrap(), (BEFORE + AFTER, true));

    let mut client = connect(&proxy);
    for _ in 0..50 {
        client.write_all(b"abc").unwrap();
        rustix::net::send(&client, b"!", rustix::net::SendFlags::OOB).unwrap();
        client.write_all(b"def").unwrap();
    }
    client.shutdown(Shutdown::Write).unwrap();
    let (received, ended) = hear.recv_timeout(crate::place::PATIENCE).unwrap();
    // An urgent byte that another one follows before it is read is an ordinary one (tcp(7)).
    assert!((300..=350).contains(&received) && ended, "{received}");
}
