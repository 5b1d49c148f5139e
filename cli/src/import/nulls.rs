//! CSV in which a word such as `NA` stands for NULL, turned into CSV in which an empty field does: the only form
//! that the server knows.

use std::io::{self, Read};

use csv::{ByteRecord, Reader, ReaderBuilder, WriterBuilder};

/// Bytes that are translated at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// The translated text.
pub(crate) struct Nulls<R> {
    records: Reader<R>,
    null: Vec<u8>,
    is_header: bool,
    piece: Vec<u8>,
    read: usize,
}

impl<R: Read> Nulls<R> {
    /// Translates a source in which `null` stands for NULL.
    pub(crate) fn new(source: R, null: &str) -> Self {
        // Rows that do not fit the header are for the server to refuse, with their number.
        let mut form = ReaderBuilder::new();
        form.has_headers(false).flexible(true).buffer_capacity(PIECE_BYTES);
        Self {
            records: form.from_reader(source),
            null: null.as_bytes().to_vec(),
            is_header: true,
            piece: Vec::new(),
            read: 0,
        }
    }

    /// Translates the next piece; an empty one is the end.
    fn translate(&mut self) -> io::Result<()> {
        let mut writer = WriterBuilder::new().flexible(true).from_writer(std::mem::take(&mut self.piece));
        let mut record = ByteRecord::new();
        let end = self.records.position().byte() + PIECE_BYTES as u64;
        while self.records.position().byte() < end && self.records.read_byte_record(&mut record)? {
            let is_header = std::mem::take(&mut self.is_header);
            for field in &record {
                writer.write_field(if field == self.null && !is_header { &[] } else { field })?;
            }
            writer.write_record(None::<&[u8]>)?;
        }
        self.piece = writer.into_inner().map_err(|error| error.into_error())?;
        self.read = 0;
        Ok(())
    }
}

impl<R: Read> Read for Nulls<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.piece.len() {
            self.piece.clear();
            self.translate()?;
        }
        let length = (self.piece.len() - self.read).min(buffer.len());
        buffer[..length].copy_from_slice(&self.piece[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
