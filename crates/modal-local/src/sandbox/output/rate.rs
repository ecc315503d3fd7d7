//! How much of an output gets into the log: a burst, then so much a second, and always the newest.

use tokio::time::Instant;

use super::lines::Lines;

/// Bytes that pass at once.
const BURST: f64 = 8_388_608.0;
/// Bytes that pass each second in the long run.
const PER_SECOND: f64 = 262_144.0;
/// Of what does not pass, so much of the end is kept, to be logged when there is room again.
const TAIL: usize = 64 << 10;

/// Lets bytes pass or keeps them back.
pub(super) struct Rate {
    room: f64,
    filled_at: Instant,
    /// Bytes that are gone since the last that passed.
    lost: u64,
    tail: Vec<u8>,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { room: BURST, filled_at: now, lost: 0, tail: Vec::new() }
    }

    /// Whether something is kept back.
    pub(super) fn is_behind(&self) -> bool {
        self.lost > 0 || !self.tail.is_empty()
    }

    /// Bytes that nobody can read any more.
    pub(super) fn lose(&mut self, bytes: u64) {
        if bytes > 0 {
            self.lost += bytes + self.tail.len() as u64;
            self.tail.clear();
        }
    }

    /// Passes the data on, or keeps its end back.
    pub(super) fn pass(&mut self, data: &[u8], now: Instant, lines: &mut Lines) {
        self.fill(now);
        // Once behind, only a good piece of output at a time: single lines between gaps help nobody.
        let needed =
            (data.len() + self.tail.len()) as f64 * if self.tail.is_empty() { 1.0 } else { 4.0 };
        if needed <= self.room {
            self.finish(lines);
            lines.push(data);
            self.room -= data.len() as f64;
            return;
        }
        self.tail.extend_from_slice(data);
        if self.tail.len() > 2 * TAIL {
            let gone = self.tail.len() - TAIL;
            self.tail.drain(..gone);
            self.lost += gone as u64;
        }
    }

    /// Passes on what was kept back, if there is room: the program prints nothing now.
    pub(super) fn catch_up(&mut self, now: Instant, lines: &mut Lines) {
        self.fill(now);
        if self.tail.len() as f64 <= self.room {
            self.finish(lines);
        }
    }

    /// Passes on what was kept back, after a line that says how much is missing before it.
    pub(super) fn finish(&mut self, lines: &mut Lines) {
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            lines.push(format!("\n[{lost} bytes of output are not in the log]\n").as_bytes());
        }
        self.room -= self.tail.len() as f64;
        lines.push(&std::mem::take(&mut self.tail));
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.filled_at).as_secs_f64();
        self.room = (self.room + elapsed * PER_SECOND).min(BURST);
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_cut_and_its_end_is_there() {
        let now = Instant::now();
        let (mut rate, mut lines) = (Rate::new(now), Lines::default());
        let chunk = vec![b'x'; 64 << 10];
        for _ in 0..1_000 {
            rate.pass(&chunk, now, &mut lines);
        }
        rate.pass(b"the end\n", now, &mut lines);
        rate.finish(&mut lines);
        let text = lines.take_rest().concat();
        let total = 1_000 * chunk.len() + 8;
        let passed = text.bytes().filter(|byte| *byte == b'x').count() + 8;
        assert!(text.len() < 9 << 20, "{}", text.len());
        assert!(text.contains(&format!("[{} bytes of output are not in the log]", total - passed)));
        assert!(text.ends_with("the end\n"));
    }

    #[test]
    fn a_slow_output_is_whole() {
        let mut now = Instant::now();
        let (mut rate, mut lines) = (Rate::new(now), Lines::default());
        let chunk = [b'x'; 100_000];
        for _ in 0..200 {
            rate.pass(&chunk, now, &mut lines);
            now += Duration::from_secs(1);
        }
        assert_eq!(lines.take_rest().concat().len(), 200 * chunk.len());
    }

    #[test]
    fn what_was_kept_back_comes_once_there_is_room() {
        let now = Instant::now();
        let (mut rate, mut lines) = (Rate::new(now), Lines::default());
        rate.pass(&vec![b'x'; BURST as usize], now, &mut lines);
        rate.pass(b"late\n", now, &mut lines);
        lines.take_rest();
        rate.catch_up(now, &mut lines);
        assert!(lines.is_empty() && rate.is_behind());
        rate.catch_up(now + Duration::from_secs(1), &mut lines);
        assert_eq!(lines.take_rest(), ["late\n"]);
        assert!(!rate.is_behind());
    }
}
