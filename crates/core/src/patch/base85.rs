//! The base 85 of git's binary patches: five printable characters for four bytes, 52 bytes per line.

const ALPHABET: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// Bytes per line: the length letter has 52 values.
pub(crate) const LINE: usize = 52;

/// Appends `data` as lines, each with its length letter and newline.
pub(crate) fn encode(data: &[u8], out: &mut Vec<u8>) {
    for line in data.chunks(LINE) {
        out.push(length_letter(line.len()));
        line.chunks(4).for_each(|group| push_group(out, group));
        out.push(b'\n');
    }
}

fn length_letter(length: usize) -> u8 {
    let length = length as u8;
    if length <= 26 { b'A' + length - 1 } else { b'a' + length - 27 }
}

fn push_group(out: &mut Vec<u8>, group: &[u8]) {
    let mut padded = [0; 4];
    padded[..group.len()].copy_from_slice(group);
    let mut value = u32::from_be_bytes(padded);
    let mut letters = [0; 5];
    for letter in letters.iter_mut().rev() {
        *letter = ALPHABET[(value % 85) as usize];
        value /= 85;
    }
    out.extend_from_slice(&letters);
}

/// Appends the bytes of one line (without its newline) to `out`; `None` if the line is malformed.
pub(crate) fn decode_line(line: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (&letter, text) = line.split_first()?;
    let length = match letter {
        b'A'..=b'Z' => letter - b'A' + 1,
        b'a'..=b'z' => letter - b'a' + 27,
        _ => return None,
    } as usize;
    if text.len() != length.div_ceil(4) * 5 {
        return None;
    }
    let start = out.len();
    for group in text.chunks(5) {
        out.extend_from_slice(&group_value(group)?.to_be_bytes());
    }
    out.truncate(start + length);
    Some(())
}

fn group_value(group: &[u8]) -> Option<u32> {
    group.iter().try_fold(0u32, |value, letter| {
        let digit = ALPHABET.iter().position(|known| known == letter)?;
        value.checked_mul(85)?.checked_add(digit as u32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back() {
        let data: Vec<u8> = (0..=255).cycle().take(300).map(|byte: u8| byte.wrapping_mul(37)).collect();
        for length in 0..data.len() {
            let mut text = Vec::new();
            encode(&data[..length], &mut text);
            let mut back = Vec::new();
            for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                decode_line(line, &mut back).unwrap();
            }
            assert_eq!(back, data[..length]);
        }
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in ["", "A", "A0000", "A000000", "A0000 ", "A~~~~~", "900000", "E00000"] {
            assert_eq!(decode_line(line.as_bytes(), &mut Vec::new()), None, "{line}");
        }
    }
}
