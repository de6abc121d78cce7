//! What a worker's connections borrow while they hold bytes: buffers, and pipes for splice(2).

use super::splice::Pipes;

/// Bytes read at once, and so held at most in each direction of a connection.
pub(crate) const READ: usize = 64 * 1024;
/// Buffers and pipes that are kept for the next one who needs them.
pub(crate) const KEPT: usize = 64;

/// What belongs to one worker.
#[derive(Debug)]
pub(crate) struct Kit {
    /// Where bytes are read into; what can be written at once never leaves it.
    pub(crate) scratch: Box<[u8]>,
    spare: Vec<Vec<u8>>,
    /// Pipes, where there is splice(2).
    pub(crate) pipes: Pipes,
}

impl Default for Kit {
    fn default() -> Kit {
        Kit { scratch: vec![0; READ].into(), spare: Vec::new(), pipes: Pipes::default() }
    }
}

/// Bytes that wait to be written.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    written: usize,
}

impl Buffer {
    /// These bytes, of which nothing is written.
    pub(crate) fn of(bytes: Vec<u8>) -> Buffer {
        Buffer { bytes, written: 0 }
    }

    /// What is left to write.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// So many were written.
    pub(crate) fn advance(&mut self, written: usize) {
        self.written += written;
    }
}

impl Kit {
    /// Keeps a part of what was read.
    pub(crate) fn hold(&mut self, from: usize, to: usize) -> Buffer {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(&self.scratch[from..to]);
        Buffer { bytes, written: 0 }
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&mut self, buffer: Buffer) {
        if self.spare.len() < KEPT {
            self.spare.push(buffer.bytes);
        }
    }
}
