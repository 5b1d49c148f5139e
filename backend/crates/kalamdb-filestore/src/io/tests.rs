use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn every_wanted_range_is_cut_out_of_the_joined_ones(
        spans in prop::collection::vec((0u64..900, 0u64..60), 0..20),
        gap in 0u64..100,
    ) {
        let file: Vec<u8> = (0..1000u32).map(|i| (i % 251) as u8).collect();
        let wanted: Vec<_> = spans.iter().map(|(start, length)| *start..*start + *length).collect();
        let joined = join(&wanted, gap);
        for pair in joined.windows(2) {
            prop_assert!(pair[0].end + gap < pair[1].start);
        }
        let answers: Vec<_> =
            joined.iter().map(|r| Bytes::copy_from_slice(&file[r.start as usize..r.end as usize])).collect();
        let got = cut(&wanted, &joined, &answers).unwrap();
        for (range, bytes) in wanted.iter().zip(&got) {
            prop_assert_eq!(&bytes[..], &file[range.start as usize..range.end as usize]);
        }
    }
}
