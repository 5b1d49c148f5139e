//! What a statement shows: short things on the screen, long ones through a pager.

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};

/// Lines, and bytes of a line, beyond which output goes through the pager. It shows at once what fits the screen.
const LINES_MAX: usize = 20;
const LINE_BYTES_MAX: usize = 200;

/// Where the output of statements goes.
pub(crate) struct Screen {
    pager: String,
    held: Vec<u8>,
    child: Option<Child>,
}

impl Screen {
    /// A screen with the command of a pager; empty for none.
    pub(crate) fn new(pager: &str) -> Self {
        Self { pager: pager.trim().to_owned(), held: Vec::new(), child: None }
    }

    /// Shows some output, or holds it back until it is clear whether it is long.
    fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(input) = self.child.as_mut().and_then(|child| child.stdin.as_mut()) {
            return input.write_all(bytes);
        }
        if self.pager.is_empty() {
            return io::stdout().lock().write_all(bytes);
        }
        self.held.extend_from_slice(bytes);
        if is_long(&self.held) { self.start() } else { Ok(()) }
    }

    fn start(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        match Command::new("sh").args(["-c", &self.pager]).stdin(Stdio::piped()).spawn() {
            Ok(child) => self.child = Some(child),
            // A result is worth more than its paging.
            Err(_) => self.pager.clear(),
        }
        self.show(&held)
    }

    /// Shows what was held back, or waits until the reader has left the pager. What follows starts anew.
    fn finish(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            return child.wait().map(drop);
        }
        let mut out = io::stdout().lock();
        out.write_all(&std::mem::take(&mut self.held))?;
        out.flush()
    }
}

/// A statement flushes at its end, so that each is shown, and has its pager, before the next is run.
impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.show(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.finish()
    }
}

fn is_long(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n');
    lines.clone().count() > LINES_MAX || lines.any(|line| line.len() > LINE_BYTES_MAX)
}

#[cfg(test)]
mod tests;
