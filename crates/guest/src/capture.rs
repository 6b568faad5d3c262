//! Keeps the head and the tail of a stream in bounded memory.

use thresher_guest::StreamReport;

/// The first and the last half of what was pushed, with a count of what lies between.
#[derive(Debug)]
pub(crate) struct Capture {
    head_cap: usize,
    tail_cap: usize,
    head: Vec<u8>,
    /// A ring once it is full: the oldest byte is at `oldest`.
    tail: Vec<u8>,
    oldest: usize,
    total: u64,
}

impl Capture {
    /// Keeps `cap` bytes at most; memory grows with what arrives.
    pub(crate) fn new(cap: usize) -> Self {
        let head_cap = cap.div_ceil(2);
        Self { head_cap, tail_cap: cap - head_cap, head: Vec::new(), tail: Vec::new(), oldest: 0, total: 0 }
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let to_head = bytes.len().min(self.head_cap - self.head.len());
        let (head, rest) = bytes.split_at(to_head);
        self.head.extend_from_slice(head);
        // Of a piece longer than the ring only its end can survive.
        self.push_tail(&rest[rest.len().saturating_sub(self.tail_cap)..]);
    }

    fn push_tail(&mut self, bytes: &[u8]) {
        let to_grow = bytes.len().min(self.tail_cap - self.tail.len());
        let (grow, mut rest) = bytes.split_at(to_grow);
        self.tail.extend_from_slice(grow);
        while !rest.is_empty() {
            let room = (self.tail_cap - self.oldest).min(rest.len());
            let (now, later) = rest.split_at(room);
            self.tail[self.oldest..self.oldest + room].copy_from_slice(now);
            self.oldest = (self.oldest + room) % self.tail_cap;
            rest = later;
        }
    }

    /// Returns the kept bytes in order, and what became of the rest.
    pub(crate) fn finish(mut self) -> (Vec<u8>, StreamReport) {
        let gap = self.head.len();
        self.tail.rotate_left(self.oldest);
        self.head.append(&mut self.tail);
        let kept = self.head.len() as u64;
        (self.head, StreamReport { kept, dropped: self.total - kept, gap: gap as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_tail_are_exact_for_every_cap_and_splitting() {
        let stream: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for cap in [0, 1, 2, 3, 7, 64, 333, 999, 1000, 1001, 4000] {
            for step in [1, 3, 50, 999, 1000] {
                for length in [0, 1, cap, (cap + 1).min(1000), 1000] {
                    let stream = &stream[..length.min(1000)];
                    let mut capture = Capture::new(cap);
                    for piece in stream.chunks(step) {
                        capture.push(piece);
                    }
                    let (kept, report) = capture.finish();
                    let expected = expected(stream, cap);
                    assert_eq!(kept, expected, "cap {cap}, step {step}, length {}", stream.len());
                    assert_eq!(report.kept + report.dropped, stream.len() as u64);
                    assert_eq!(report.dropped > 0, stream.len() > cap);
                    if report.dropped > 0 {
                        assert_eq!(report.gap, cap.div_ceil(2) as u64);
                    }
                }
            }
        }
    }

    fn expected(stream: &[u8], cap: usize) -> Vec<u8> {
        if stream.len() <= cap {
            return stream.to_vec();
        }
        let head = cap.div_ceil(2);
        [&stream[..head], &stream[stream.len() - (cap - head)..]].concat()
    }

    #[test]
    fn memory_is_bounded_by_the_cap() {
        let mut capture = Capture::new(4096);
        let piece = [b'y'; 65_536];
        for _ in 0..1000 {
            capture.push(&piece);
        }
        assert!(capture.head.capacity() + capture.tail.capacity() <= 3 * 4096);
        assert_eq!(capture.finish().1.dropped, 65_536_000 - 4096);
    }
}
