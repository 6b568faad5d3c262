//! Server-sent events: from pieces of bytes, cut anywhere, to the data of whole events.

/// Takes bytes in and hands whole events out.
#[derive(Default)]
pub(super) struct EventReader {
    /// The line that is not ended yet. Kept as bytes: a piece may end inside a character.
    line: Vec<u8>,
    data: Option<String>,
}

impl EventReader {
    /// Takes the next piece, and returns the data of the events that it completes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            events.extend(self.end_line());
        }
        self.line.extend_from_slice(rest);
        events
    }

    /// Ends the stream, and returns the event whose lines were whole but which no empty line followed: some
    /// servers leave the last one out.
    pub(super) fn finish(mut self) -> Option<String> {
        self.data.take()
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
        if line.is_empty() {
            return self.data.take();
        }
        // Comments (keep-alives), `event`, `id` and `retry` carry nothing that is needed.
        let value = line.strip_prefix("data:")?;
        let value = value.strip_prefix(' ').unwrap_or(value);
        match &mut self.data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            None => self.data = Some(value.to_owned()),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, piece: usize) -> (Vec<String>, Option<String>) {
        let mut reader = EventReader::default();
        let events = text.as_bytes().chunks(piece).flat_map(|bytes| reader.push(bytes)).collect();
        (events, reader.finish())
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let table: [(&str, &[&str], Option<&str>); 7] = [
            ("data: a\n\ndata: [DONE]\n\n", &["a", "[DONE]"], None),
            ("data: a\r\n\r\n", &["a"], None),
            (": keep-alive\n\nevent: x\nid: 1\ndata:a\n\n", &["a"], None),
            ("data: a\ndata: b\n\n", &["a\nb"], None),
            ("data: grün ✓\n\n", &["grün ✓"], None),
            ("data: a\n\ndata: [DONE]\n", &["a"], Some("[DONE]")),
            ("data: a\n\ndata: {\"torn", &["a"], None),
        ];
        for (text, events, last) in table {
            for piece in [1, 2, 3, 7, 1000] {
                let expected = (events.iter().map(ToString::to_string).collect(), last.map(str::to_owned));
                assert_eq!(read(text, piece), expected, "{text:?} in pieces of {piece}");
            }
        }
    }
}
