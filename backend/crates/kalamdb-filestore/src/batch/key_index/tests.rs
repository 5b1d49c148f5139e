use proptest::prelude::*;

use super::*;

fn found(entries: &[u8], directory: Directory<'_>, key: &[u8]) -> Vec<u32> {
    let (hash, bucket) = (hash(key), directory.bucket(hash(key)));
    let range = directory.range(bucket);
    let bytes = &entries[range.start as usize..range.end as usize];
    assert!(directory.is_sound(bucket, bytes));
    positions(bytes, hash).collect()
}

proptest! {
    #[test]
    fn every_key_is_found_at_its_positions(keys in prop::collection::vec(any::<u16>(), 0..3000)) {
        let mut builder = KeyIndexBuilder::default();
        for (position, key) in keys.iter().enumerate() {
            builder.add(&key.to_le_bytes(), position as u32);
        }
        prop_assert_eq!(builder.len(), keys.len());
        let (entries, directory) = builder.finish();
        prop_assert_eq!(directory.len(), directory_bytes(keys.len()));
        let directory = Directory::new(&directory, keys.len()).unwrap();
        for (position, key) in keys.iter().enumerate().step_by(17) {
            prop_assert!(found(&entries, directory, &key.to_le_bytes()).contains(&(position as u32)));
        }
        let strangers = (0..2000u32).filter(|n| !found(&entries, directory, &n.to_be_bytes()).is_empty()).count();
        prop_assert!(strangers <= 2);
    }

    #[test]
    fn bytes_from_anywhere_are_no_directory_or_a_safe_one(bytes in prop::collection::vec(any::<u8>(), 0..64), n in 0usize..2000) {
        if let Some(directory) = Directory::new(&bytes, n) {
            for key in 0..50u8 {
                let range = directory.range(directory.bucket(hash(&[key])));
                prop_assert!(range.start <= range.end && range.end as usize <= n * ENTRY_BYTES);
            }
        }
    }
}

#[test]
fn a_changed_bucket_is_noticed() {
    let mut builder = KeyIndexBuilder::default();
    (0..1000u32).for_each(|n| builder.add(&n.to_le_bytes(), n));
    let (mut entries, directory) = builder.finish();
    let directory = Directory::new(&directory, 1000).unwrap();
    let range = directory.range(1);
    entries[range.start as usize] ^= 1;
    assert!(!directory.is_sound(1, &entries[range.start as usize..range.end as usize]));
    assert!(directory.is_sound(0, &entries[..range.start as usize]));
}
