use super::*;

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(short) if short < 126 => frame.push(0x80 | short as u8),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[1, 2, 3, 4]);
    frame.extend_from_slice(payload);
    frame
}

/// What passes of bytes that come in pieces of a size.
fn passed(sieve: &mut Sieve, bytes: &[u8], size: usize) -> Vec<u8> {
    bytes.chunks(size).flat_map(|piece| sieve.sift(piece).unwrap().to_vec()).collect()
}

#[test]
fn what_is_small_enough_passes_unchanged_and_the_rest_not_at_all_however_it_is_cut() {
    let small = [frame(0x81, b"hi"), frame(0x89, b""), frame(0x82, &[7; 1_000]), frame(0x01, b"a"), frame(0x80, b"b")];
    let large = [frame(0x81, &[7; 1_001]), frame(0x82, &[7; 16_000])];
    let all = [&small[..2], &large[..1], &small[2..3], &large[1..], &small[3..]].concat().concat();
    for size in [1, 2, 3, 7, 100, 1_000, all.len()] {
        let mut sieve = Sieve::new(Payload::None, 1_000);
        assert_eq!(passed(&mut sieve, &all, size), small.concat(), "pieces of {size}");
        assert_eq!(sieve.held_back().messages.get(), 2, "pieces of {size}");
    }
}

#[test]
fn a_part_of_a_message_that_is_too_large_is_the_end_and_so_is_what_is_out_of_proportion() {
    let mut sieve = Sieve::new(Payload::None, 1_000);
    assert!(sieve.sift(&frame(0x82, &[7; 17_000])).is_err());
    for first in [0x01, 0x02, 0x00, 0x80, 0x89] {
        let mut sieve = Sieve::new(Payload::None, 1_000);
        assert!(sieve.sift(&frame(first, &[7; 1_001])).is_err(), "{first:x}");
        assert!(sieve.held_back().is_final());
    }
}

#[test]
fn what_is_no_frame_passes_to_whoever_says_so() {
    for nonsense in
        [&b"\x81\x02hi and so on"[..], b"GET / HTTP/1.1\r\n\r\n", b"\xf1\xff\xff\xff\xff\xff\xff\xff\xff\xff"]
    {
        let mut sieve = Sieve::new(Payload::None, 10);
        assert_eq!(passed(&mut sieve, nonsense, 1), nonsense);
    }
}
